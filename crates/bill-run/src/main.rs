//! Charges a month by one command. docs/bill-run.md shows how.

mod apply;
mod cli;
mod client;
mod execution;
mod exit;
mod journal;
mod plan;
mod progress;
mod report;
mod rules;
mod signing;
mod status;
mod summary;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
