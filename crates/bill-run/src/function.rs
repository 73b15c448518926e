//! The engine as a Lambda function. It works for a few minutes and says from where to go on.

use std::{
    env,
    num::NonZeroU32,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    client::Client,
    engine::{Halt, Options, Place, Run, Time},
    month::{Counts, Retry},
    terminal::{self, Progress},
};

/// It works for this time at most.
const WORK: Duration = Duration::from_secs(180);
/// It starts no charge in this time before Lambda's deadline.
const SPARE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(default)]
struct Event {
    month: Option<String>,
    after: Option<String>,
    pass: u8,
    dry_run: bool,
    retry_rejected: bool,
    new_number: bool,
    concurrency: usize,
    rate: Option<NonZeroU32>,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            month: None,
            after: None,
            pass: 0,
            dry_run: false,
            retry_rejected: false,
            new_number: false,
            concurrency: super::cli::CONCURRENCY.into(),
            rate: None,
        }
    }
}

#[derive(Serialize)]
struct Answer {
    month: String,
    /// It is not to be invoked again for this run.
    done: bool,
    stopped: Option<&'static str>,
    after: Option<String>,
    pass: u8,
    charged_now: u64,
    #[serde(flatten)]
    counts: Option<Counts>,
}

pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(format_args!("bill-run: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let api = env::var("BILL_RUN_API").context("BILL_RUN_API is not set")?;
    let client = Client::new(super::cli::api("BILL_RUN_API", &api)?)?;
    let client = &client;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handler = service_fn(async |LambdaEvent { payload, context }: LambdaEvent<Event>| {
        let answer = work(client, payload, context.deadline()).await;
        answer.map_err(|error| {
            terminal::say(format_args!("bill-run: {error:#}"));
            lambda_runtime::Error::from(format!("{error:#}"))
        })
    });
    runtime.block_on(lambda_runtime::run(handler)).map_err(|error| anyhow::anyhow!(error))
}

async fn work(client: &Client, event: Event, deadline: SystemTime) -> anyhow::Result<Answer> {
    let now = Instant::now();
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    let time = left.saturating_sub(SPARE).min(WORK);
    // A third is for what was begun and is repeated.
    let time = Time { begin: now + time * 2 / 3, send: now + time };
    let current = client.current_month().await?;
    let month = event.month.unwrap_or_else(|| current.clone());
    let is_current = super::cli::is_current(&month, &current)?;
    let options = Options {
        month,
        is_current,
        retry: Retry { rejected: event.retry_rejected, new_number: event.new_number },
        ids: None,
        concurrency: event.concurrency,
        rate: event.rate,
        max_failures: super::cli::MAX_FAILURES.get(),
        asks: false,
        time: Some(time),
    };
    let run = Run::new(client, &options, Progress::hidden());
    let begin = Place { pass: event.pass, after: event.after };
    let place = if event.dry_run { None } else { run.charge_from(begin).await };
    let stopped = match run.why_halted() {
        None if is_current || place.is_some() => None,
        None | Some(Halt::MonthIsOver(_)) => Some("month_is_over"),
        Some(Halt::TooManyFailures(_) | Halt::Interrupted) => Some("too_many_failures"),
        Some(Halt::EcommerceUnauthorized) => Some("ecommerce_unauthorized"),
        Some(Halt::Failed(error)) => return Err(error),
    };
    let done = stopped.is_some() || place.is_none();
    let is_current = is_current && stopped != Some("month_is_over");
    let counts = if done { Some(Counts::read(client, &options.month, is_current).await?) } else { None };
    let charged_now = run.charged();
    let Place { pass, after } = place.unwrap_or(Place { pass: event.pass, after: None });
    Ok(Answer { month: options.month, done, stopped, after, pass, charged_now, counts })
}
