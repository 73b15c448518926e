//! A warm request of each operation, the bare binary, and the least SQL: directly and through the pooler.

use std::time::{Duration, Instant};

use bench::Samples;
use harness::wire::Wire;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Bar, Bench, Report, megabytes, number,
    operation::{ELIGIBLE, Floor, Operation, Subject, connect, ids},
    progress, thousands, time,
};

/// The first requests connect, prepare and fill caches.
const WARMING: usize = 20;
/// Requests whose round trips are counted; the last of them counts.
const COUNTED: usize = 5;
const REPLAYED: i64 = 50;

/// A function on one way to the database, and its floor there.
struct Way {
    name: &'static str,
    database: String,
    floor: Floor,
}

/// The times of an operation on one way. Each round measures each of them once.
#[derive(Default)]
struct Times {
    function: Samples,
    bare: Samples,
    sql: Samples,
    order: Samples,
}

impl Operation {
    fn bar(self) -> f64 {
        match self {
            Self::Subscribe | Self::Status | Self::Lookup => 1.5,
            Self::Eligible | Self::Replay => 2.0,
            Self::Charge => 1.3,
        }
    }
}

impl Bench {
    pub async fn warm(&self, report: &mut Report) {
        progress("warm requests");
        let name = format!("head_{}", self.sizes[1]);
        let direct = self.url(&name);
        let mut ways = Vec::new();
        for (name, database) in [("warm", direct.clone()), ("through PgBouncer", self.pooled(&name))] {
            ways.push(Way { name, floor: Floor::connect(&database).await, database });
        }
        let mut fresh = ids(&direct, ELIGIBLE).await.into_iter().map(|id| Subject::of(&id));
        let (wire, wired) = Wire::before(&direct.parse().expect("a URL")).await;
        let bare = self.start("bare", &direct).await;
        let client = reqwest::Client::new();

        let (mut rows, mut memory) = (Vec::new(), Vec::new());
        for operation in Operation::ALL {
            let mut subjects: Box<dyn Iterator<Item = Subject>> = match operation {
                Operation::Replay => Box::new(charged(&direct).await.into_iter().cycle()),
                _ => Box::new(fresh.by_ref()),
            };
            let mut subject = || subjects.next().expect("enough subscriptions");
            let functions = [
                self.start(operation.function(), &ways[0].database).await,
                self.start(operation.function(), &ways[1].database).await,
            ];
            let mut times = [Times::default(), Times::default()];
            for round in 0..self.times(2000, 300) + WARMING {
                for ((way, function), times) in ways.iter_mut().zip(&functions).zip(&mut times) {
                    let event = operation.call(&subject()).event();
                    let bare = time(&bare, &event).await;
                    let function = time(function, &event).await;
                    let sql = way.floor.run(operation, &subject()).await;
                    let is_charge = operation == Operation::Charge;
                    let order = if is_charge { self.order(&client).await } else { Duration::ZERO };
                    if round >= WARMING {
                        times.push(function, bare, sql, order);
                    }
                }
            }
            let function = self.start(operation.function(), wired.as_str()).await;
            let mut round_trips = 0;
            for _ in 0..COUNTED {
                let before = wire.round_trips();
                time(&function, &operation.call(&subject()).event()).await;
                round_trips = wire.round_trips() - before;
            }

            let less = if operation == Operation::Charge { ", less its order" } else { "" };
            let mut row = vec![operation.name().to_owned(), round_trips.to_string()];
            for (way, times) in ways.iter().zip(&times) {
                let name = format!("{}: {}{less}", way.name, operation.name());
                let (measured, floor) = (times.function.p50() - times.order.p50(), times.floor());
                report.bar(Bar::at_most_of_floor(name, "ms", measured, floor, operation.bar()));
                row.extend([times.function.p50(), times.function.p99(), floor, measured / floor].map(number));
            }
            rows.push(row);
            if operation != Operation::Replay {
                memory.push((operation.function(), megabytes(functions[0].peak_memory())));
            }
        }
        let floor = megabytes(bare.peak_memory());
        for (function, peak) in memory {
            report.bar(Bar::at_most_of_floor(format!("peak memory: {function}"), "MB", peak, floor, 3.0));
        }
        report.table(
            "Warm request, ms",
            &format!(
                "On {} subscriptions. A charge's time includes its order, which its ratio does not: that is the platform's \
                 stand-in, asked by a bare reqwest loop. Round trips to the database are counted on the wire.",
                thousands(self.sizes[1])
            ),
            &[
                "operation",
                "round trips",
                "p50",
                "p99",
                "floor",
                "ratio",
                "through PgBouncer, p50",
                "p99",
                "floor",
                "ratio",
            ],
            rows,
        );
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
}

impl Times {
    fn push(&mut self, function: Duration, bare: Duration, sql: Duration, order: Duration) {
        self.function.push(function);
        self.bare.push(bare);
        self.sql.push(sql);
        self.order.push(order);
    }

    fn floor(&self) -> f64 {
        self.bare.p50() + self.sql.p50()
    }
}

/// Charges to be replayed.
async fn charged(database: &str) -> Vec<Subject> {
    let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
        "select subscription_id, request_id, id from charge_attempt where state = 'charged' order by id limit $1",
    )
    .bind(REPLAYED)
    .fetch_all(&mut connect(database).await)
    .await
    .expect("the ledger");
    rows.into_iter()
        .map(|(subscription_id, request_id, attempt_id)| Subject { subscription_id, request_id, attempt_id })
        .collect()
}
