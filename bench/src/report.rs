//! The results: a table of the bars for the terminal, and everything in Markdown.

use std::{fs, io, path::Path};

/// A measurement, and the limit that it must keep.
pub struct Bar {
    name: String,
    unit: &'static str,
    measured: f64,
    floor: Option<f64>,
    limit: Limit,
}

/// A limit of the ratio or of the value.
enum Limit {
    /// The ratio of what was measured to the floor.
    RatioAtMost(f64),
    /// The measured value, in its unit.
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    /// At most this many times the floor.
    pub fn at_most_of_floor(name: String, unit: &'static str, measured: f64, floor: f64, limit: f64) -> Self {
        Self { name, unit, measured, floor: Some(floor), limit: Limit::RatioAtMost(limit) }
    }

    /// The floor is shown only, if there is one.
    pub fn at_most(name: String, unit: &'static str, measured: f64, floor: Option<f64>, limit: f64) -> Self {
        Self { name, unit, measured, floor, limit: Limit::AtMost(limit) }
    }

    pub fn at_least(name: String, unit: &'static str, measured: f64, limit: f64) -> Self {
        Self { name, unit, measured, floor: None, limit: Limit::AtLeast(limit) }
    }

    fn row(&self) -> Vec<String> {
        let ratio = self.floor.map(|floor| self.measured / floor);
        let (bar, judged, limit, is_met) = match self.limit {
            Limit::RatioAtMost(limit) => {
                let ratio = self.measured / self.floor.expect("a floor");
                (format!("at most {} times the floor", number(limit)), ratio, limit, ratio <= limit)
            }
            Limit::AtMost(limit) => {
                (format!("at most {} {}", number(limit), self.unit), self.measured, limit, self.measured <= limit)
            }
            Limit::AtLeast(limit) => {
                (format!("at least {} {}", number(limit), self.unit), self.measured, limit, self.measured >= limit)
            }
        };
        vec![
            self.name.clone(),
            format!("{} {}", number(self.measured), self.unit),
            self.floor.map(number).unwrap_or_default(),
            ratio.map(number).unwrap_or_default(),
            bar,
            if is_met { "met".to_owned() } else { format!("missed by {:.0} %", (judged / limit - 1.0).abs() * 100.0) },
        ]
    }
}

#[derive(Default)]
pub struct Report {
    bars: Vec<Bar>,
    tables: String,
}

impl Report {
    pub fn bar(&mut self, bar: Bar) {
        self.bars.push(bar);
    }

    pub fn table(&mut self, title: &str, text: &str, head: &[&str], rows: Vec<Vec<String>>) {
        self.tables += &format!("### {title}\n\n{text}\n\n{}\n", markdown(head, rows));
    }

    /// Prints the bars, and writes `performance.md` there.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let head = ["", "measured", "floor", "ratio", "bar", "verdict"];
        let bars = markdown(&head, self.bars.iter().map(Bar::row).collect());
        println!("\n{bars}");
        fs::write(folder.join("performance.md"), format!("{bars}\n{}", self.tables))
    }
}

/// Three digits, or all digits before the point.
pub fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn markdown(head: &[&str], mut rows: Vec<Vec<String>>) -> String {
    rows.insert(0, head.iter().map(ToString::to_string).collect());
    let widths: Vec<usize> =
        (0..head.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let rule = widths.iter().map(|width| "-".repeat((*width).max(3))).collect();
    rows.insert(1, rule);
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    rows.iter().map(line).collect()
}
