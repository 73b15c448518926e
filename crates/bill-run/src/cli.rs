//! The command.

use std::{
    collections::HashSet,
    convert::Infallible,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{ExitCode, exit},
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use indicatif::HumanCount;
use reqwest::Url;
use thiserror::Error;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    client::{Client, MonthIsOver, NotAuthorized},
    engine::{Halt, Options, Place, Run},
    month::{Counts, State},
    report::{self, Format},
    rules::is_month,
    terminal::{Stdout, ask, finish_progress, say, show_progress},
};

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
struct ApiArguments {
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
    api: ApiArguments,
    /// Charge only the subscriptions of this list, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Print the ids that it would charge, one a line, and charge nobody
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: Options,
    /// Do not ask before it begins
    #[arg(long)]
    yes: bool,
}

/// Says how each subscription stands, no matter who charged the month
#[derive(Args)]
struct ReportArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Only those with one of these states
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<State>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Error)]
#[error("{0}")]
struct UsageError(String);

/// The exit status.
#[derive(Clone, Copy)]
pub enum Exit {
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

/// Says why it fails.
pub fn failed(error: &anyhow::Error) -> Exit {
    let mut pipes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if pipes.any(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // The reader closed the pipe: it wants no more.
        return Exit::Complete;
    }
    say(format_args!("bill-run: {error:#}"));
    if error.is::<UsageError>() {
        Exit::Usage
    } else if error.is::<NotAuthorized>() {
        Exit::NotAuthorized
    } else {
        Exit::Error
    }
}

pub fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs the command.
pub fn run() -> anyhow::Result<Exit> {
    let command = Cli::parse().command;
    let runtime = runtime()?;
    let result = match command {
        Command::Charge(arguments) => runtime.block_on(charge(arguments)),
        Command::Report(arguments) => runtime.block_on(report(arguments)),
    };
    // A question to the terminal may have no answer yet.
    runtime.shutdown_background();
    result
}

/// Parses a URL. It is not shown, because it may have a password.
pub fn url(name: &str, url: &str) -> anyhow::Result<Url> {
    url.parse().with_context(|| format!("{name} is not a URL"))
}

fn month(text: &str) -> Result<String, &'static str> {
    if is_month(text) { Ok(text.to_owned()) } else { Err("not a month such as 2026-11") }
}

fn client(api: &str) -> anyhow::Result<Client> {
    let client = url("--api", api).and_then(Client::new);
    client.map_err(|error| UsageError(format!("{error:#}")).into())
}

async fn report(ReportArguments { api, state, format }: ReportArguments) -> anyhow::Result<Exit> {
    let client = client(&api.api)?;
    let (month, is_current) = client.month(api.month).await?;
    report::report(&client, &month, is_current, format, &state).await?;
    Ok(Exit::Complete)
}

async fn charge(arguments: ChargeArguments) -> anyhow::Result<Exit> {
    let asks = io::stdin().is_terminal();
    if !(asks || arguments.yes || arguments.dry_run) {
        bail!(UsageError("there is no terminal to ask on: say --yes".to_owned()));
    }
    let client = client(&arguments.api.api)?;
    let ids = arguments.ids.as_deref().map(read_ids).transpose()?;
    let mut run = Run::new(&client, arguments.api.month, arguments.options).await?;
    (run.ids, run.asks) = (ids, asks);
    let for_month = format!("for {} at {}", run.month, client.api);
    if !run.is_current {
        say(format_args!("The month {} is over. What is unknown is settled; nobody else is charged.", run.month));
    }
    let (mut count, mut out) = (0, arguments.dry_run.then(Stdout::new));
    run.survey(|id| {
        count += 1;
        Ok(out.as_mut().map_or(Ok(()), |out| writeln!(out, "{id}"))?)
    })
    .await?;
    if let Some(mut out) = out {
        out.flush()?;
        say(format_args!("{} would be charged {for_month}. Nobody was.", HumanCount(count)));
        return Ok(Exit::Complete);
    }
    say(format_args!("{} are to be charged {for_month}", HumanCount(count)));
    if count > 0 && !arguments.yes && !ask("Type yes to go on: ") {
        say("Nothing was sent.");
        return Ok(Exit::Interrupted);
    }
    let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    tokio::select! {
        exit = charge_and_count(&run) => exit,
        never = obey(signals, &run) => match never {},
        never = show_progress(count) => match never {},
    }
}

fn read_ids(path: &Path) -> anyhow::Result<HashSet<String>> {
    let list = if path == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
    let list = list.with_context(|| format!("the list {} cannot be read", path.display()))?;
    Ok(list.lines().map(ToOwned::to_owned).collect())
}

async fn charge_and_count(run: &Run<'_>) -> anyhow::Result<Exit> {
    run.charge_from(Place::default()).await;
    finish_progress();
    let mut is_over = !run.is_current;
    let halt = match run.why_halted() {
        Some(Halt::Failed(error)) if error.is::<MonthIsOver>() => {
            is_over = true;
            say(format_args!("bill-run: {error:#}"));
            None
        }
        // The API would not answer more.
        Some(Halt::Failed(error)) => return Err(error),
        halt => halt,
    };
    let counts = Counts::read(run.client, &run.month, !is_over).await;
    if let Ok(counts) = &counts {
        let codes = run.codes_of_left().join(", ");
        let codes = if counts.left == 0 || codes.is_empty() { codes } else { format!(" ({codes})") };
        // The month is charged, whether or not somebody reads this.
        let _ = writeln!(io::stdout(), "{counts}{codes}");
    }
    let again = "Run it again: it goes on.";
    match halt {
        Some(Halt::EcommerceUnauthorized) => {
            bail!(NotAuthorized(format!("the platform does not accept the API's credentials. Correct them. {again}")))
        }
        Some(Halt::TooManyFailures(last)) => {
            say(format_args!("Stopped after too many failures in a row, the last: {last}. {again}"));
        }
        Some(Halt::Interrupted) => say(format_args!("Interrupted. {again}")),
        Some(Halt::Failed(_)) | None => {
            return Ok(match counts? {
                Counts { unknown: 1.., .. } => Exit::Unknown,
                // Those who were eligible then, and have no attempt, are not counted.
                Counts { .. } if is_over => Exit::Error,
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
async fn obey([mut interrupt, mut terminate]: [Signal; 2], run: &Run<'_>) -> Infallible {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    run.halt(Halt::Interrupted);
    say("Waiting for the answers to what was sent. Once more stops at once.");
    next().await;
    finish_progress();
    exit(Exit::Interrupted as i32);
}
