//! `make bench`: the release binaries and their floors, measured in turns, so that other work of the machine slows both.
//! dev/bench.py prepares the builds, the server, its databases and the pooler.

mod bill_run;
mod cold;
mod eligible;
mod months;
mod operation;
mod packages;
mod report;
mod throughput;
mod warm;

use std::{env, path::PathBuf, time::Duration};

use ecommerce_stub::Platform;
use harness::{Environment, runtime_api::Invoked};
use serde_json::Value;

use report::{Bar, Report, number, thousands};

struct Bench {
    /// URL of the server, without a database.
    server: String,
    /// URL of the pooler, without a database.
    pooler: String,
    binaries: PathBuf,
    output: PathBuf,
    quick: bool,
    sizes: Vec<usize>,
    platform: Platform,
}

#[tokio::main]
async fn main() {
    let [server, pooler, binaries, output, sizes, quick] =
        env::args().skip(1).collect::<Vec<_>>().try_into().expect("dev/bench.py");
    rustls::crypto::ring::default_provider().install_default().expect("the first one");
    let bench = Bench {
        server,
        pooler,
        binaries: binaries.into(),
        output: output.into(),
        quick: quick == "quick",
        sizes: sizes.split(',').map(|size| size.parse().expect("a number of subscriptions")).collect(),
        platform: bench::platform().await,
    };
    let mut report = Report::default();
    bench.cold(&mut report).await;
    bench.warm(&mut report).await;
    bench.packages(&mut report);
    bench.eligible(&mut report).await;
    bench.throughput(&mut report).await;
    bench.months(&mut report).await;
    bench.bill_run(&mut report).await;
    report.write(&bench.output).expect("the folder for results");
}

impl Bench {
    /// More in a full run than in a quick one.
    fn times(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server)
    }

    /// The same database through the pooler.
    fn pooled(&self, database: &str) -> String {
        format!("{}/{database}", self.pooler)
    }

    fn largest(&self) -> usize {
        self.sizes.iter().copied().max().unwrap_or_default()
    }

    /// The database of the revision `head` with this many subscriptions.
    fn database(&self, size: usize) -> String {
        self.url(&format!("head_{size}"))
    }

    fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    async fn start(&self, function: &str, database: &str) -> Environment {
        bench::start(&self.binary(function), database, &self.platform, &[]).await
    }
}

/// Invokes a function, which must answer with a success.
async fn succeed(environment: &Environment, event: &Value) -> Invoked {
    let invoked = bench::invoke(environment, event).await;
    let payload = invoked.payload.as_ref().unwrap_or_else(|error| error);
    // Only its beginning, because some are megabytes.
    let start = String::from_utf8_lossy(&payload[..payload.len().min(400)]);
    assert!(start.contains("\"statusCode\":20"), "{start}");
    invoked
}

/// The time of a successful answer.
async fn time(environment: &Environment, event: &Value) -> Duration {
    succeed(environment, event).await.time()
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn progress(what: &str) {
    eprintln!("measuring {what}");
}
