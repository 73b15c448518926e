//! A warm request of each operation, the bare binary, and the least SQL: directly and through the pooler.

use std::{
    iter,
    time::{Duration, Instant},
};

use bench::{environment::Environment, statistics::Samples};
use harness::wire::Wire;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Bar, Bench, Report, number,
    operation::{self, Floor, Operation, Statements, Subject, eligible_ids},
    progress, thousands,
};

/// The first requests connect, prepare and fill caches.
const WARMING: usize = 20;
/// Requests whose round trips are counted; the last of them counts.
const COUNTED: usize = 5;
const REPLAYED: i64 = 50;

/// One operation's times. Each round measures each of them once.
#[derive(Default)]
struct Times {
    bare: Samples,
    direct: Samples,
    floor: Samples,
    statements: Samples,
    pooled: Samples,
    pooled_floor: Samples,
    order: Samples,
}

struct Warm {
    bare: Environment,
    floor: Floor,
    statements: Statements,
    pooled_floor: Floor,
    pooled_statements: Statements,
    client: reqwest::Client,
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
        let (direct, pooled) = (self.url(&name), self.pooled(&name));
        let mut fresh = eligible_ids(&direct).await.into_iter().map(|id| Subject::of(&id));
        let (wire, wired) = Wire::before(&direct.parse().expect("a URL")).await;
        let mut warm = Warm {
            bare: self.start("bare", &direct).await,
            floor: Floor::connect(&direct).await,
            statements: Statements::connect(&direct).await,
            pooled_floor: Floor::connect(&pooled).await,
            pooled_statements: Statements::connect(&pooled).await,
            client: reqwest::Client::new(),
        };

        let (mut rows, mut pooled_rows, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for operation in Operation::ALL {
            let mut subjects: Box<dyn Iterator<Item = Subject>> = match operation {
                Operation::Replay => Box::new(charged(&direct).await.into_iter().cycle()),
                _ => Box::new(fresh.by_ref()),
            };
            let mut subject = || subjects.next().expect("enough subscriptions");
            let mut for_direct = self.start(operation.function(), &direct).await;
            let mut for_pooled = self.start(operation.function(), &pooled).await;
            let mut times = Times::default();
            for round in 0..self.times(2000, 300) + WARMING {
                let taken = self.round(operation, &mut warm, &mut for_direct, &mut for_pooled, &mut subject).await;
                if round >= WARMING {
                    times.push(taken);
                }
            }
            let mut through_wire = self.start(operation.function(), wired.as_str()).await;
            let mut round_trips = 0;
            for _ in 0..COUNTED {
                let before = wire.round_trips();
                through_wire.succeed(&operation.call(&subject()).event()).await;
                round_trips = wire.round_trips() - before;
            }

            rows.push(times.row(operation, round_trips));
            pooled_rows.push(times.pooled_row(operation));
            times.judge(operation, report);
            if operation != Operation::Replay {
                memory.push((operation.function(), for_direct.peak_memory()));
            }
        }
        let floor = warm.bare.peak_memory();
        for (function, peak) in memory {
            report.bar(Bar::at_most_of_floor(format!("peak memory: {function}"), "MB", peak, floor, 3.0));
        }
        report.table(
            "Warm request, ms",
            &format!(
                "On {} subscriptions. The ratio is to bare and the least SQL together; a charge's, less its order, to bare and \
                 its own statements. Its own statements are the function's calls of the database, without the function; the \
                 order is the platform's stand-in, asked by a bare reqwest loop. Round trips to the database are counted on \
                 the wire.",
                thousands(self.sizes[1])
            ),
            &[
                "operation",
                "p50",
                "p99",
                "bare, p50",
                "least SQL, p50",
                "p99",
                "ratio",
                "its own statements, p50",
                "p99",
                "order, p50",
                "round trips",
            ],
            rows,
        );
        report.table(
            "Warm request through PgBouncer, ms",
            "The same, with the function and the SQL that it is compared with through the pooler.",
            &["operation", "p50", "p99", "bare, p50", "SQL, p50", "p99", "ratio", "to p50 without PgBouncer"],
            pooled_rows,
        );
    }

