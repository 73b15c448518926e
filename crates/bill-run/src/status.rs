//! How a plan stands, also while it is applied.

use std::path::Path;

use chrono::{DateTime, Utc};
use indicatif::{HumanCount, HumanDuration};

use crate::{journal::History, plan::Plan, summary::Counts};

pub fn status(path: &Path) -> anyhow::Result<()> {
    let plan = Plan::read(path)?;
    let history = History::read(path, &plan)?;
    let counts = Counts::of(&history.standings);
    let header = &plan.header;
    let mut lines = vec![
        ("api", header.api.clone()),
        ("month", header.month.clone()),
        ("read at", header.read_at.clone()),
        ("planned", HumanCount(counts.planned()).to_string()),
        ("charged", HumanCount(counts.charged).to_string()),
        ("charged before", HumanCount(counts.already_charged).to_string()),
        ("refused", HumanCount(counts.refused).to_string()),
        ("unknown", HumanCount(counts.unknown).to_string()),
        ("left", HumanCount(counts.left).to_string()),
    ];
    if let Some((first, last)) = history.time {
        let ago = |moment: DateTime<Utc>| HumanDuration((Utc::now() - moment).to_std().unwrap_or_default()).to_string();
        lines.push(("begun", format!("{} ago", ago(first))));
        lines.push(("last entry", format!("{} ago", ago(last))));
    }
    for (name, value) in lines {
        println!("{name:<14}  {value}");
    }
    Ok(())
}
