//! Charges a month: one engine, and two drivers of it. docs/bill-run.md shows how.

mod cli;
mod client;
mod engine;
mod function;
mod month;
mod report;
mod rules;
mod signing;
mod terminal;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    // The TLS library asks for it; a second one would be an error of ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let is_function = env::var_os("AWS_LAMBDA_RUNTIME_API").is_some();
    let result = if is_function { function::serve().map(|()| cli::Exit::Complete) } else { cli::run() };
    result.unwrap_or_else(|error| cli::failed(&error)).into()
}
