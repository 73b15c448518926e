//! An operator, on a direct session, who takes exclusive locks in any order.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{load::Progress, sessions::connect};

const TABLES: [&str; 4] = ["club", "club_status_history", "subscription", "subscription_status_history"];
/// The longest pause between two statements, in which calls begin to wait for the first lock.
const THINKING: Duration = Duration::from_millis(40);

/// Truncates after every `every` answers, until the load has ended. Returns the number of transactions, and the errors.
/// Each transaction is rolled back: the locks are real, and no data is lost.
pub async fn truncate(url: String, mut progress: watch::Receiver<Progress>, every: usize) -> (usize, Vec<sqlx::Error>) {
    let mut session = connect(&url).await;
    let (mut times, mut errors) = (0, Vec::new());
    loop {
        let next = progress.borrow().answers + every;
        if progress.wait_for(|now| now.ended || now.answers >= next).await.is_ok_and(|now| now.ended) {
            return (times, errors);
        }
        times += 1;
        errors.extend(transaction(&mut session).await.err());
        session.execute("rollback").await.expect("the operator's session goes on");
    }
}

async fn transaction(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    session.execute("begin").await?;
    for statement in statements() {
        session.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Statements about some of the tables, in random order: one for all, or one for each with a pause before the next.
fn statements() -> Vec<String> {
    let mut tables = TABLES.to_vec();
    tables.sort_by_cached_key(|_| Uuid::new_v4());
    tables.truncate(1 + below(tables.len()));
    if below(2) == 0 {
        return vec![format!("truncate {} cascade", tables.join(", "))];
    }
    let mut statements = Vec::new();
    for table in tables {
        statements.push(match below(2) {
            0 => format!("lock table {table} in access exclusive mode"),
            _ => format!("truncate {table} cascade"),
        });
        let pause = Duration::from_micros(below(THINKING.as_micros() as usize) as u64);
        statements.push(format!("select pg_sleep({})", pause.as_secs_f64()));
    }
    statements
}

/// A random number below this one.
fn below(limit: usize) -> usize {
    (Uuid::new_v4().as_u128() % limit as u128) as usize
}
