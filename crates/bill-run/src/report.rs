//! The report of a month: a line for each subscription, from the ledger alone.

use std::{
    io::{self, Write},
    pin::pin,
};

use clap::ValueEnum;
use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    client::Client,
    month::{Counts, State, Subscription, subscriptions},
    terminal::Stdout,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Text,
    Csv,
    Json,
}

const COLUMNS: [&str; 6] = ["subscription_id", "request_id", "state", "upstream_status", "reason", "charged_at"];

/// A line of the report, with these columns.
#[derive(Serialize)]
struct Line<'a> {
    subscription_id: &'a str,
    request_id: Option<&'a str>,
    state: State,
    upstream_status: Option<u16>,
    reason: Option<&'a RawValue>,
    charged_at: Option<&'a str>,
}

/// Writes those of the month that have one of these states, or all, to stdout. At the end come the counts of all: nothing
/// is held until then.
pub async fn report(
    client: &Client,
    month: &str,
    is_current: bool,
    format: Format,
    states: &[State],
) -> anyhow::Result<()> {
    let due = is_current.then(|| client.due(month, None));
    let mut subscriptions = pin!(subscriptions(due, client.attempts(month, None)));
    let mut counts = Counts::default();
    let mut out = Stdout::new();
    let mut separator = "\n";
    match format {
        Format::Text => {}
        Format::Csv => writeln!(out, "{}", COLUMNS.join(","))?,
        Format::Json => write!(out, "{{\"month\":\"{month}\",\"subscriptions\":[")?,
    }
    while let Some(subscription) = subscriptions.try_next().await? {
        let line = Line::new(&subscription);
        counts.count(line.state);
        if !states.is_empty() && !states.contains(&line.state) && !states.contains(&line.state.counted()) {
            continue;
        }
        match format {
            Format::Text => line.write_text(&mut out)?,
            Format::Csv => line.write_csv(&mut out)?,
            Format::Json => {
                write!(out, "{separator}{}", serde_json::to_string(&line)?)?;
                separator = ",\n";
            }
        }
    }
    match format {
        Format::Text => writeln!(out, "{month}: {counts}")?,
        Format::Csv => {}
        Format::Json => writeln!(out, "\n],{}", serde_json::to_string(&counts)?.trim_start_matches('{'))?,
    }
    Ok(out.flush()?)
}

impl<'a> Line<'a> {
    fn new(subscription: &'a Subscription) -> Self {
        let attempt = subscription.attempt();
        let state = subscription.state();
        Self {
            subscription_id: &subscription.id,
            request_id: attempt.map(|attempt| &*attempt.request_id),
            state,
            upstream_status: attempt.and_then(|attempt| attempt.upstream_status),
            reason: attempt.and_then(|attempt| attempt.upstream_answer.as_deref()),
            charged_at: attempt.and_then(|attempt| attempt.settled_at.as_deref()).filter(|_| state == State::Charged),
        }
    }

    /// Its columns, the platform's words as they are if they are a text, else as JSON.
    fn columns(&self) -> [String; 6] {
        let reason = self.reason.map(RawValue::get).unwrap_or_default();
        [
            self.subscription_id.to_owned(),
            self.request_id.unwrap_or_default().to_owned(),
            self.state.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default(),
            self.upstream_status.map(|status| status.to_string()).unwrap_or_default(),
            serde_json::from_str(reason).unwrap_or_else(|_| reason.to_owned()),
            self.charged_at.unwrap_or_default().to_owned(),
        ]
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let [id, _, state, status, reason, charged_at] = self.columns();
        let line = format!("{id:<36}  {state:<9} {status:>3} {charged_at}{reason}");
        // A terminal obeys control characters, and a platform can send any.
        writeln!(out, "{}", line.trim_end().replace(char::is_control, " "))
    }

    fn write_csv(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(self.columns())?;
        Ok(csv.flush()?)
    }
}
