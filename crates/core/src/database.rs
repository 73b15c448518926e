//! One connection per environment, that survives freeze and thaw and a restart of the database.
//!
//! sqlx's own pool asks the server for a sign of life around every use, which doubles the round trips of a request.
//! Here a dead connection is noticed by the statement that fails on it, which is then sent again on a new one.

use std::{future::Future, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    Error,
    clock::{Budget, Stopwatch},
    config::DatabaseSettings,
    secrets::Reference,
};

/// What every session says first. It never waits long for a lock: whoever truncates or migrates takes locks in an order of
/// their own, and of two that wait for each other PostgreSQL ends either; so it is ours that gives way, well before the
/// second after which PostgreSQL looks, and asks again. And whatever the database's default is, a statement sees what was
/// committed before it, which a lock is of no use without.
///
/// And how it is read: by index, in order. Left a choice, the planner joins a page of the list by hash and sorts it, all of
/// it before the first row; keeps a plan for small tables, made once for a connection, when they have grown; and compiles
/// for longer than a page takes.
const GREETING: &str = include_str!("../sql/greeting.sql");
/// How long a database that does not answer is tried again: a restart takes a few seconds.
const UNREACHABLE: Duration = Duration::from_secs(5);
const ONE_CONNECT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// After so long a silence a firewall may have dropped the connection without a word: a ping with a short limit finds
/// out, where a statement would wait for minutes.
const SILENCE: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(1);

/// A question to the database, or something for it to record.
///
/// It must be safe to repeat: a statement whose answer was lost may have been committed.
pub trait Query: Sync {
    type Answer: Send;

    fn ask(&self, connection: &mut PgConnection) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

pub struct Database {
    options: PgConnectOptions,
    /// Where the password is kept, if it is not among the options.
    password: Option<Reference>,
    /// Empty before the first use, and while a connection whose statement was cut short is being forgotten.
    connection: Mutex<Option<Kept>>,
}

struct Kept {
    connection: PgConnection,
    last_used: Stopwatch,
}

impl Database {
    pub fn new(settings: DatabaseSettings) -> Self {
        let options = settings.options.application_name("beer-club").disable_statement_logging();
        Self { options, password: settings.password, connection: Mutex::new(None) }
    }

    /// Connects ahead of the first request. Whatever is wrong, that request will find and say.
    pub async fn connect_ahead(&self) {
        let mut kept = self.connection.lock().await;
        if kept.is_none()
            && let Ok(connection) = self.open().await
        {
            *kept = Some(Kept { connection, last_used: Stopwatch::start() });
        }
    }

    /// Asks, and asks again on a new connection when it was lost on the way, until `budget` is over.
    pub async fn ask<Q: Query>(&self, query: &Q, budget: Budget) -> Result<Q::Answer, Error> {
        let Ok(mut kept) = timeout(budget.left(), self.connection.lock()).await else {
            return Err(Error::DatabaseUnavailable(None));
        };
        let mut lost_since: Option<Stopwatch> = None;
        loop {
            // It is out of its place while it works: if this future is dropped or times out, so is the connection,
            // and with it whatever half of an answer it was to read.
            let attempt = async {
                let mut connection = self.connect(kept.take()).await?;
                let done = query.ask(&mut connection).await;
                Ok((connection, done))
            };
            let (connection, error) = match timeout(budget.left(), attempt).await {
                Err(_) => return Err(Error::DatabaseUnavailable(None)),
                Ok(Err(error)) => (None, error),
                Ok(Ok((connection, Ok(answer)))) => {
                    *kept = Some(Kept { connection, last_used: Stopwatch::start() });
                    return Ok(answer);
                }
                Ok(Ok((connection, Err(error)))) => (Some(connection), error),
            };
            // An answer that was given up half-read stands in the way on its connection, a failure may have broken it.
            let usable = !matches!(error, Error::PageRequired | Error::DatabaseUnavailable(_)) || is_contention(&error);
            *kept = connection.filter(|_| usable).map(|connection| Kept { connection, last_used: Stopwatch::start() });
            if is_contention(&error) {
                tracing::debug!(error = std::error::Error::source(&error), "somebody is in the way");
                sleep(PAUSE.min(budget.left())).await;
                continue;
            }
            if !matches!(error, Error::DatabaseUnavailable(_)) {
                return Err(error);
            }
            match &lost_since {
                None => {
                    tracing::warn!(error = std::error::Error::source(&error), "database connection lost");
                    lost_since = Some(Stopwatch::start());
                }
                Some(since) if since.elapsed() >= UNREACHABLE => return Err(error),
                Some(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn connect(&self, kept: Option<Kept>) -> Result<PgConnection, Error> {
        if let Some(mut kept) = kept {
            let alive =
                kept.last_used.elapsed() < SILENCE || matches!(timeout(PING, kept.connection.ping()).await, Ok(Ok(())));
            if alive {
                return Ok(kept.connection);
            }
        }
        self.open().await
    }

    async fn open(&self) -> Result<PgConnection, Error> {
        let opening = async {
            let mut options = self.options.clone();
            if let Some(reference) = &self.password {
                // It may have been rotated since the last connection.
                let password = reference.fetch().await.map_err(|error| sqlx::Error::Configuration(error.into()))?;
                options = options.password(password.expose_secret());
            }
            let mut connection = PgConnection::connect_with(&options).await?;
            sqlx::raw_sql(GREETING).execute(&mut connection).await?;
            Ok(connection)
        };
        timeout(ONE_CONNECT, opening)
            .await
            .map_err(|_| Error::DatabaseUnavailable(None))?
            // Even a wrong password is no more than that to the caller.
            .map_err(|error: sqlx::Error| Error::DatabaseUnavailable(Some(error)))
    }
}

/// Whether another connection, now or later, may do what this one could not.
pub(crate) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_unavailable_code(&code)),
        _ => false,
    }
}

/// By SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn is_unavailable_code(code: &str) -> bool {
    // connection exceptions · insufficient resources · operator intervention (a shutdown, a cancelled statement)
    ["08", "53", "57"].iter().any(|class| code.starts_with(class))
        // A failover left us on a read-only server.
        || code == "25006"
        || is_contention_code(code)
        // A statement prepared before a migration changed what it returns.
        || code == "0A000"
}

fn is_contention(error: &Error) -> bool {
    matches!(error, Error::DatabaseUnavailable(Some(sqlx::Error::Database(error)))
        if error.code().is_some_and(|code| is_contention_code(&code)))
}

/// A lock that was not to be had, a deadlock, a serialization failure: rolled back, and worth another try.
fn is_contention_code(code: &str) -> bool {
    matches!(code, "55P03" | "40P01" | "40001")
}

#[cfg(test)]
mod tests {
    use super::is_unavailable_code;

    #[test]
    fn only_what_another_try_may_heal_is_tried_again() {
        for code in ["57P01", "57P03", "57014", "08006", "53300", "25006", "40001", "40P01", "55P03", "0A000"] {
            assert!(is_unavailable_code(code), "{code}");
        }
        for code in ["23503", "23505", "42P01", "22001", "25P02", "XX000"] {
            assert!(!is_unavailable_code(code), "{code}");
        }
    }
}
