//! `make scale`: hundreds of environments call at once while an operator truncates. First a transaction pooler shares a
//! few server connections among them, then each connects directly. dev/scale.py prepares the server and the pooler.

mod load;
mod operator;
mod sessions;
mod turns;

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use ecommerce_stub::{Behaviour, Platform};
use futures_util::{StreamExt, stream};
use harness::Environment;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout},
};

use load::{Crowd, Record, World};

/// The platform takes long enough for several charges of a subscription to meet.
const PLATFORM_MS: u64 = 50;
/// A load that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);
/// Processes that start at the same moment. More would wait for the processor until their connections time out.
const STARTING: usize = 16;

struct Stage {
    /// URL of the server, without a database.
    server: String,
    /// URL of the pooler, without a database.
    pooler: String,
    /// URL of the server with few connections, without a database.
    small_server: String,
    binaries: PathBuf,
    environments: usize,
    /// The size of the pooler's pool.
    connections: usize,
}

/// The results of one load.
struct Run {
    record: Record,
    took: Duration,
    /// The most server connections at the same moment.
    connections: usize,
    truncates: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let [server, pooler, small_server, binaries, environments, connections] =
        env::args().skip(1).collect::<Vec<_>>().try_into().expect("dev/scale.py");
    rustls::crypto::ring::default_provider().install_default().expect("the first one");
    let stage = Stage {
        server,
        pooler,
        small_server,
        binaries: binaries.into(),
        environments: environments.parse().expect("a number of processes"),
        connections: connections.parse().expect("a number of connections"),
    };
    // Dropping the load ends its processes.
    let mut terminated = signal(SignalKind::terminate()).expect("a signal handler");
    select! {
        code = check(&stage) => code,
        _ = terminated.recv() => ExitCode::FAILURE,
    }
}

async fn check(stage: &Stage) -> ExitCode {
    let pooled = stage.run("pooled", &stage.pooler).await;
    let most = stage.connections;
    pooled.record.check(pooled.connections <= most, || format!("{} server connections", pooled.connections));
    sessions::check_defaults(&stage.url("pooled"), &format!("{}/pooled", stage.pooler), most, &pooled.record).await;
    let direct = stage.run("direct", &stage.server).await;
    for (way, Run { record, took, connections, truncates }) in [("through PgBouncer", &pooled), ("directly", &direct)] {
        let (processes, took) = (stage.environments, took.as_secs_f64());
        let what = format!(
            "{processes} processes {way}: {connections} server connections, {truncates} truncates, {took:.1} s"
        );
        print(&what, &load::FUNCTIONS, record);
    }
    let turns = stage.turns(&stage.small_server, "turns").await;
    let (slowest, login) = (turns.slowest.as_millis(), turns.slowest_login.as_millis());
    let what = format!(
        "in turn, on 100 connections: slowest answer {slowest} ms; slowest of {} logins {login} ms",
        turns.logins
    );
    print(&what, &turns::FUNCTIONS, &turns.record);

    let mut code = ExitCode::SUCCESS;
    for (name, record) in [("through the pooler", pooled.record), ("direct", direct.record), ("in turn", turns.record)]
    {
        for (problem, count) in record.into_problems() {
            println!("FAILED {name}: {problem} ({count} times)");
            code = ExitCode::FAILURE;
        }
    }
    code
}

impl Stage {
    /// The URL of a database, directly.
    fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server)
    }

    async fn platform(&self) -> Platform {
        let platform = bench::platform().await;
        platform.behave(Behaviour { delay_ms: PLATFORM_MS, ..Behaviour::default() });
        platform
    }

    async fn start(
        &self,
        functions: Vec<&'static str>,
        database: &str,
        platform: &Platform,
        settings: &[(&str, &str)],
    ) -> Vec<(&'static str, Environment)> {
        let environments = stream::iter(functions).map(async |function| {
            let environment = bench::start(&self.binaries.join(function), database, platform, settings).await;
            environment.first_next().await;
            (function, environment)
        });
        environments.buffer_unordered(STARTING).collect().await
    }

    /// The load on this database, which the functions reach by that server or pooler.
    async fn run(&self, database: &str, reached_by: &str) -> Run {
        let url = self.url(database);
        // The server has a connection for each process, so nobody waits for one. Processes that share two cores with it would
        // need more time to connect again than to call.
        let settings = [("DATABASE_IDLE_TIMEOUT_MS", "0")];
        let settings = if reached_by == self.server { &settings[..] } else { &[] };
        let functions = Crowd::functions(self.environments);
        let world = World::create(&url, &functions).await;
        eprintln!("starting {} processes, {database}", self.environments);
        let platform = self.platform().await;
        let reached_at = format!("{reached_by}/{database}");
        let crowd = Crowd::of(self.start(functions, &reached_at, &platform, settings).await);

        eprintln!("calling them all at once");
        let record = Record::default();
        // Often enough to meet every kind of call, and rarely enough that calls succeed.
        let operator = tokio::spawn(operator::truncate(url.clone(), record.progress(), self.environments / 8));
        let sampler = tokio::spawn(sessions::count_most(url.clone(), record.progress()));
        let started = Instant::now();
        let ended = timeout(PATIENCE, load::run(crowd, &world, &record)).await.is_ok();
        let took = started.elapsed();
        record.check(ended, || "the load does not end".to_owned());
        record.end();
        let (truncates, errors) = operator.await.expect("no panic");
        for error in errors {
            record.problem(format!("the operator is ended: {error}"));
        }
        let connections = sampler.await.expect("no panic");
        if ended {
            load::check_effects(&url, &world, &platform, &record).await;
        }
        Run { record, took, connections, truncates }
    }
}

fn print(what: &str, functions: &[&'static str], record: &Record) {
    println!("\n{what}\n{:<12}{:>9}{:>9}{:>9}", "", "answers", "p50, ms", "p99, ms");
    for function in functions {
        let [answers, p50, p99] = record.summary(function);
        println!("{function:<12}{answers:>9}{p50:>9}{p99:>9}");
    }
    for (answer, times) in record.repeats() {
        println!("charges repeated because of {answer}: {times}");
    }
}
