//! Rows inserted per second, with our indexes, triggers and views and without them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, query};
use uuid::Uuid;

use crate::{Bar, Bench, ENVIRONMENTS, Report, number, operation, progress, thousands};

impl Bench {
    pub async fn writes(&self, report: &mut Report) {
        let largest = self.largest();
        let slices = self.times(9, 1);
        let (mut rows, mut functions) = (Vec::new(), Vec::new());
        for (size, name, bar) in
            [(0, "an empty database".to_owned(), 0.7), (largest, format!("one with {}", thousands(largest)), 0.75)]
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
                    bar,
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
            "By 1, 4 and 16 environments, each with one request at a time.",
            &["", "1", "4", "16"],
            functions,
        );
    }

    /// Requests per second of this many environments.
    async fn write_rate(&self, kind: &str, database: &str, environments: usize) -> f64 {
        let ids = Arc::new(some_ids(database).await);
        let all = join_all((0..environments).map(|_| self.start(kind, database))).await;
        self.rate(kind, all, ids).await
    }
}

async fn some_ids(database: &str) -> Vec<String> {
    let mut connection = operation::connect(database).await;
    let ids = sqlx::query_scalar("select id from subscription limit 50000")
        .fetch_all(&mut connection)
        .await
        .expect("the database");
    // An empty database has none.
    if ids.is_empty() { vec![String::new()] } else { ids }
}

/// Rows per second, inserted through this many connections.
async fn insert_rate(kind: &str, database: &str, connections: usize) -> f64 {
    let ids = Arc::new(some_ids(database).await);
    let all = join_all((0..connections).map(|_| operation::connect(database))).await;
    let work = all.into_iter().enumerate().map(|(worker, connection)| {
        let (kind, ids, mut connection) = (kind.to_owned(), Arc::clone(&ids), connection);
        tokio::spawn(async move {
            let (started, mut done) = (Instant::now(), 0_usize);
            while started.elapsed() < Duration::from_millis(500) {
                let id = &ids[(done * 31 + worker * 7919) % ids.len()];
                insert(&kind, &mut connection, id).await;
                done += 1;
            }
            done as f64 / started.elapsed().as_secs_f64()
        })
    });
    join_all(work).await.into_iter().map(|rate| rate.expect("no panic")).sum()
}

/// Only the rows of one request, so that it works on the first revision too.
async fn insert(function: &str, connection: &mut PgConnection, id: &str) {
    let entry = "insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
        values ($1, $2, 1, now() at time zone 'UTC', now() at time zone 'UTC')";
    let new = Uuid::new_v4().to_string();
    if function == "status" {
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
