//! The engine as a Lambda function. It works for a few minutes and says from where to go on.

use std::{
    env,
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    cli,
    client::{Client, MonthIsOver},
    engine::{Halt, Options, Place, Run},
    month::Counts,
    terminal,
};

/// It works for this time at most.
const WORK: Duration = Duration::from_secs(180);
/// It starts no charge in this time before Lambda's deadline.
const SPARE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Event {
    month: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(flatten)]
    begin: Place,
    #[serde(flatten)]
    options: Options,
}

#[derive(Serialize)]
struct Answer {
    month: String,
    /// This run needs no further invocation.
    done: bool,
    stopped: Option<&'static str>,
    #[serde(flatten)]
    place: Place,
    charged_now: u64,
    #[serde(flatten)]
    counts: Option<Counts>,
}

pub fn serve() -> anyhow::Result<()> {
    let api = env::var("BILL_RUN_API").context("BILL_RUN_API is not set")?;
    let client = &Client::new(cli::url("BILL_RUN_API", &api)?)?;
    let handler = service_fn(async |LambdaEvent { payload, context }: LambdaEvent<Event>| {
        let answer = work(client, payload, context.deadline()).await;
        answer.map_err(|error| {
            terminal::say(format_args!("bill-run: {error:#}"));
            Error::from(format!("{error:#}"))
        })
    });
    cli::runtime()?.block_on(lambda_runtime::run(handler)).map_err(|error| anyhow!(error))
}

async fn work(client: &Client, event: Event, deadline: SystemTime) -> anyhow::Result<Answer> {
    let now = Instant::now();
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    let time = left.saturating_sub(SPARE).min(WORK);
    let mut run = Run::new(client, event.month, event.options).await?;
    // A third is for what was begun and is repeated.
    run.until = Some((now + time * 2 / 3, now + time));
    let place = if event.dry_run { None } else { run.charge_from(event.begin).await };
    let stopped = match run.why_halted() {
        None if run.is_current || place.is_some() => None,
        None => Some("month_is_over"),
        Some(Halt::Failed(error)) if error.is::<MonthIsOver>() => Some("month_is_over"),
        Some(Halt::Failed(error)) => return Err(error),
        Some(Halt::EcommerceUnauthorized) => Some("ecommerce_unauthorized"),
        Some(Halt::TooManyFailures(_) | Halt::Interrupted) => Some("too_many_failures"),
    };
    let done = stopped.is_some() || place.is_none();
    let is_current = stopped != Some("month_is_over");
    let counts = if done { Some(Counts::read(client, &run.month, is_current).await?) } else { None };
    let (charged_now, place) = (run.charged(), place.unwrap_or_default());
    Ok(Answer { month: run.month, done, stopped, place, charged_now, counts })
}
