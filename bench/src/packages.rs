//! The size of the packages that are deployed.

use std::{fs, path::PathBuf};

use harness::routes::functions;

use crate::{Bar, Bench, Report, megabytes, number};

impl Bench {
    pub fn packages(&self, report: &mut Report) {
        let size = |path: PathBuf| megabytes(fs::metadata(path).expect("it was built").len());
        let zip = |name: &str| size(self.output.join(format!("{name}.zip")));
        let rows = functions()
            .chain(["bare"])
            .map(|function| vec![function.to_owned(), number(size(self.binary(function))), number(zip(function))]);
        report.table(
            "Packages, MB",
            "The binary, and the zip of it that is deployed.",
            &["function", "binary", "zip"],
            rows.collect(),
        );
        for function in functions() {
            report.bar(Bar::at_most(format!("zip: {function}"), "MB", zip(function), Some(zip("bare")), 3.0));
        }
    }
}