    async fn round(
        &self,
        operation: Operation,
        warm: &mut Warm,
        direct: &mut Environment,
        pooled: &mut Environment,
        subject: &mut impl FnMut() -> Subject,
    ) -> [Duration; 7] {
        let event = operation.call(&subject()).event();
        let (bare_time, direct_time) = (warm.bare.succeed(&event).await, direct.succeed(&event).await);
        let statements = warm.statements.run(operation, &subject()).await;
        let pooled_time = pooled.succeed(&operation.call(&subject()).event()).await;
        let (floor, pooled_floor, order) = if operation == Operation::Charge {
            let pooled_statements = warm.pooled_statements.run(operation, &subject()).await;
            (statements, pooled_statements, self.order(&warm.client).await)
        } else {
            let floor = warm.floor.run(operation, &subject()).await;
            (floor, warm.pooled_floor.run(operation, &subject()).await, Duration::ZERO)
        };
        [bare_time, direct_time, floor, statements, pooled_time, pooled_floor, order]
    }

    /// An order at the platform's stand-in, as charge would send it.
    pub async fn order(&self, client: &reqwest::Client) -> Duration {
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
    fn push(&mut self, round: [Duration; 7]) {
        let Self { bare, direct, floor, statements, pooled, pooled_floor, order } = self;
        for (samples, time) in iter::zip([bare, direct, floor, statements, pooled, pooled_floor, order], round) {
            samples.push(time);
        }
    }

    fn judge(&self, operation: Operation, report: &mut Report) {
        let order = self.order.p50();
        let less = if operation == Operation::Charge { ", less its order" } else { "" };
        for (way, measured, sql) in
            [("warm", &self.direct, &self.floor), ("through PgBouncer", &self.pooled, &self.pooled_floor)]
        {
            let name = format!("{way}: {}{less}", operation.name());
            let floor = self.bare.p50() + sql.p50();
            report.bar(Bar::at_most_of_floor(name, "ms", measured.p50() - order, floor, operation.bar()));
        }
    }

    fn row(&self, operation: Operation, round_trips: usize) -> Vec<String> {
        let is_charge = operation == Operation::Charge;
        let of_least_sql = |value: f64| if is_charge { String::new() } else { number(value) };
        let floor = self.bare.p50() + self.floor.p50();
        vec![
            operation.name().to_owned(),
            number(self.direct.p50()),
            number(self.direct.p99()),
            number(self.bare.p50()),
            of_least_sql(self.floor.p50()),
            of_least_sql(self.floor.p99()),
            number((self.direct.p50() - self.order.p50()) / floor),
            number(self.statements.p50()),
            number(self.statements.p99()),
            if is_charge { number(self.order.p50()) } else { String::new() },
            round_trips.to_string(),
        ]
    }

    fn pooled_row(&self, operation: Operation) -> Vec<String> {
        let floor = self.bare.p50() + self.pooled_floor.p50();
        vec![
            operation.name().to_owned(),
            number(self.pooled.p50()),
            number(self.pooled.p99()),
            number(self.bare.p50()),
            number(self.pooled_floor.p50()),
            number(self.pooled_floor.p99()),
            number((self.pooled.p50() - self.order.p50()) / floor),
            number(self.pooled.p50() / self.direct.p50()),
        ]
    }
}

/// Charges to be replayed.
async fn charged(database: &str) -> Vec<Subject> {
    let mut connection = operation::connect(database).await;
    let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
        "select subscription_id, request_id, id from charge_attempt where state = 'charged' order by id limit $1",
    )
    .bind(REPLAYED)
    .fetch_all(&mut connection)
    .await
    .expect("the ledger");
    rows.into_iter()
        .map(|(subscription_id, request_id, attempt_id)| Subject { subscription_id, request_id, attempt_id })
        .collect()
}
