//! The command line.

use std::{io, num::NonZeroU32, path::PathBuf, process::ExitCode};

use anyhow::Context;
use chrono::{SecondsFormat, Utc};
use clap::{Args, Parser, Subcommand};
use indicatif::HumanCount;
use reqwest::Url;
use thiserror::Error;

use crate::{
    apply::{self, Options},
    client::{Client, NotAuthorized},
    exit::Exit,
    plan::{self, Header},
    report::{self, Format},
    signing, status,
};

const EXAMPLES: &str = "\
Examples:
  bill-run plan --api https://a1b2c3.execute-api.sa-east-1.amazonaws.com/prod
  bill-run apply bill-run-2026-11.plan
  bill-run status bill-run-2026-11.plan
  bill-run report bill-run-2026-11.plan --format csv --only refused,unknown

Exit status:
  0  complete: each planned subscription is charged
  1  an error, or the month is over
  2  wrong usage
  3  complete, but some were refused
  4  complete, but the outcomes of some are unknown; apply again
  5  interrupted; apply again
  6  not authorized";

/// Charges a month: reads who is eligible, charges each of them once, and says what happened.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Plan(PlanArguments),
    Apply(ApplyArguments),
    /// Says how a plan stands, also while it is applied
    Status {
        plan: PathBuf,
    },
    Report(ReportArguments),
}

/// Reads who is eligible and writes a plan; charges nobody
#[derive(Args)]
#[command(after_help = "Example:\n  bill-run plan --api http://localhost:9000 --output november.plan")]
struct PlanArguments {
    /// Where the API is
    #[arg(long, value_name = "URL")]
    api: Url,
    /// The plan [default: bill-run-<month>.plan]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Plan only the first N subscriptions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Sign requests with the AWS credentials, as is done for API Gateway's own URLs
    #[arg(long)]
    sign: bool,
}

/// Charges what is left of a plan, then proves that nothing was left out
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bill-run apply november.plan\n  bill-run apply november.plan --yes --rate 50 --max-failures 20"
)]
struct ApplyArguments {
    plan: PathBuf,
    /// Requests at the same time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// The most requests per second
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<NonZeroU32>,
    /// Failures in a row after which it asks whether to go on; without a terminal it stops
    #[arg(long, value_name = "N", default_value = "100")]
    max_failures: NonZeroU32,
    /// Do not ask before it begins
    #[arg(long)]
    yes: bool,
}

/// Says what happened to each subscription of a plan
#[derive(Args)]
#[command(after_help = "Example:\n  bill-run report november.plan --format csv --only order_rejected,unknown")]
struct ReportArguments {
    #[arg(required_unless_present = "execution")]
    plan: Option<PathBuf>,
    /// Of the state machine that charges the month on AWS, in place of a plan
    #[arg(long, value_name = "ARN", conflicts_with = "plan")]
    execution: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Only those with one of these codes or outcomes
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub &'static str);

/// Runs the command, and says why if it fails.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    run(command).unwrap_or_else(|error| failed(&error)).into()
}

fn failed(error: &anyhow::Error) -> Exit {
    let pipe = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if pipe.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // The reader closed the pipe: it wants no more.
        return Exit::Complete;
    }
    eprintln!("bill-run: {error:#}");
    if error.is::<UsageError>() {
        Exit::Usage
    } else if error.chain().any(|cause| cause.is::<NotAuthorized>()) {
        Exit::NotAuthorized
    } else {
        Exit::Error
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    // The TLS library asks for it; a second one would be an error of ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match command {
        Command::Plan(arguments) => runtime.block_on(plan(arguments)),
        Command::Apply(ApplyArguments { plan, concurrency, rate, max_failures, yes }) => {
            let options = Options { concurrency: concurrency.into(), rate, max_failures: max_failures.get(), yes };
            runtime.block_on(apply::apply(&plan, &options))
        }
        Command::Status { plan } => status::status(&plan).map(|()| Exit::Complete),
        Command::Report(ReportArguments { plan, execution, format, only }) => match (plan, execution) {
            (Some(plan), _) => report::report(&plan, format, &only),
            (None, execution) => {
                runtime.block_on(report::report_execution(&execution.unwrap_or_default(), format, &only))
            }
        }
        .map(|()| Exit::Complete),
    };
    // A question to the terminal may have no answer yet.
    runtime.shutdown_background();
    result
}

async fn plan(PlanArguments { api, output, limit, sign }: PlanArguments) -> anyhow::Result<Exit> {
    let signed = sign || signing::is_api_gateway(&api);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let client = Client::new(&api, signed).await?;
    let read_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let eligible = client.eligible(limit, |count| eprintln!("{} read", HumanCount(count as u64))).await?;
    let path = output.unwrap_or_else(|| format!("bill-run-{}.plan", eligible.month).into());
    let limited_to = limit.filter(|_| eligible.is_cut);
    let header = Header::new(api.into(), signed, eligible.month, read_at, limited_to);
    plan::write(&path, &header, &eligible.ids)
        .with_context(|| format!("{} cannot be written; --output names another file", path.display()))?;
    eprintln!(
        "{} subscriptions are planned for {} at {}. Nobody was charged. Go on with: bill-run apply {}",
        HumanCount(eligible.ids.len() as u64),
        header.month,
        header.api,
        path.display()
    );
    println!("{}", path.display());
    Ok(Exit::Complete)
}
