//! What happened to each subscription of a plan.

use std::{
    collections::HashSet,
    io::{self, Write},
    path::Path,
};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    execution::Summary,
    journal::{History, Standing},
    plan::{Plan, Planned},
    rules::Outcome,
    summary::Counts,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Text,
    Csv,
    Json,
}

const COLUMNS: [&str; 7] =
    ["subscription_id", "request_id", "outcome", "code", "http_status", "charged_at", "attempts"];

/// A subscription of the report, with these columns.
#[derive(Serialize)]
struct Row<'a> {
    subscription_id: &'a str,
    request_id: &'a str,
    outcome: Outcome,
    code: Option<&'a str>,
    http_status: Option<u16>,
    charged_at: Option<&'a str>,
    attempts: u32,
}

#[derive(Serialize)]
struct Whole<'a> {
    month: &'a str,
    planned: u64,
    #[serde(flatten)]
    counts: Counts,
    subscriptions: Vec<Row<'a>>,
}

/// Writes the report of a plan to stdout: of all, or of those with one of these codes or outcomes.
pub fn report(path: &Path, format: Format, only: &[String]) -> anyhow::Result<()> {
    let plan = Plan::read(path)?;
    let history = History::read(path, &plan)?;
    let rows = plan.subscriptions.iter().zip(&history.standings).map(|(planned, standing)| Row::new(planned, standing));
    write(&plan.header.month, Counts::of(&history.standings), rows, format, only)
}

/// Writes the report of an execution, which counts all, and names only those without an outcome.
pub async fn report_execution(arn: &str, format: Format, only: &[String]) -> anyhow::Result<()> {
    let summary = Summary::read(arn).await?;
    let rows: Vec<_> = summary.without_outcome().collect();
    write(
        &summary.month,
        summary.counts(),
        rows.iter().map(|(planned, standing)| Row::new(planned, standing)),
        format,
        only,
    )
}

fn write<'a>(
    month: &str,
    counts: Counts,
    rows: impl Iterator<Item = Row<'a>>,
    format: Format,
    only: &[String],
) -> anyhow::Result<()> {
    let only: HashSet<&str> = only.iter().map(String::as_str).collect();
    let rows = rows.filter(|row| {
        only.is_empty() || only.contains(row.outcome.word()) || row.code.is_some_and(|code| only.contains(code))
    });
    let mut out = io::BufWriter::new(io::stdout().lock());
    match format {
        Format::Text => {
            writeln!(out, "{month}: {counts}")?;
            for row in rows {
                let detail = row.code.or(row.charged_at).unwrap_or_default();
                writeln!(out, "{:<36}  {:<15}  {detail}", row.subscription_id, row.outcome.word())?;
            }
        }
        Format::Csv => {
            // The header is written by hand, so that it is there without rows, too.
            let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(&mut out);
            csv.write_record(COLUMNS)?;
            for row in rows {
                csv.serialize(row)?;
            }
            csv.flush()?;
        }
        Format::Json => {
            let planned = counts.planned();
            serde_json::to_writer_pretty(&mut out, &Whole { month, planned, counts, subscriptions: rows.collect() })?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

impl<'a> Row<'a> {
    fn new(planned: &'a Planned, standing: &'a Standing) -> Self {
        Self {
            subscription_id: &planned.id,
            request_id: standing.request_id.as_ref().unwrap_or(&planned.request_id),
            outcome: standing.outcome,
            code: standing.code.as_deref(),
            http_status: standing.http_status,
            charged_at: standing.charged_at.as_deref(),
            attempts: standing.attempts,
        }
    }
}
