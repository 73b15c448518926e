//! Environments of five functions, which call in turn, directly, on a server with fewer connections than environments.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use harness::{Call, Environment};
use reqwest::Url;
use serde_json::json;
use sqlx::{ConnectOptions, Connection, Executor, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    Stage,
    load::{self, Record},
    sessions::connect,
};

pub const FUNCTIONS: [&str; 5] = ["subscribe", "eligible", "status", "charge", "lookup"];
/// Environments of each function. They call at the same moment.
const EACH: usize = 50;
/// The second time, the first one's sessions have ended, or are about to.
const ROUNDS: usize = 2;
/// They wait for idle sessions to end, some seconds at most.
const LONGEST: Duration = Duration::from_secs(10);
const BETWEEN_LOGINS: Duration = Duration::from_millis(100);

pub struct Turns {
    pub record: Record,
    /// The slowest answer.
    pub slowest: Duration,
    /// Each login of a person, begun together with calls or between them; the slowest.
    pub logins: usize,
    pub slowest_login: Duration,
}

impl Stage {
    /// The functions' role and the person's are no superusers, for whom the server keeps connections.
    pub async fn turns(&self, server: &str, database: &str) -> Turns {
        let url = format!("{server}/{database}");
        let mut admin = connect(&url).await;
        admin.execute("create role functions login in role club; create role person login").await.expect("two roles");
        let club = load::club(&mut admin).await;
        let subscriptions = load::subscriptions(&mut admin, club, EACH).await;
        admin.close().await.expect("the session ends");

        let platform = self.platform().await;
        eprintln!("starting {} processes, {database}", FUNCTIONS.len() * EACH);
        let functions = FUNCTIONS.into_iter().flat_map(|function| [function; EACH]).collect();
        let mut environments = self.start(functions, &as_role("functions", &url), &platform, &[]).await;
        environments.sort_by_key(|(function, _)| FUNCTIONS.iter().position(|name| name == function));

        eprintln!("calling {EACH} at once, function by function");
        let mut turns =
            Turns { record: Record::default(), slowest: Duration::ZERO, logins: 0, slowest_login: Duration::ZERO };
        let person = PgConnectOptions::from_str(&as_role("person", &url)).expect("a URL");
        for _ in 0..ROUNDS {
            for group in environments.chunks(EACH) {
                let calls = group.iter().zip(&subscriptions).map(async |((function, environment), subscription)| {
                    call(function, environment, club, subscription, &turns.record).await
                });
                let turn = async {
                    let (answered, login_meanwhile) = join(join_all(calls), login(&person)).await;
                    (answered, login_meanwhile.max(login(&person).await))
                };
                let Ok((answered, login)) = timeout(LONGEST, turn).await else {
                    turns.record.problem(format!("{EACH} calls at once and two logins take longer than {LONGEST:?}"));
                    return turns;
                };
                turns.slowest = answered.into_iter().fold(turns.slowest, Duration::max);
                turns.logins += 2;
                turns.slowest_login = turns.slowest_login.max(login);
            }
        }
        let orders = platform.received().len();
        turns.record.check(orders == EACH, || format!("{orders} orders for {EACH} charged subscriptions"));
        turns
    }
}

fn as_role(role: &str, url: &str) -> String {
    let mut url: Url = url.parse().expect("a URL");
    url.set_username(role).expect("a URL with a host");
    url.into()
}

/// The time until its answer, which is a success.
async fn call(function: &str, environment: &Environment, club: i32, subscription: &str, record: &Record) -> Duration {
    let of_subscription = format!("/subscription/{subscription}");
    let (call, success) = match function {
        "subscribe" => (Call::subscribe(club, &Uuid::new_v4().to_string()), 201),
        "eligible" => (Call::get("/subscription/eligible"), 200),
        "status" => (Call::post(format!("{of_subscription}/status"), json!({ "status_id": 1 })), 200),
        "charge" => (Call::charge(subscription, &Uuid::new_v4().to_string()), 200),
        "lookup" => (Call::get(of_subscription), 200),
        other => panic!("no call of {other}"),
    };
    let begun = Instant::now();
    load::call(environment, &call, &[(success, "")], record).await;
    begun.elapsed()
}

/// The time to log in. If there is no free connection, it is tried again.
async fn login(person: &PgConnectOptions) -> Duration {
    let begun = Instant::now();
    loop {
        match person.connect().await {
            Ok(session) => {
                session.close().await.expect("the session ends");
                return begun.elapsed();
            }
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "53300") => {
                sleep(BETWEEN_LOGINS).await;
            }
            Err(error) => panic!("a login fails: {error}"),
        }
    }
}
