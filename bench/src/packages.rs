//! The size of what is deployed.

use std::{fs, path::PathBuf};

use crate::{Bar, Bench, Report, number, operation::FUNCTIONS};

impl Bench {
    pub fn packages(&self, report: &mut Report) {
        #[allow(clippy::cast_precision_loss)]
        let size = |path: PathBuf| fs::metadata(path).expect("it was built").len() as f64 / 1e6;
        let zip = |name: &str| size(self.output.join(format!("{name}.zip")));
        let rows = FUNCTIONS
            .into_iter()
            .chain(["bare"])
            .map(|function| vec![function.to_owned(), number(size(self.binary(function))), number(zip(function))]);
        report.table(
            "Packages, MB",
            "The binary, and the zip of it that is deployed.",
            &["function", "binary", "zip"],
            rows.collect(),
        );
        for function in FUNCTIONS {
            report.bar(Bar::below(format!("zip: {function}"), "MB", zip(function), Some(zip("bare")), 3.0));
        }
    }
}
