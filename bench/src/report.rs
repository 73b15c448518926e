//! The results: a table of the bars for the terminal, everything in Markdown, and a plot.

use std::{fs, io, path::Path};

use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    element::{Circle, PathElement},
    prelude::{BLACK, BLUE, IntoDrawingArea, IntoLogRange, RED, RGBColor, SVGBackend, WHITE},
    series::LineSeries,
    style::Color,
};

/// A measurement, and the limit that it must keep.
pub struct Bar {
    name: String,
    unit: &'static str,
    measured: f64,
    floor: Option<f64>,
    limit: Limit,
}

/// What is limited, and how.
enum Limit {
    /// The ratio of what was measured to the floor.
    RatioAtMost(f64),
    /// What was measured, in its unit.
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
    /// Subscriptions, ms to read all pages, ms of the floor.
    pub eligible_growth: Vec<(usize, f64, f64)>,
    /// Environments, charges per second, the most that the platform lets them have.
    pub charge_growth: Vec<(usize, f64, f64)>,
}

impl Report {
    pub fn bar(&mut self, bar: Bar) {
        self.bars.push(bar);
    }

    pub fn table(&mut self, title: &str, text: &str, head: &[&str], rows: Vec<Vec<String>>) {
        self.tables += &format!("### {title}\n\n{text}\n\n{}\n", markdown(head, rows));
    }

    /// Prints the bars, and writes `performance.md` and `performance.svg` there.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let head = ["", "measured", "floor", "ratio", "bar", "verdict"];
        let bars = markdown(&head, self.bars.iter().map(Bar::row).collect());
        println!("\n{bars}");
        fs::write(folder.join("performance.md"), format!("{bars}\n{}", self.tables))?;
        self.plot(&folder.join("performance.svg")).map_err(io::Error::other)
    }

    fn plot(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let points = |growth: &[(usize, f64, f64)], pick: fn(&(usize, f64, f64)) -> f64| -> Vec<(f64, f64)> {
            growth.iter().map(|point| (point.0 as f64, pick(point))).collect()
        };
        let panels = [
            (
                "Eligible, read page by page",
                "subscriptions",
                "ms",
                [
                    ("eligible", points(&self.eligible_growth, |point| point.1), BLUE),
                    ("select id from subscription", points(&self.eligible_growth, |point| point.2), RED),
                ],
            ),
            (
                "Charges, where the platform takes 100 ms",
                "environments",
                "a second",
                [
                    ("charge", points(&self.charge_growth, |point| point.1), BLUE),
                    ("at most", points(&self.charge_growth, |point| point.2), RED),
                ],
            ),
        ];
        let root = SVGBackend::new(path, (960, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, (title, x, y, lines)) in root.split_evenly((1, 2)).iter().zip(panels) {
            let all: Vec<(f64, f64)> = lines.iter().flat_map(|line| line.1.clone()).collect();
            let range = |values: Vec<f64>| {
                let (low, high) =
                    values.iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
                (low * 0.7..high * 1.5).log_scale()
            };
            let mut chart = ChartBuilder::on(area)
                .caption(title, ("sans-serif", 18))
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(60)
                .build_cartesian_2d(
                    range(all.iter().map(|point| point.0).collect()),
                    range(all.iter().map(|point| point.1).collect()),
                )?;
            chart.configure_mesh().light_line_style(RGBColor(245, 245, 245)).x_desc(x).y_desc(y).draw()?;
            for (name, line, color) in lines {
                chart
                    .draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
                chart.draw_series(line.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE)
                .border_style(BLACK)
                .draw()?;
        }
        root.present()?;
        Ok(())
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
