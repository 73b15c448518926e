//! `make bench`: the release binaries and their floors, measured in turns, so that other work of the machine slows both.
//! dev/bench.py prepares the builds, the server, its databases and the pooler.

mod bill_run;
mod charges;
mod clubs;
mod cold;
mod databases;
mod eligible;
mod histories;
mod operation;
mod packages;
mod plans;
mod report;
mod warm;
mod writes;

use std::{
    collections::HashMap,
    env,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bench::environment::Environment;
use ecommerce_stub::{Credentials, Platform};
use futures_util::future::join_all;

use operation::{Operation, Subject};
use report::{Bar, Report, number, thousands};

const ENVIRONMENTS: [usize; 3] = [1, 4, 16];

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
    let credentials = Credentials { key: "key".to_owned(), secret: "secret".to_owned() };
    let bench = Bench {
        server,
        pooler,
        binaries: binaries.into(),
        output: output.into(),
        quick: quick == "quick",
        sizes: sizes.split(',').map(|size| size.parse().expect("a number of subscriptions")).collect(),
        platform: Platform::start(0, credentials).await.expect("a free port"),
    };
    let mut report = Report::default();
    bench.cold(&mut report).await;
    bench.warm(&mut report).await;
    bench.packages(&mut report);
    bench.eligible(&mut report).await;
    bench.clubs(&mut report).await;
    bench.histories(&mut report).await;
    bench.plans(&mut report).await;
    bench.writes(&mut report).await;
    bench.charges(&mut report).await;
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
        let settings = HashMap::from([
            ("DATABASE_URL".to_owned(), database.to_owned()),
            ("ECOMMERCE_BASE_URL".to_owned(), self.platform.base_url()),
            ("ECOMMERCE_API_KEY".to_owned(), "key".to_owned()),
            ("ECOMMERCE_API_SECRET".to_owned(), "secret".to_owned()),
        ]);
        Environment::start(&self.binary(function), &settings).await
    }

    /// Requests per second of these environments, each one after the other.
    async fn rate(&self, function: &str, environments: Vec<Environment>, ids: Arc<Vec<String>>) -> f64 {
        let (operation, next) = (Operation::of(function), Arc::new(AtomicUsize::new(0)));
        let time = Duration::from_millis(if self.quick { 700 } else { 3000 });
        let work = environments.into_iter().map(|mut environment| {
            let (ids, next) = (Arc::clone(&ids), Arc::clone(&next));
            tokio::spawn(async move {
                // The first call starts and connects, and is not counted.
                let event = || {
                    let id = &ids[next.fetch_add(1, Ordering::Relaxed) % ids.len()];
                    operation.call(&Subject::of(id)).event()
                };
                environment.succeed(&event()).await;
                let (started, mut done) = (Instant::now(), 0_u32);
                while started.elapsed() < time {
                    environment.succeed(&event()).await;
                    done += 1;
                }
                f64::from(done) / started.elapsed().as_secs_f64()
            })
        });
        join_all(work).await.into_iter().map(|rate| rate.expect("no panic")).sum()
    }
}

fn progress(what: &str) {
    eprintln!("measuring {what}");
}
