//! One connection per environment. It survives freeze and thaw, and a restart of the database.
//!
//! The server ends a session after some silence, so that idle environments do not use up its connections.
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

use backon::{BackoffBuilder, ConstantBuilder};
use secrecy::ExposeSecret;
use sqlx::{ConnectOptions, Connection, PgConnection, error::UnexpectedNullError, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    Error,
    clock::{Budget, Stopwatch},
    secrets::Reference,
};
use sqlstate::Trouble;

/// An unreachable database is tried for this long: a restart takes a few seconds.
const UNREACHABLE: Duration = Duration::from_secs(5);
const ONE_CONNECT: Duration = Duration::from_secs(3);
/// Before another try, and up to as much again, so that environments that wait for the same thing spread out.
const PAUSE: Duration = Duration::from_millis(70);
/// After this much silence a firewall may have dropped the connection. A ping with a short limit finds out; a statement
/// would wait for minutes.
const SILENCE: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: &str = "idle_session_timeout";
/// The part of the idle timeout after which a session is not used again. The server's clock is ahead of ours by the time
/// that its answer takes, and runs until the next statement arrives.
const USABLE: f64 = 0.9;

/// A call of a database function.
///
/// It must be safe to repeat: a call whose answer was lost may have been committed.
pub(crate) trait Query: Sync {
    type Answer: Send;

    /// `time` is what is left for the answer.
    fn fetch(
        &self,
        connection: &mut PgConnection,
        time: Budget,
    ) -> impl Future<Output = sqlx::Result<Self::Answer>> + Send;
}

/// A column that the function always fills in this case.
pub(crate) fn not_null<T>(column: Option<T>) -> sqlx::Result<T> {
    column.ok_or_else(|| sqlx::Error::Decode(UnexpectedNullError.into()))
}

pub struct Database {
    options: PgConnectOptions,
    /// Where the password is kept, unless it is in the options.
    password: Option<Reference>,
    /// The silence after which the server is asked to end a session.
    idle_timeout: Option<Duration>,
    /// Set once a connection without that start-up option succeeded where one with it was refused, as by a pooler.
    refuses_options: AtomicBool,
    /// Empty before the first use, and after a failure that may have broken it.
    connection: Mutex<Option<IdleConnection>>,
    /// True if the database's default isolation level is not READ COMMITTED, which some functions need.
    needs_transaction: AtomicBool,
}

struct IdleConnection {
    connection: PgConnection,
    since: Stopwatch,
}

