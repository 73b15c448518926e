//! `make scale`: hundreds of environments call at once while an operator truncates. First a transaction pooler shares a
//! few server connections among them, then each connects directly. dev/scale.py prepares the server and the pooler.

mod load;
mod operator;
mod sessions;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use bench::environment::Environment;
use ecommerce_stub::{Behaviour, Credentials, Platform};
use futures_util::{StreamExt, stream};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout},
};

use load::{Crowd, Record, World};
use turns::Turns;

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
    print(stage, &pooled, &direct);
    let turns = stage.turns(&stage.small_server, "turns").await;
    print_turns(&turns);

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

    /// The platform, and the settings of functions that reach the database by this URL.
    async fn surroundings(&self, url: &str) -> (Platform, HashMap<String, String>) {
        let credentials = Credentials { key: "key".to_owned(), secret: "secret".to_owned() };
        let platform = Platform::start(0, credentials).await.expect("a free port");
        platform.behave(Behaviour { delay_ms: PLATFORM_MS, ..Behaviour::default() });
        let settings = HashMap::from([
            ("DATABASE_URL".to_owned(), url.to_owned()),
            ("ECOMMERCE_BASE_URL".to_owned(), platform.base_url()),
            ("ECOMMERCE_API_KEY".to_owned(), "key".to_owned()),
            ("ECOMMERCE_API_SECRET".to_owned(), "secret".to_owned()),
        ]);
        (platform, settings)
    }

    async fn start(
        &self,
        functions: Vec<&'static str>,
        settings: &HashMap<String, String>,
    ) -> Vec<(&'static str, Environment)> {
        let environments = stream::iter(functions).map(async |function| {
            let mut environment = Environment::start(&self.binaries.join(function), settings).await;
            environment.first_next().await;
            (function, environment)
        });
        environments.buffer_unordered(STARTING).collect().await
    }

    /// The load on this database, which the functions reach by that server or pooler.
    async fn run(&self, database: &str, reached_by: &str) -> Run {
        let url = self.url(database);
        let (platform, mut settings) = self.surroundings(&format!("{reached_by}/{database}")).await;
        if reached_by == self.server {
            // This server has a connection for each process, so nobody waits for one. Processes that share two cores
            // with it would need more time to connect again than to call.
            settings.insert("DATABASE_IDLE_TIMEOUT_MS".to_owned(), "0".to_owned());
        }
        let functions = Crowd::functions(self.environments);
        let world = World::create(&url, &functions).await;
        eprintln!("starting {} processes, {database}", self.environments);
        let crowd = Crowd::of(self.start(functions, &settings).await);

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

fn print(stage: &Stage, pooled: &Run, direct: &Run) {
    println!("\n{} processes; p50 and p99 in ms", stage.environments);
    let heads = ["", "through PgBouncer", "", "", "direct", "", ""];
    let columns = ["function", "answers", "p50", "p99", "answers", "p50", "p99"];
    let mut rows = vec![heads.map(str::to_owned), columns.map(str::to_owned)];
    for function in load::FUNCTIONS {
        let [pooled, direct] = [pooled, direct].map(|run| run.record.summary(function));
        let [a, b, c] = pooled;
        let [d, e, f] = direct;
        rows.push([function.to_owned(), a, b, c, d, e, f]);
    }
    for (what, of) in [
        ("server connections", (|run| run.connections.to_string()) as fn(&Run) -> String),
        ("truncates", |run| run.truncates.to_string()),
        ("seconds", |run| format!("{:.1}", run.took.as_secs_f64())),
    ] {
        let none = String::new;
        rows.push([what.to_owned(), of(pooled), none(), none(), of(direct), none(), none()]);
    }
    let repeats = [pooled, direct].map(|run| run.record.repeats());
    let kinds: BTreeSet<&String> = repeats.iter().flat_map(BTreeMap::keys).collect();
    for kind in kinds {
        let [pooled, direct] = repeats.each_ref().map(|of| of.get(kind).unwrap_or(&0).to_string());
        let none = String::new;
        rows.push([format!("charge repeats {kind}"), pooled, none(), none(), direct, none(), none()]);
    }
    for [first, rest @ ..] in rows {
        print!("{first:<42}");
        rest.iter().for_each(|cell| print!("{cell:>9}"));
        println!();
    }
}

fn print_turns(turns: &Turns) {
    println!("\n{:<42}{:>9}{:>9}{:>9}", "in turn, on 100 connections", "answers", "p50", "p99");
    for function in turns::FUNCTIONS {
        let [answers, p50, p99] = turns.record.summary(function);
        println!("{function:<42}{answers:>9}{p50:>9}{p99:>9}");
    }
    let (slowest, login) = (turns.slowest.as_millis(), turns.slowest_login.as_millis());
    println!("slowest answer {slowest} ms; slowest of {} logins {login} ms", turns.logins);
}
