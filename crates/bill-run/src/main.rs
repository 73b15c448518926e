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
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() { function::main() } else { cli::main() }
}