impl Database {
    /// The server is asked to end a session after `idle_timeout` of silence, unless the options say so themselves.
    pub fn new(options: PgConnectOptions, password: Option<Reference>, idle_timeout: Option<Duration>) -> Self {
        let has_own = options.get_options().is_some_and(|options| options.contains(IDLE_TIMEOUT));
        let options = options
            .application_name("beer-club")
            // PgBouncer refuses this start-up parameter, and no float is read here.
            .extra_float_digits(None)
            .disable_statement_logging();
        Self {
            options,
            password,
            idle_timeout: idle_timeout.filter(|_| !has_own),
            refuses_options: AtomicBool::new(false),
            connection: Mutex::new(None),
            needs_transaction: AtomicBool::new(false),
        }
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

    /// Calls, and repeats the call on a new connection if the old one was lost, until `budget` is over.
    pub(crate) async fn fetch<Q: Query>(&self, query: &Q, budget: Budget) -> Result<Q::Answer, Error> {
        let mut failure = Error::DatabaseUnavailable(None);
        let Ok(mut idle) = timeout(budget.left(), self.connection.lock()).await else {
            return Err(failure);
        };
        let mut pauses = ConstantBuilder::new().with_delay(PAUSE).with_jitter().without_max_times().build();
        let mut lost_since: Option<Stopwatch> = None;
        let mut waits_for_a_connection = false;
        loop {
            // The connection is taken out during the call. If this future is dropped or times out, the connection is
            // dropped with it, unread answer included.
            let attempt = async {
                let mut connection = self.connect(idle.take()).await?;
                let answer = self.call(query, &mut connection, budget).await;
                Ok((connection, answer))
            };
            let error = match timeout(budget.left(), attempt).await {
                Err(_) => return Err(failure),
                Ok(Err(error)) => error,
                Ok(Ok((connection, answer))) => {
                    let trouble = answer.as_ref().err().and_then(Trouble::of);
                    if trouble.is_none_or(Trouble::leaves_the_connection) {
                        *idle = Some(IdleConnection { connection, since: Stopwatch::start() });
                    }
                    match answer {
                        Ok(answer) => return Ok(answer),
                        Err(error) => error.into(),
                    }
                }
            };
            let Error::DatabaseUnavailable(reason) = &error else { return Err(error) };
            let source = || std::error::Error::source(&error);
            let pause = match reason.as_ref().and_then(Trouble::of).unwrap_or(Trouble::Lost) {
                Trouble::Contention => {
                    tracing::debug!(error = source(), "another session is in the way");
                    true
                }
                Trouble::NeedsReadCommitted => {
                    self.needs_transaction.store(true, Ordering::Relaxed);
                    false
                }
                Trouble::EndedIdle => {
                    tracing::debug!(error = source(), "the server ended the idle session");
                    false
                }
                Trouble::TooManyConnections => {
                    if !std::mem::replace(&mut waits_for_a_connection, true) {
                        tracing::warn!(error = source(), "waiting for a connection to the database");
                    }
                    lost_since = None;
                    true
                }
                Trouble::Lost => match &lost_since {
                    None => {
                        tracing::warn!(error = source(), "database connection lost");
                        lost_since = Some(Stopwatch::start());
                        false
                    }
                    Some(since) if since.elapsed() >= UNREACHABLE => return Err(error),
                    Some(_) => true,
                },
            };
            failure = error;
            if pause {
                sleep(pauses.next().unwrap_or(PAUSE).min(budget.left())).await;
            }
        }
    }

    /// One round trip, or a transaction where the default isolation level is not READ COMMITTED.
    async fn call<Q: Query>(&self, query: &Q, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Q::Answer> {
        if !self.needs_transaction.load(Ordering::Relaxed) {
            return query.fetch(connection, time).await;
        }
        let mut transaction = connection.begin_with("begin isolation level read committed").await?;
        match query.fetch(&mut transaction, time).await {
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
            let silence = idle.since.elapsed();
            let may_have_ended = self.idle_timeout().is_some_and(|timeout| silence >= timeout.mul_f64(USABLE));
            let alive = !may_have_ended
                && (silence < SILENCE || matches!(timeout(PING, idle.connection.ping()).await, Ok(Ok(()))));
            if alive {
                return Ok(idle.connection);
            }
        }
        self.open().await
    }

    /// The silence after which the server ends a session, if it was asked to.
    fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.filter(|_| !self.refuses_options.load(Ordering::Relaxed))
    }

    async fn open(&self) -> Result<PgConnection, Error> {
        let opening = async {
            let mut options = self.options.clone();
            if let Some(reference) = &self.password {
                // It may have been rotated since the last connection.
                let password = reference.fetch().await.map_err(|error| sqlx::Error::Configuration(error.into()))?;
                options = options.password(password.expose_secret());
            }
            let Some(idle_timeout) = self.idle_timeout() else {
                return PgConnection::connect_with(&options).await;
            };
            let ending = options.clone().options([(IDLE_TIMEOUT, idle_timeout.as_millis())]);
            match PgConnection::connect_with(&ending).await {
                Err(error) if sqlstate::may_refuse_options(&error) => {
                    let connection = PgConnection::connect_with(&options).await?;
                    tracing::info!(%error, "the database takes no {IDLE_TIMEOUT}");
                    self.refuses_options.store(true, Ordering::Relaxed);
                    Ok(connection)
                }
                opened => opened,
            }
        };
        timeout(ONE_CONNECT, opening)
            .await
            .map_err(|_| Error::DatabaseUnavailable(None))?
            // The caller learns no more, even about a wrong password.
            .map_err(|error: sqlx::Error| Error::DatabaseUnavailable(Some(error)))
    }
}
