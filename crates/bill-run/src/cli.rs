//! The command.

use std::{
    collections::HashSet,
    io::{self, IsTerminal, Write},
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{ExitCode, exit},
};

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};
use indicatif::HumanCount;
use reqwest::Url;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    client::{Client, NotAuthorized},
    engine::{Halt, Options, Place, Run},
    month::{Counts, Retry, SETTLING},
    report::{self, Format, Word},
    rules::is_month,
    terminal::{Progress, Stdout, ask, say},
};

pub const CONCURRENCY: u16 = 20;
pub const MAX_FAILURES: NonZeroU32 = NonZeroU32::new(100).expect("not 0");

const EXAMPLES: &str = "\
Examples:
  bill-run charge --api https://a1b2c3.execute-api.sa-east-1.amazonaws.com/prod --dry-run
  bill-run charge --api https://a1b2c3.execute-api.sa-east-1.amazonaws.com/prod
  bill-run report --api https://a1b2c3.execute-api.sa-east-1.amazonaws.com/prod --state rejected,unknown

Exit status:
  0  everybody is charged
  1  an error, or the month is over
  2  wrong usage
  3  some are rejected or left
  4  the outcomes of some are unknown; run it again
  5  interrupted, or stopped after too many failures; run it again
  6  not authorized, by the API or by the platform";

/// Charges a month: everybody who is eligible, once.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Charge(ChargeArguments),
    Report(ReportArguments),
}

#[derive(Args)]
struct MonthArguments {
    /// Where the API is
    #[arg(long, value_name = "URL")]
    api: String,
    /// The month, such as 2026-11 [default: the current billing month]
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<String>,
}

/// Charges who is due; of a past month, it only settles what is unknown
#[derive(Args)]
struct ChargeArguments {
    #[command(flatten)]
    month: MonthArguments,
    /// Charge only the subscriptions of this list, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Print the ids that it would charge, one a line, and charge nobody
    #[arg(long)]
    dry_run: bool,
    /// Charge also those that the platform rejected
    #[arg(long)]
    retry_rejected: bool,
    /// Under another request_id, for a platform that remembers its refusals
    #[arg(long, requires = "retry_rejected")]
    new_number: bool,
    /// Requests at the same time
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// The most requests a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Failures in a row after which it asks whether to go on; without a terminal it stops
    #[arg(long, value_name = "N", default_value_t = MAX_FAILURES)]
    max_failures: NonZeroU32,
    /// Do not ask before it begins
    #[arg(long)]
    yes: bool,
}

/// Says how each subscription stands, whoever charged the month
#[derive(Args)]
struct ReportArguments {
    #[command(flatten)]
    month: MonthArguments,
    /// Only those with one of these states
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<Word>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Error)]
#[error("{0}")]
struct UsageError(String);

/// How it ends, as the shell is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exit {
    Complete = 0,
    Error = 1,
    /// Also clap's.
    Usage = 2,
    Left = 3,
    Unknown = 4,
    Interrupted = 5,
    NotAuthorized = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// Runs the command, and says why if it fails.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    run(command).unwrap_or_else(|error| failed(&error)).into()
}

fn failed(error: &anyhow::Error) -> Exit {
    let mut pipes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if pipes.any(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // The reader closed the pipe: it wants no more.
        return Exit::Complete;
    }
    say(format_args!("bill-run: {error:#}"));
    if error.is::<UsageError>() {
        Exit::Usage
    } else if error.chain().any(|cause| cause.is::<NotAuthorized>()) {
        Exit::NotAuthorized
    } else {
        Exit::Error
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match command {
        Command::Charge(arguments) => runtime.block_on(charge(arguments)),
        Command::Report(arguments) => runtime.block_on(report(arguments)),
    };
    // A question to the terminal may have no answer yet.
    runtime.shutdown_background();
    result
}

/// Parses a URL. It is not shown, because it may have a password.
pub fn api(name: &str, url: &str) -> anyhow::Result<Url> {
    url.parse().with_context(|| format!("{name} is not a URL"))
}

fn month(text: &str) -> Result<String, &'static str> {
    if is_month(text) { Ok(text.to_owned()) } else { Err("not a month such as 2026-11") }
}

/// Whether it is the current month, and not one that is over.
pub fn is_current(month: &str, current: &str) -> anyhow::Result<bool> {
    ensure!(is_month(month), "{month} is not a month such as 2026-11");
    ensure!(month <= current, "the month {month} has not begun: it is {current} at the API");
    Ok(month == current)
}

impl MonthArguments {
    /// The API, the month, and whether it is the current one.
    async fn open(self) -> anyhow::Result<(Client, String, bool)> {
        let client = api("--api", &self.api).and_then(Client::new);
        let client = client.map_err(|error| UsageError(format!("{error:#}")))?;
        let current = client.current_month().await?;
        let month = self.month.unwrap_or_else(|| current.clone());
        let is_current = is_current(&month, &current)?;
        Ok((client, month, is_current))
    }
}

