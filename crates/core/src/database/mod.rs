//! One connection per environment. It survives freeze and thaw, and a restart of the database.
//!
//! An operation is one call of one database function, in one round trip. A session carries no state: connecting sends
//! only the start-up message, so a transaction pooler can share few server connections among many environments.
//!
//! sqlx's own pool pings the server around every use, which doubles the round trips of a request. Here a statement that
//! fails on a dead connection is sent again on a new one.

pub(crate) mod sqlstate;

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use secrecy::ExposeSecret;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    Error,
    clock::{Budget, Stopwatch},
    secrets::Reference,
};

/// How long to keep trying an unreachable database: a restart takes a few seconds.
const UNREACHABLE: Duration = Duration::from_secs(5);
const ONE_CONNECT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// After this much silence a firewall may have dropped the connection. A ping with a short limit finds out; a statement
/// would wait for minutes.
const SILENCE: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(1);

/// A call of a database function.
///
/// It must be safe to repeat: a call whose answer was lost may have been committed.
pub(crate) trait Query: Sync {
    type Answer: Send;

    /// `time` is what is left for the answer.
    fn ask(
        &self,
        connection: &mut PgConnection,
        time: Budget,
    ) -> impl Future<Output = sqlx::Result<Self::Answer>> + Send;
}

pub struct Database {
    options: PgConnectOptions,
    /// Where the password is kept, unless it is in the options.
    password: Option<Reference>,
    /// Empty before the first use, and after a failure that may have broken it.
    connection: Mutex<Option<IdleConnection>>,
    /// Whether the database's default isolation level is not READ COMMITTED, which some functions need.
    needs_transaction: AtomicBool,
}

struct IdleConnection {
    connection: PgConnection,
    since: Stopwatch,
}

impl Database {
    pub fn new(options: PgConnectOptions, password: Option<Reference>) -> Self {
        let options = options
            .application_name("beer-club")
            // PgBouncer refuses this start-up parameter, and no float is read here.
            .extra_float_digits(None)
            .disable_statement_logging();
        Self { options, password, connection: Mutex::new(None), needs_transaction: AtomicBool::new(false) }
    }

    /// Connects ahead of the first request. Errors are ignored here: the first request reports them.
    pub async fn connect_ahead(&self) {
        let mut idle = self.connection.lock().await;
        if idle.is_none()
            && let Ok(connection) = self.open().await
        {
            *idle = Some(IdleConnection { connection, since: Stopwatch::start() });
        }
    }

    /// Asks, and repeats the call on a new connection if the old one was lost, until `budget` is over.
    pub(crate) async fn ask<Q: Query>(&self, query: &Q, budget: Budget) -> Result<Q::Answer, Error> {
        let Ok(mut idle) = timeout(budget.left(), self.connection.lock()).await else {
            return Err(Error::DatabaseUnavailable(None));
        };
        let mut lost_since: Option<Stopwatch> = None;
        loop {
            // The connection is taken out during the call. If this future is dropped or times out, the connection is
            // dropped with it, unread answer included.
            let attempt = async {
                let mut connection = self.connect(idle.take()).await?;
                let answer = self.call(query, &mut connection, budget).await;
                Ok((connection, answer))
            };
            let error = match timeout(budget.left(), attempt).await {
                Err(_) => return Err(Error::DatabaseUnavailable(None)),
                Ok(Err(error)) => error,
                Ok(Ok((connection, answer))) => {
                    if !answer.as_ref().is_err_and(sqlstate::is_lost) {
                        *idle = Some(IdleConnection { connection, since: Stopwatch::start() });
                    }
                    match answer {
                        Ok(answer) => return Ok(answer),
                        Err(error) => error.into(),
                    }
                }
            };
            let Error::DatabaseUnavailable(reason) = &error else { return Err(error) };
            let is = |kind: fn(&sqlx::Error) -> bool| reason.as_ref().is_some_and(kind);
            if is(sqlstate::is_contention) {
                tracing::debug!(error = std::error::Error::source(&error), "another session is in the way");
                sleep(PAUSE.min(budget.left())).await;
            } else if is(sqlstate::needs_read_committed) {
                self.needs_transaction.store(true, Ordering::Relaxed);
            } else if let Some(since) = &lost_since {
                if since.elapsed() >= UNREACHABLE {
                    return Err(error);
                }
                sleep(PAUSE).await;
            } else {
                tracing::warn!(error = std::error::Error::source(&error), "database connection lost");
                lost_since = Some(Stopwatch::start());
            }
        }
    }

    /// One round trip, or a transaction where the default isolation level is not READ COMMITTED.
    async fn call<Q: Query>(&self, query: &Q, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Q::Answer> {
        if !self.needs_transaction.load(Ordering::Relaxed) {
            return query.ask(connection, time).await;
        }
        let mut transaction = connection.begin_with("begin isolation level read committed").await?;
        match query.ask(&mut transaction, time).await {
            Ok(answer) => transaction.commit().await.map(|()| answer),
            Err(error) => {
                // Now: a frozen environment must not hold locks after this call.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    async fn connect(&self, idle: Option<IdleConnection>) -> Result<PgConnection, Error> {
        if let Some(mut idle) = idle {
            let alive =
                idle.since.elapsed() < SILENCE || matches!(timeout(PING, idle.connection.ping()).await, Ok(Ok(())));
            if alive {
                return Ok(idle.connection);
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
            PgConnection::connect_with(&options).await
        };
        timeout(ONE_CONNECT, opening)
            .await
            .map_err(|_| Error::DatabaseUnavailable(None))?
            // The caller learns no more, even about a wrong password.
            .map_err(|error: sqlx::Error| Error::DatabaseUnavailable(Some(error)))
    }
}
