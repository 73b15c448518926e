//! The databases that one measurement needs.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{Bench, operation};

/// Migrated, without rows, and never analysed.
pub const EMPTY: &str = "empty";
pub const FEW_CLUBS: usize = 20;
const POPULATION: &str = include_str!("population.sql");
const TABLES: [&str; 6] =
    ["club", "club_status_history", "subscription", "subscription_status_history", "charge_attempt", "orphan_note"];

impl Bench {
    /// Autovacuum is off, so that nothing analyses it.
    pub async fn create_database(&self, name: &str, template: &str) -> String {
        let mut server = operation::connect(&self.url("postgres")).await;
        run(&mut server, &format!("create database {name} template {template}")).await;
        let mut connection = operation::connect(&self.url(name)).await;
        for table in TABLES {
            run(&mut connection, &format!("alter table {table} set (autovacuum_enabled = off)")).await;
        }
        connection.close().await.expect("the database");
        self.url(name)
    }

    pub async fn drop_database(&self, name: &str) {
        let mut server = operation::connect(&self.url("postgres")).await;
        run(&mut server, &format!("drop database {name} with (force)")).await;
    }
}

pub async fn populate(connection: &mut PgConnection, subscriptions: usize, clubs: usize) {
    // The rows satisfy the foreign keys. Checking them would take most of the time.
    run(connection, "set session_replication_role = replica").await;
    let population =
        POPULATION.replace("$SUBSCRIPTIONS", &subscriptions.to_string()).replace("$CLUBS", &clubs.to_string());
    run(connection, &population).await;
}

/// Runs statements of this program.
pub async fn run(connection: &mut PgConnection, statements: &str) {
    if let Err(error) = connection.execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))).await {
        panic!("{error}: {statements}");
    }
}

/// Runs statements on a new connection.
pub async fn run_once(url: &str, statements: &str) {
    let mut connection = operation::connect(url).await;
    run(&mut connection, statements).await;
    connection.close().await.expect("the database");
}
