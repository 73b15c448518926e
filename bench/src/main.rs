//! `make bench`: the release binaries next to their floors, in one run, interleaved, so that what else the machine does
//! falls on both. dev/bench.py sets the stage: the builds, the server and its databases.

mod report;
mod statements;

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use api_tests::{Call, wire::Wire};
use ecommerce_stub::{Behaviour, Credentials, Platform};
use futures_util::{TryStreamExt, future::join_all};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use bench::{environment::Environment, statistics::Samples};
use report::{Bar, Report, number};

const FUNCTIONS: [&str; 4] = ["subscribe", "status", "eligible", "charge"];
const ENVIRONMENTS: [usize; 3] = [1, 4, 16];
/// What the platform's stand-in takes where charges are counted.
const PLATFORM_MS: u64 = 100;
const PAGE: usize = 100_000;
/// About what one answer of Lambda can hold.
const WHOLE_LIST: usize = 150_000;

struct Bench {
    /// URL of the server, without a database.
    server: String,
    binaries: PathBuf,
    output: PathBuf,
    quick: bool,
    sizes: Vec<usize>,
    platform: Platform,
}

#[tokio::main]
async fn main() {
    let [server, binaries, output, sizes, quick] =
        env::args().skip(1).collect::<Vec<_>>().try_into().expect("dev/bench.py");
    rustls::crypto::ring::default_provider().install_default().expect("nobody else has");
    let credentials = Credentials { key: "key".to_owned(), secret: "secret".to_owned() };
    let bench = Bench {
        server,
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
    bench.writes(&mut report).await;
    bench.charges(&mut report).await;
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

    fn largest(&self) -> usize {
        self.sizes.iter().copied().max().unwrap_or_default()
    }

    /// Of the revision `head`, with so many subscriptions.
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

    async fn cold(&self, report: &mut Report) {
        progress("cold starts");
        let database = self.database(self.sizes[0]);
        let ids = eligible_ids(&database).await;
        let mut next: HashMap<&str, Samples> = HashMap::new();
        let mut answer: HashMap<&str, Samples> = HashMap::new();
        for id in ids.iter().take(self.times(200, 30)) {
            for function in FUNCTIONS.into_iter().chain(["bare"]) {
                let mut environment = self.start(function, &database).await;
                let call = call(function, id);
                answer.entry(function).or_default().push(environment.first_answer(&call.event()).await);
                next.entry(function).or_default().push(environment.first_next().await);
            }
        }
        let mut rows = Vec::new();
        for function in FUNCTIONS {
            let (ours, floor) = (next[function].p50(), next["bare"].p50());
            report.bar(Bar::at_most(format!("cold start to `/next`: {function}"), "ms", ours, floor, 1.3));
            rows.push(vec![
                function.to_owned(),
                number(ours),
                number(next[function].p99()),
                number(answer[function].p50()),
                number(answer[function].p99()),
                number(answer[function].p50() / answer["bare"].p50()),
            ]);
        }
        let (next, answer) = (&next["bare"], &answer["bare"]);
        rows.push(vec![
            "bare".to_owned(),
            number(next.p50()),
            number(next.p99()),
            number(answer.p50()),
            number(answer.p99()),
            String::new(),
        ]);
        report.table(
            "Cold start, ms from the start of the process",
            "To the first answer includes connecting to the database and the request itself; charge's includes the platform.",
            &["function", "to `/next`, p50", "p99", "to the first answer, p50", "p99", "to bare's"],
            rows,
        );
    }

    async fn warm(&self, report: &mut Report) {
        progress("warm requests");
        let database = self.database(self.sizes[1]);
        let ids = eligible_ids(&database).await;
        let (for_function, for_floor) = ids.split_at(ids.len() / 2);
        let mut connection = statements::connect(&database).await;
        let client = reqwest::Client::new();
        let (wire, wired) = Wire::before(&database).await;

        let mut bare = self.start("bare", &database).await;
        let (mut rows, mut memory) = (Vec::new(), Vec::new());
        for function in FUNCTIONS {
            let mut environment = self.start(function, &database).await;
            let (mut ours, mut least, mut statements, mut order) =
                (Samples::default(), Samples::default(), Samples::default(), Samples::default());
            // The first ones are for connecting, preparing and filling caches.
            let (rounds, warming) = (self.times(2000, 300), 20);
            for round in 0..rounds + warming {
                let event = call(function, &for_function[round]).event();
                let times = [
                    bare.succeed(&event).await,
                    environment.succeed(&event).await,
                    statements::run(function, &mut connection, &for_floor[round]).await,
                    self.order(&client).await,
                ];
                if round >= warming {
                    for (samples, time) in [&mut least, &mut ours, &mut statements, &mut order].into_iter().zip(times) {
                        samples.push(time);
                    }
                }
            }
            let platform = if function == "charge" { order.p50() } else { 0.0 };
            let (measured, floor) = (ours.p50() - platform, least.p50() + statements.p50());
            let less = if function == "charge" { ", less the platform's time" } else { "" };
            report.bar(Bar::at_most(format!("warm: {function}{less}"), "ms", measured, floor, 1.3));

            let mut through_wire = self.start(function, &wired).await;
            let mut round_trips = Vec::new();
            for round in 0..5 {
                let before = wire.round_trips();
                through_wire.succeed(&call(function, &for_function[rounds + warming + round]).event()).await;
                round_trips.push(wire.round_trips() - before);
            }
            rows.push(vec![
                function.to_owned(),
                number(ours.p50()),
                number(ours.p99()),
                number(least.p50()),
                number(least.p99()),
                number(statements.p50()),
                number(statements.p99()),
                if function == "charge" {
                    format!("{}, {}", number(platform), number(order.p99()))
                } else {
                    String::new()
                },
                round_trips[4].to_string(),
            ]);
            memory.push((function, environment.peak_memory()));
        }
        report.table(
            "Warm request, ms",
            &format!(
                "On {} subscriptions; eligible is a page of 100 ids. The statements are the function's own, run by a bare \
                 sqlx loop; the order is the platform's stand-in, asked by a bare reqwest loop. Round trips to the \
                 database are counted on the wire.",
                thousands(self.sizes[1])
            ),
            &["function", "p50", "p99", "bare, p50", "p99", "statements, p50", "p99", "order, p50 and p99", "round trips"],
            rows,
        );
        let floor = bare.peak_memory();
        for (function, peak) in memory {
            report.bar(Bar::at_most(format!("peak memory: {function}"), "MB", peak, floor, 3.0));
        }
    }

    /// An order at the platform's stand-in, as charge would send it.
    async fn order(&self, client: &reqwest::Client) -> Duration {
        let url = format!("{}/order/{}", self.platform.base_url(), Uuid::new_v4());
        let request = client
            .post(url)
            .header("x-api-key", "key")
            .header("x-api-secret", "secret")
            .json(&json!({ "customer_id": "c", "sku_id": 1 }));
        let started = Instant::now();
        let answer = request.send().await.expect("the stand-in answers");
        assert!(answer.status().is_success(), "{answer:?}");
        answer.bytes().await.expect("the whole answer");
        started.elapsed()
    }

    fn packages(&self, report: &mut Report) {
        let size = |path: PathBuf| megabytes(fs::metadata(path).expect("it was built").len());
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

    async fn eligible(&self, report: &mut Report) {
        let (mut rows, mut growth) = (Vec::new(), Vec::new());
        for &size in &self.sizes {
            progress(&format!("eligible of {}", thousands(size)));
            let database = self.database(size);
            let ids = eligible_ids(&database).await;
            let mut connection = PgConnection::connect(&database).await.expect("the database");
            let whole = ids.len() <= WHOLE_LIST;
            let last_page = ids.len().saturating_sub(PAGE).checked_sub(1).map(|place| ids[place].as_str());

            let mut for_pages = self.start("eligible", &database).await;
            let mut for_whole = self.start("eligible", &database).await;
            let [mut pages, mut first, mut last, mut list, mut floor, mut returned] =
                [(); 6].map(|()| Samples::default());
            for round in 0..=self.times(11, 4) {
                let (total, count, of_first) = read_pages(&mut for_pages).await;
                assert_eq!(count, ids.len());
                let of_last = for_pages.succeed(&page(PAGE, last_page).event()).await;
                let of_whole = if whole {
                    Some(for_whole.succeed(&Call::get("/subscription/eligible").event()).await)
                } else {
                    None
                };
                let of_floor = read_ids(&mut connection, size).await;
                let of_returned = read_ids(&mut connection, count).await;
                // The first time reads what later is in memory.
                if round > 0 {
                    pages.push(total);
                    first.push(of_first);
                    last.push(of_last);
                    floor.push(of_floor);
                    returned.push(of_returned);
                    of_whole.into_iter().for_each(|time| list.push(time));
                }
            }
            let memory = for_pages.peak_memory();
            growth.push((size, pages.p50(), floor.p50()));
            rows.push(vec![
                thousands(size),
                thousands(ids.len()),
                if whole { number(list.p50()) } else { "too large".to_owned() },
                number(pages.p50()),
                number(floor.p50()),
                number(pages.p50() / floor.p50()),
                number(pages.p50() / returned.p50()),
                number(first.p50()),
                number(last.p50()),
                number(last.p99()),
                if whole { number(for_whole.peak_memory()) } else { String::new() },
                number(memory),
            ]);
            if size == self.largest() {
                let name = format!("eligible of {}, page by page", thousands(size));
                report.bar(Bar::at_most(name, "ms", pages.p50(), floor.p50(), 6.0));
                let name = format!("its last {} against its first", thousands(PAGE.min(ids.len())));
                report.bar(Bar::at_most(name, "ms", last.p50(), first.p50(), 1.2));
                let name = format!("peak memory for a page of {}", thousands(PAGE.min(ids.len())));
                report.bar(Bar::below(name, "MB", memory, None, 60.0));
            }
        }
        report.table(
            "Eligible, ms",
            "The floor is `select id from subscription`, all of them, through the same driver; the second ratio is to as many rows of \
             it as are eligible.",
            &[
                "subscriptions",
                "eligible",
                "whole list",
                "page by page",
                "floor",
                "ratio",
                "to as many as eligible",
                "first page",
                "last page",
                "p99",
                "memory of the whole list, MB",
                "of pages, MB",
            ],
            rows,
        );
        report.eligible_growth = growth;
    }

    async fn writes(&self, report: &mut Report) {
        let largest = self.largest();
        let slices = self.times(9, 1);
        let (mut rows, mut functions) = (Vec::new(), Vec::new());
        for (size, name) in [(0, "an empty database".to_owned()), (largest, format!("one with {}", thousands(largest)))]
        {
            progress(&format!("writes into {name}"));
            let (first, head) = (self.url(&format!("first_{size}")), self.database(size));
            for kind in ["subscribe", "status"] {
                let mut ratios = Vec::new();
                let mut row = vec![format!("{kind}, {name}")];
                for writers in ENVIRONMENTS {
                    let (mut on_first, mut on_head) = (Vec::new(), Vec::new());
                    for _ in 0..slices {
                        on_first.push(insert_rate(kind, &first, writers).await);
                        on_head.push(insert_rate(kind, &head, writers).await);
                    }
                    let (on_first, on_head) = (median(on_first), median(on_head));
                    ratios.push(on_head / on_first);
                    row.extend([number(on_head), number(on_first), number(on_head / on_first)]);
                }
                rows.push(row);
                report.bar(Bar::at_least(
                    format!("writes: {kind} into {name}"),
                    "of the first revision's",
                    median(ratios),
                    0.7,
                ));

                let mut row = vec![format!("{kind}, {name}")];
                for writers in ENVIRONMENTS {
                    row.push(number(self.write_rate(kind, &head, writers).await));
                }
                functions.push(row);
            }
        }
        report.table(
            "Rows inserted per second",
            "The functions' rows by a bare sqlx loop, from 1, 4 and 16 connections: with our indexes, triggers and views (head) \
             and on the bare first revision. What is judged is the median of the three ratios.",
            &["", "1: head", "first", "ratio", "4: head", "first", "ratio", "16: head", "first", "ratio"],
            rows,
        );
        report.table(
            "Requests answered per second",
            "By so many environments, each one after the other.",
            &["", "1", "4", "16"],
            functions,
        );
    }

    /// Requests per second of so many environments.
    async fn write_rate(&self, kind: &str, database: &str, environments: usize) -> f64 {
        let ids = Arc::new(some_ids(database).await);
        let all = join_all((0..environments).map(|_| self.start(kind, database))).await;
        self.rate(kind, all, ids).await
    }

    async fn rate(&self, kind: &str, environments: Vec<Environment>, ids: Arc<Vec<String>>) -> f64 {
        let next = Arc::new(AtomicUsize::new(0));
        let time = Duration::from_millis(if self.quick { 700 } else { 3000 });
        let work = environments.into_iter().map(|mut environment| {
            let (kind, ids, next) = (kind.to_owned(), Arc::clone(&ids), Arc::clone(&next));
            tokio::spawn(async move {
                // Not counted: it starts, and connects.
                environment.succeed(&call(&kind, &ids[next.fetch_add(1, Ordering::Relaxed) % ids.len()]).event()).await;
                let (started, mut done) = (Instant::now(), 0_u32);
                while started.elapsed() < time {
                    environment
                        .succeed(&call(&kind, &ids[next.fetch_add(1, Ordering::Relaxed) % ids.len()]).event())
                        .await;
                    done += 1;
                }
                f64::from(done) / started.elapsed().as_secs_f64()
            })
        });
        join_all(work).await.into_iter().map(|rate| rate.expect("no panic")).sum()
    }

    async fn charges(&self, report: &mut Report) {
        progress("charges");
        let database = self.database(self.sizes[1]);
        let mut connection = PgConnection::connect(&database).await.expect("the database");
        let charged: HashSet<String> = sqlx::query_scalar("select subscription_id from charge_attempt")
            .fetch_all(&mut connection)
            .await
            .expect("the ledger")
            .into_iter()
            .collect();
        let mut fresh = eligible_ids(&database).await;
        fresh.retain(|id| !charged.contains(id));
        self.platform.behave(Behaviour { delay_ms: PLATFORM_MS, ..Behaviour::default() });
        let mut environment = self.start("charge", &database).await;
        let client = reqwest::Client::new();
        let (mut ours, mut order) = (Samples::default(), Samples::default());
        let (one_by_one, fresh) = fresh.split_at(self.times(60, 15));
        for id in one_by_one {
            ours.push(environment.succeed(&call("charge", id).event()).await);
            order.push(self.order(&client).await);
        }
        let mut rows = Vec::new();
        let mut fresh = fresh.chunks(fresh.len() / ENVIRONMENTS.len());
        for environments in ENVIRONMENTS {
            let ids = Arc::new(fresh.next().expect("one for each").to_vec());
            let all = join_all((0..environments).map(|_| self.start("charge", &database))).await;
            let rate = self.rate("charge", all, ids).await;
            #[allow(clippy::cast_precision_loss)]
            let most = environments as f64 * 1000.0 / PLATFORM_MS as f64;
            report.charge_growth.push((environments, rate, most));
            rows.push(vec![environments.to_string(), number(rate), number(most), number(rate / most)]);
        }
        report.table(
            &format!("Charges per second, where the platform takes {PLATFORM_MS} ms"),
            &format!(
                "One by one, a charge takes {} ms (p99 {}) where the bare order takes {} (p99 {}): {} ms are added.",
                number(ours.p50()),
                number(ours.p99()),
                number(order.p50()),
                number(order.p99()),
                number(ours.p50() - order.p50())
            ),
            &["environments", "charges", "at most", "ratio"],
            rows,
        );
    }
}

/// A call that succeeds, of this subscription if it is of any.
fn call(function: &str, id: &str) -> Call {
    match function {
        "subscribe" => Call::subscribe(1, &Uuid::new_v4().to_string()),
        "status" => Call::post(format!("/subscription/{id}/status"), json!({ "status_id": 1, "details": "as it was" })),
        "charge" => Call::charge(id, &Uuid::new_v4().to_string()),
        _ => page(100, None),
    }
}

fn page(limit: usize, after: Option<&str>) -> Call {
    let call = Call::get("/subscription/eligible").query("limit", &limit.to_string());
    after.into_iter().fold(call, |call, after| call.query("after", after))
}

/// All pages: how long they took, how many ids they had, how long the first took.
async fn read_pages(environment: &mut Environment) -> (Duration, usize, Duration) {
    let (mut total, mut count, mut first) = (Duration::ZERO, 0, None);
    let mut after: Option<String> = None;
    loop {
        let (time, payload) = environment.invoke(&page(PAGE, after.as_deref()).event()).await;
        total += time;
        first.get_or_insert(time);
        let answer: Value = serde_json::from_slice(&payload).expect("an answer");
        let ids: Vec<String> = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("a list of ids");
        count += ids.len();
        let more = ["headers", "multiValueHeaders"].iter().any(|headers| !answer[headers]["link"].is_null());
        match ids.into_iter().next_back().filter(|_| more) {
            None => return (total, count, first.unwrap_or_default()),
            last => after = last,
        }
    }
}

/// The floor: so many ids, in no order.
async fn read_ids(connection: &mut PgConnection, count: usize) -> Duration {
    let started = Instant::now();
    let mut ids = sqlx::query_scalar::<_, String>("select id from subscription limit $1")
        .bind(i64::try_from(count).expect("a count"))
        .fetch(connection);
    let mut found = 0;
    while let Some(id) = ids.try_next().await.expect("the database") {
        found += usize::from(!id.is_empty());
    }
    assert_eq!(found, count);
    started.elapsed()
}

async fn eligible_ids(database: &str) -> Vec<String> {
    let mut connection = statements::connect(database).await;
    statements::eligible(&mut connection, None).await
}

async fn some_ids(database: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(database).await.expect("the database");
    let ids = sqlx::query_scalar("select id from subscription limit 50000")
        .fetch_all(&mut connection)
        .await
        .expect("the database");
    // An empty database's first subscription has no other yet.
    if ids.is_empty() { vec![String::new()] } else { ids }
}

/// How many a second so many connections insert.
async fn insert_rate(kind: &str, database: &str, connections: usize) -> f64 {
    let ids = Arc::new(some_ids(database).await);
    let all = join_all((0..connections).map(|_| PgConnection::connect(database))).await;
    let work = all.into_iter().enumerate().map(|(worker, connection)| {
        let (kind, ids, mut connection) = (kind.to_owned(), Arc::clone(&ids), connection.expect("the database"));
        tokio::spawn(async move {
            let (started, mut done) = (Instant::now(), 0_usize);
            while started.elapsed() < Duration::from_millis(500) {
                let id = &ids[(done * 31 + worker * 7919) % ids.len()];
                statements::insert(&kind, &mut connection, id).await;
                done += 1;
            }
            #[allow(clippy::cast_precision_loss)]
            let done = done as f64;
            done / started.elapsed().as_secs_f64()
        })
    });
    join_all(work).await.into_iter().map(|rate| rate.expect("no panic")).sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn progress(what: &str) {
    eprintln!("measuring {what}");
}
