//! How a month stands, a line for each subscription, from the ledger alone.

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

/// A state of the ledger, or `left`: due, without an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Word {
    Charged,
    Rejected,
    /// Also those in flight
    Unknown,
    InFlight,
    /// Also those that were not sent
    Left,
    NotSent,
}

const COLUMNS: [&str; 6] = ["subscription_id", "request_id", "state", "upstream_status", "reason", "charged_at"];

/// A line of the report, with these columns.
#[derive(Serialize)]
struct Line<'a> {
    subscription_id: &'a str,
    request_id: Option<&'a str>,
    state: Word,
    upstream_status: Option<u16>,
    reason: Option<&'a RawValue>,
    charged_at: Option<&'a str>,
}

/// Writes those of the month that have one of these states, or all, to stdout. At the end come the counts of all.
pub async fn report(
    client: &Client,
    month: &str,
    is_current: bool,
    format: Format,
    states: &[Word],
) -> anyhow::Result<()> {
    let due = is_current.then(|| client.due(month, None));
    let mut subscriptions = pin!(subscriptions(due, client.attempts(month, None)));
    let mut counts = Counts::default();
    let mut out = Stdout::new();
    let mut separator = "";
    match format {
        Format::Text => {}
        Format::Csv => writeln!(out, "{}", COLUMNS.join(","))?,
        Format::Json => write!(out, "{{\"month\":\"{month}\",\"subscriptions\":[")?,
    }
    while let Some(subscription) = subscriptions.try_next().await? {
        let state = subscription.attempt().map(|attempt| attempt.state);
        counts.count(state);
        let line = Line::new(&subscription);
        if !states.is_empty() && !states.contains(&line.state) && !states.contains(&line.state.group()) {
            continue;
        }
        match format {
            Format::Text => line.write_text(&mut out)?,
            Format::Csv => line.write_csv(&mut out)?,
            Format::Json => {
                write!(out, "{separator}\n")?;
                serde_json::to_writer(&mut out, &line)?;
                separator = ",";
            }
        }
    }
    match format {
        Format::Text => writeln!(out, "{month}: {counts}")?,
        Format::Csv => {}
        Format::Json => {
            // After the lines, because they are not held until all are counted.
            let counts = serde_json::to_string(&counts)?;
            writeln!(out, "\n],{}", counts.trim_start_matches('{'))?;
        }
    }
    Ok(out.flush()?)
}

impl Word {
    /// The word under which it is counted.
    fn group(self) -> Self {
        match self {
            Self::InFlight => Self::Unknown,
            Self::NotSent => Self::Left,
            Self::Charged | Self::Rejected | Self::Unknown | Self::Left => self,
        }
    }
}

impl<'a> Line<'a> {
    fn new(subscription: &'a Subscription) -> Self {
        let attempt = subscription.attempt();
        let state = attempt.map_or(Word::Left, |attempt| match attempt.state {
            State::InFlight => Word::InFlight,
            State::Unknown => Word::Unknown,
            State::Charged => Word::Charged,
            State::Rejected => Word::Rejected,
            State::NotSent => Word::NotSent,
        });
        Self {
            subscription_id: &subscription.id,
            request_id: attempt.map(|attempt| &*attempt.request_id),
            state,
            upstream_status: attempt.and_then(|attempt| attempt.upstream_status),
            reason: attempt.and_then(|attempt| attempt.upstream_answer.as_deref()),
            charged_at: attempt.and_then(|attempt| attempt.settled_at.as_deref()).filter(|_| state == Word::Charged),
        }
    }

    /// The platform's words: a text as it is, anything else as JSON.
    fn reason(&self) -> Option<String> {
        self.reason.map(|reason| serde_json::from_str(reason.get()).unwrap_or_else(|_| reason.get().to_owned()))
    }

    fn word(&self) -> String {
        self.state.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default()
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{:<36}  {:<9}", self.subscription_id, self.word())?;
        if let Some(detail) = self.charged_at {
            write!(out, "  {detail}")?;
        }
        if let Some(status) = self.upstream_status.filter(|_| self.charged_at.is_none()) {
            write!(out, "  {status}")?;
        }
        if let Some(reason) = self.reason() {
            // A terminal obeys control characters, and a platform can send any.
            let reason: String = reason.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
            write!(out, "  {reason}")?;
        }
        writeln!(out)
    }

    fn write_csv(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record([
            self.subscription_id,
            self.request_id.unwrap_or_default(),
            &self.word(),
            &self.upstream_status.map(|status| status.to_string()).unwrap_or_default(),
            &self.reason().unwrap_or_default(),
            self.charged_at.unwrap_or_default(),
        ])?;
        Ok(csv.flush()?)
    }
}
