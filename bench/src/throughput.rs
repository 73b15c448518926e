//! Rows inserted per second, with our indexes, triggers and views and without them; requests answered per second.

use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use ecommerce_stub::Behaviour;
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, query};
use uuid::Uuid;

use crate::{
    Bar, Bench, Report, number,
    operation::{Operation, Subject, connect, ids},
    progress, succeed, thousands,
};

/// Environments or connections at the same time.
const AT_ONCE: [usize; 3] = [1, 4, 16];
const SOME: &str = "select id from subscription limit 50000";
/// The subscriptions that are eligible and were never charged.
const UNCHARGED: &str = "
    select id from (select unnest(eligible_subscriptions(null, null, null, null, 600)) as id) eligible
    where not exists (select from charge_attempt where subscription_id = eligible.id)";
/// The time that the platform's stand-in takes for an order.
const PLATFORM_MS: u64 = 100;

impl Bench {
    pub async fn throughput(&self, report: &mut Report) {
        let largest = self.largest();
        let (mut inserted, mut answered) = (Vec::new(), Vec::new());
        for (size, name, bar) in
            [(0, "an empty database".to_owned(), 0.7), (largest, format!("one with {}", thousands(largest)), 0.75)]
        {
            progress(&format!("writes into {name}"));
            let (first, head) = (self.url(&format!("first_{size}")), self.database(size));
            for operation in [Operation::Subscribe, Operation::Status] {
                let kind = operation.name();
                let (mut row, mut ratios) = (vec![format!("{kind}, {name}")], Vec::new());
                for writers in AT_ONCE {
                    let (mut on_first, mut on_head) = (Vec::new(), Vec::new());
                    for _ in 0..self.times(9, 1) {
                        on_first.push(insert_rate(operation, &first, writers).await);
                        on_head.push(insert_rate(operation, &head, writers).await);
                    }
                    let (on_first, on_head) = (median(on_first), median(on_head));
                    ratios.push(on_head / on_first);
                    row.extend([on_head, on_first, on_head / on_first].map(number));
                }
                inserted.push(row);
                let row_name = format!("{kind}, {name}");
                let bar_name = format!("writes: {kind} into {name}");
                report.bar(Bar::at_least(bar_name, "of the first revision's", median(ratios), bar));
                answered.push(self.rates(operation, row_name, &head, ids(&head, SOME).await).await);
            }
        }
        progress("charges");
        self.platform.behave(Behaviour { delay_ms: PLATFORM_MS, ..Behaviour::default() });
        let database = self.database(self.sizes[1]);
        let uncharged = ids(&database, UNCHARGED).await;
        answered.push(self.rates(Operation::Charge, "charge".to_owned(), &database, uncharged).await);
        report.table(
            "Rows inserted per second",
            "The functions' rows by a bare sqlx loop, from 1, 4 and 16 connections: with our indexes, triggers and views (head) \
             and on the bare first revision. What is judged is the median of the three ratios.",
            &["", "1: head", "first", "ratio", "4: head", "first", "ratio", "16: head", "first", "ratio"],
            inserted,
        );
        report.table(
            "Requests answered per second",
            &format!(
                "By 1, 4 and 16 environments, each with one request at a time. For a charge the platform takes {PLATFORM_MS} ms, \
                 so an environment makes 10 a second at most."
            ),
            &["", "1", "4", "16"],
            answered,
        );
    }

    /// Requests per second of 1, 4 and 16 environments. Each charge is about another subscription.
    async fn rates(&self, operation: Operation, name: String, database: &str, ids: Vec<String>) -> Vec<String> {
        let (ids, next) = (Arc::new(ids), Arc::new(AtomicUsize::new(0)));
        let time = Duration::from_millis(if self.quick { 700 } else { 3000 });
        let mut row = vec![name];
        for environments in AT_ONCE {
            let mut work = Vec::new();
            for _ in 0..environments {
                let environment = self.start(operation.function(), database).await;
                let (ids, next) = (Arc::clone(&ids), Arc::clone(&next));
                work.push(tokio::spawn(async move {
                    let event = || {
                        let place = next.fetch_add(1, Ordering::Relaxed) % ids.len().max(1);
                        // An empty database has no ids.
                        operation.call(&Subject::of(ids.get(place).map_or("", String::as_str))).event()
                    };
                    // The first call starts and connects, and is not counted.
                    succeed(&environment, &event()).await;
                    let (started, mut done) = (Instant::now(), 0_u32);
                    while started.elapsed() < time {
                        succeed(&environment, &event()).await;
                        done += 1;
                    }
                    f64::from(done) / started.elapsed().as_secs_f64()
                }));
            }
            row.push(number(join_all(work).await.into_iter().map(|rate| rate.expect("no panic")).sum()));
        }
        row
    }
}

/// Rows per second, inserted through this many connections.
async fn insert_rate(operation: Operation, database: &str, connections: usize) -> f64 {
    let ids = Arc::new(ids(database, SOME).await);
    let all = join_all((0..connections).map(|_| connect(database))).await;
    let work = all.into_iter().enumerate().map(|(worker, mut connection)| {
        let ids = Arc::clone(&ids);
        tokio::spawn(async move {
            let (started, mut done) = (Instant::now(), 0_usize);
            while started.elapsed() < Duration::from_millis(500) {
                let id = ids.get((done * 31 + worker * 7919) % ids.len().max(1)).map_or("", String::as_str);
                insert(operation, &mut connection, id).await;
                done += 1;
            }
            done as f64 / started.elapsed().as_secs_f64()
        })
    });
    join_all(work).await.into_iter().map(|rate| rate.expect("no panic")).sum()
}

/// Only the rows of one request, so that it works on the first revision too.
async fn insert(operation: Operation, connection: &mut PgConnection, id: &str) {
    let entry = "insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
        values ($1, $2, 1, now() at time zone 'UTC', now() at time zone 'UTC')";
    let new = Uuid::new_v4().to_string();
    if operation == Operation::Status {
        query(entry).bind(new).bind(id).execute(connection).await.expect("the entry");
        return;
    }
    let mut transaction = connection.begin().await.expect("the database");
    query(
        "insert into subscription (id, club_id, customer_store_id, create_date)
         values ($1, 1, $2, now() at time zone 'UTC')",
    )
    .bind(&new)
    .bind(Uuid::new_v4().to_string())
    .execute(&mut *transaction)
    .await
    .expect("the subscription");
    query(entry).bind(Uuid::new_v4().to_string()).bind(&new).execute(&mut *transaction).await.expect("the entry");
    transaction.commit().await.expect("the database");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