async fn report(ReportArguments { month, state, format }: ReportArguments) -> anyhow::Result<Exit> {
    let (client, month, is_current) = month.open().await?;
    report::report(&client, &month, is_current, format, &state).await?;
    Ok(Exit::Complete)
}

async fn charge(arguments: ChargeArguments) -> anyhow::Result<Exit> {
    let asks = io::stdin().is_terminal();
    if !(asks || arguments.yes || arguments.dry_run) {
        bail!(UsageError("there is no terminal to ask on: say --yes".to_owned()));
    }
    let (client, month, is_current) = arguments.month.open().await?;
    let ids = arguments.ids.as_deref().map(read_ids).transpose()?;
    let options = Options {
        month,
        is_current,
        retry: Retry { rejected: arguments.retry_rejected, new_number: arguments.new_number },
        ids,
        concurrency: arguments.concurrency.into(),
        rate: arguments.rate,
        max_failures: arguments.max_failures.get(),
        asks,
        time: None,
    };
    let (month, api) = (&options.month, &client.api);
    if !is_current {
        say(format_args!("The month {month} is over. What is unknown is settled; nobody else is charged."));
    }
    if arguments.dry_run {
        let mut out = Stdout::new();
        let count = options.survey(&client, |id| Ok(writeln!(out, "{id}")?)).await?;
        out.flush()?;
        say(format_args!("{} would be charged for {month} at {api}. Nobody was.", HumanCount(count)));
        return Ok(Exit::Complete);
    }
    let count = options.survey(&client, |_| Ok(())).await?;
    say(format_args!("{} are to be charged for {month} at {api}", HumanCount(count)));
    if count > 0 && !arguments.yes && !ask("Type yes to go on: ") {
        say("Nothing was sent.");
        return Ok(Exit::Interrupted);
    }
    let run = Run::new(&client, &options, Progress::new(count));
    tokio::select! {
        exit = charge_and_count(&client, &options, &run) => exit,
        failed = listen_to_signals(&run) => failed,
        never = run.progress.report() => match never {},
    }
}

fn read_ids(path: &Path) -> anyhow::Result<HashSet<String>> {
    let list = if path == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
    let list = list.with_context(|| format!("the list {} cannot be read", path.display()))?;
    Ok(list.lines().map(ToOwned::to_owned).collect())
}

async fn charge_and_count(client: &Client, options: &Options, run: &Run<'_>) -> anyhow::Result<Exit> {
    run.charge_from(Place { pass: SETTLING, after: None }).await;
    run.progress.finish();
    let halt = run.why_halted();
    let is_over = !options.is_current || matches!(halt, Some(Halt::MonthIsOver(_)));
    let counts = match &halt {
        // The API would not answer this either.
        Some(Halt::Failed(_)) => Ok(None),
        _ => Counts::read(client, &options.month, !is_over).await.map(Some),
    };
    if let Ok(Some(counts)) = &counts {
        let codes = run.codes();
        let codes =
            if counts.left == 0 || codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
        // The month is charged, whether or not somebody reads this.
        let _ = writeln!(io::stdout(), "{counts}{codes}");
    }
    let again = "Run it again: it goes on.";
    match halt {
        Some(Halt::Failed(error)) => return Err(error),
        Some(Halt::MonthIsOver(over)) => return Err(over.into()),
        Some(Halt::EcommerceUnauthorized) => bail!(NotAuthorized(format!(
            "the platform does not accept the API's credentials, and ordered nothing. Correct them. {again}"
        ))),
        Some(Halt::Interrupted) => say(format_args!("Interrupted. {again}")),
        Some(Halt::TooManyFailures(last)) => {
            say(format_args!("Stopped after too many failures in a row, the last: {last}. {again}"));
        }
        None => {
            return Ok(match counts?.unwrap_or_default() {
                Counts { unknown: 1.., .. } => Exit::Unknown,
                _ if is_over => {
                    say("It does not count those who were eligible then and have no attempt.");
                    Exit::Error
                }
                Counts { rejected: 0, left: 0, .. } => Exit::Complete,
                Counts { .. } => Exit::Left,
            });
        }
    }
    if let Err(error) = counts {
        say(format_args!("The month was not counted: {error:#}"));
    }
    Ok(Exit::Interrupted)
}

/// The first signal drains, the second stops.
async fn listen_to_signals(run: &Run<'_>) -> anyhow::Result<Exit> {
    let mut signals =
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
    signals.next().await;
    run.halt(Halt::Interrupted);
    say("Waiting for the answers to what was sent. Once more stops at once.");
    signals.next().await;
    run.progress.finish();
    exit(Exit::Interrupted as i32);
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
