//! The database's sessions: their number, and what the functions leave behind in the shared ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    time::Duration,
};

use futures_util::future::join_all;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::watch, time::timeout};

use crate::load::{Progress, Record};

/// The application name of this program's sessions, which are not counted.
const NAME: &str = "scale";
/// PgBouncer sets these for each client, as its start-up message asks.
const TRACKED: [&str; 6] =
    ["application_name", "client_encoding", "DateStyle", "IntervalStyle", "standard_conforming_strings", "TimeZone"];
const SAMPLED_EVERY: Duration = Duration::from_millis(50);

pub async fn connect(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).expect("a URL").application_name(NAME);
    // PgBouncer refuses this one in a start-up message.
    options.extra_float_digits(None::<i8>).disable_statement_logging().connect().await.expect("the database")
}

/// The process ids of the sessions that the functions use.
async fn servers(observer: &mut PgConnection) -> BTreeSet<i32> {
    let query = "select pid from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend' and application_name <> $1";
    sqlx::query_scalar(query).bind(NAME).fetch_all(observer).await.expect("the activity").into_iter().collect()
}

/// The most sessions at the same moment, until the load has ended.
pub async fn count_most(url: String, mut progress: watch::Receiver<Progress>) -> usize {
    let mut observer = connect(&url).await;
    let mut most = 0;
    loop {
        most = most.max(servers(&mut observer).await.len());
        if timeout(SAMPLED_EVERY, progress.wait_for(|now| now.ended)).await.is_ok() {
            return most;
        }
    }
}

/// The settings of a session that sends nothing but a start-up message.
struct Session {
    pid: i32,
    settings: BTreeMap<String, String>,
    /// Other traces of an earlier client.
    leftovers: Vec<String>,
}

impl Session {
    async fn find(connection: &mut PgConnection) -> Self {
        // A session has plpgsql's settings once it has called a function.
        connection.execute("do $$ begin end $$").await.expect("an empty block");
        let settings: Vec<(String, Option<String>)> = sqlx::query_as("select name, setting from pg_settings")
            .fetch_all(&mut *connection)
            .await
            .expect("the settings");
        let settings = settings.into_iter().filter(|(name, _)| !TRACKED.contains(&name.as_str()));
        // PgBouncer prepares its statements without SQL's PREPARE.
        let leftovers = "
            select 'a role' where current_user <> session_user
            union all
            select 'temporary objects' where pg_my_temp_schema() <> 0
            union all
            select 'an advisory lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
            union all
            select 'a cursor' from pg_cursors where is_holdable
            union all
            select 'a channel' from pg_listening_channels()
            union all
            select 'a prepared statement of SQL' from pg_prepared_statements where from_sql";
        Self {
            settings: settings.map(|(name, setting)| (name, setting.unwrap_or_default())).collect(),
            leftovers: sqlx::query_scalar(leftovers).fetch_all(&mut *connection).await.expect("leftovers"),
            pid: sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.expect("a process id"),
        }
    }
}

/// Holds every server connection of the pooler at the same moment, and compares them with a fresh session.
pub async fn check_defaults(url: &str, pooled: &str, connections: usize, record: &Record) {
    let mut observer = connect(url).await;
    let used = servers(&mut observer).await;
    let mut raw = join_all((0..connections).map(|_| connect(pooled))).await;
    for session in &mut raw {
        session.execute("begin").await.expect("a transaction");
    }
    let found = join_all(raw.iter_mut().map(Session::find)).await;
    observer.execute("begin").await.expect("a transaction");
    let fresh = Session::find(&mut observer).await;

    let seen: BTreeSet<i32> = found.iter().map(|session| session.pid).collect();
    record.check(used.is_subset(&seen), || "a server connection was not looked at".to_owned());
    for session in found {
        for leftover in session.leftovers {
            record.problem(format!("a raw session finds {leftover}"));
        }
        for (name, setting) in session.settings {
            let default = fresh.settings.get(&name);
            record.check(default == Some(&setting), || {
                format!("a raw session finds {name} = {setting}, not {}", default.map_or("none", String::as_str))
            });
        }
    }
    for session in raw {
        session.close().await.expect("the session ends");
    }
}
