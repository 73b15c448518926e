//! The harness: function environments as Lambda runs them, a database for each test, the platform's stand-in.
//!
//! `make test` starts the server; dev/with_database.py says by which variables the tests find it.

pub mod checker;
pub mod database;
pub mod environment;
pub mod gateway;
pub mod postgres;
pub mod routes;
pub mod runtime_api;
pub mod wire;

use std::{
    collections::HashMap,
    env,
    io::{self, Write},
    time::Duration,
};

use ecommerce_stub::{Behaviour, Credentials, Platform};
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

pub use environment::{Answer, Environment};
pub use gateway::{Call, Gateway};

pub const API_KEY: &str = "https://example.com/the-key";
pub const API_SECRET: &str = "the-secret-that-no-log-shows";
/// The migrated database of the test server.
pub const TEMPLATE: &str = "api_template";
/// The functions' sessions with the test's database, to follow `from`.
pub const SESSIONS: &str = "pg_stat_activity where datname = current_database() and application_name = 'beer-club'";

/// Lets a session outlive any pause of a test that counts on it.
pub const PATIENT: (&str, &str) = ("DATABASE_IDLE_TIMEOUT_MS", "600000");

/// The API of one test, with its database and its platform.
pub struct Api {
    /// As an operator's or the acceptance system's session: rows written by hand.
    pub sql: PgPool,
    pub platform: Platform,
    pub database_url: Url,
    settings: HashMap<String, String>,
    environments: Mutex<HashMap<&'static str, Environment>>,
}

impl Api {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// These settings of the functions are added to the usual ones, or replace them.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let database_url = create_database(&format!("template {TEMPLATE}")).await;
        let sql = pool(&database_url).await;

        // For the HTTP clients of the tests. Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let credentials = Credentials { key: API_KEY.to_owned(), secret: API_SECRET.to_owned() };
        let platform = Platform::start(0, credentials).await.expect("a free port");
        let mut usual = HashMap::from([
            ("DATABASE_URL".to_owned(), database_url.to_string()),
            ("ECOMMERCE_BASE_URL".to_owned(), platform.base_url()),
            ("ECOMMERCE_API_KEY".to_owned(), API_KEY.to_owned()),
            ("ECOMMERCE_API_SECRET".to_owned(), API_SECRET.to_owned()),
        ]);
        usual.extend(settings.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        Self { sql, platform, database_url, settings: usual, environments: Mutex::default() }
    }

    /// Moves the API to another database. The platform stays, with its orders.
    pub async fn move_to(&mut self, database_url: &Url) {
        self.sql = pool(database_url).await;
        self.database_url = database_url.clone();
        self.set(&[("DATABASE_URL", database_url.as_str())]).await;
    }

    /// Changes settings of the functions, in the environments that start from now on.
    pub async fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings.extend(settings.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        self.environments.lock().await.clear();
    }

    /// A new environment of this function.
    pub async fn environment(&self, function: &'static str) -> Environment {
        Environment::start(function, &self.settings).await
    }

    /// A new environment with other settings.
    pub async fn environment_with(&self, function: &'static str, settings: &[(&str, &str)]) -> Environment {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        Environment::start(function, &all).await
    }

    /// Calls the function of this route, in the test's one environment of it.
    pub async fn call(&self, call: Call) -> Answer {
        let mut environments = self.environments.lock().await;
        let function = call.function();
        if !environments.contains_key(function) {
            environments.insert(function, self.environment(function).await);
        }
        environments[function].call(&call).await
    }

    pub async fn subscribe(&self, club: i32, customer: &str) -> Answer {
        self.call(Call::subscribe(club, customer)).await
    }

    pub async fn status(&self, subscription: &str, body: Value) -> Answer {
        self.call(Call::post(format!("/subscription/{subscription}/status"), body)).await
    }

    pub async fn eligible(&self) -> Vec<String> {
        let answer = self.call(Call::get("/subscription/eligible")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_value(answer.body).expect("a list of ids")
    }

    pub async fn charge(&self, subscription: &str, request_id: &str) -> Answer {
        self.call(Call::charge(subscription, request_id)).await
    }

    /// Charges through this environment, whose process stops at a failpoint. `meanwhile` runs while it is stopped.
    pub async fn charge_asleep(
        &self,
        sleeper: &Environment,
        subscription: &str,
        request_id: &str,
        meanwhile: impl AsyncFnOnce(),
    ) -> Answer {
        let call = Call::charge(subscription, request_id);
        let (answer, ()) = tokio::join!(sleeper.call(&call), async {
            eventually("the process stops", async || sleeper.is_frozen()).await;
            meanwhile().await;
            sleeper.thaw();
        });
        answer
    }

    /// Charges with an order whose outcome stays unknown.
    pub async fn charge_into_the_unknown(&self, subscription: &str, request_id: &str) {
        self.platform.behave_for(request_id, Behaviour::status(500));
        let answer = self.charge(subscription, request_id).await;
        assert_eq!(answer.refuses(504, "charge_outcome_unknown").text("request_id"), request_id);
    }

    /// Runs statements as an operator would type them.
    pub async fn run(&self, statements: &str) {
        self.sql
            .execute(AssertSqlSafe(statements.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{error}: {statements}"));
    }

    /// The first column of the first row.
    pub async fn ask<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&self.sql)
            .await
            .unwrap_or_else(|error| panic!("{error}: {query}"))
    }

    /// A new club, ACTIVE from now; its id.
    pub async fn club(&self) -> i32 {
        let club = self.ask("insert into club (name, store_sku) values ('Lager', 4711) returning id").await;
        self.club_status(club, 1).await;
        club
    }

    /// 1 ACTIVE, 2 CLOSED, 3 INACTIVE, from now.
    pub async fn club_status(&self, club: i32, status: i32) {
        self.run(&format!(
            "insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
             values (gen_random_uuid()::text, {club}, {status}, utc_now(), utc_now())"
        ))
        .await;
    }

    /// A new customer's subscription to a new club, ACTIVE now; its id.
    pub async fn subscription(&self) -> String {
        let club = self.club().await;
        let answer = self.subscribe(club, &Uuid::new_v4().to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("id").to_owned()
    }

    /// A setting of this database, for the sessions that start from now on.
    pub async fn set_default(&self, setting: &str, value: &str) {
        let name = database::name(&self.database_url);
        self.run(&format!("alter database {name} set {setting} = '{value}'")).await;
    }

    /// Moves the one clock, for every statement of this database.
    pub async fn set_clock(&self, expression: &str) {
        self.run(&format!(
            "create or replace function billing_now() returns timestamptz language sql stable as $$ select {expression} $$"
        ))
        .await;
    }

    /// The ledger as it stands now, the oldest attempt first.
    pub async fn attempts(&self) -> Vec<Value> {
        let rows = "select coalesce(json_agg(to_json(l) order by claimed_at), '[]')::text from charge_ledger l";
        serde_json::from_str(&self.ask::<String>(rows).await).expect("JSON of PostgreSQL")
    }

    pub async fn ledger(&self) -> Vec<checker::Attempt> {
        serde_json::from_value(self.attempts().await.into()).expect("attempts")
    }
}

/// A new database of the test server, created with these options.
pub async fn create_database(options: &str) -> Url {
    let server = env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is set by `make test`");
    let mut database_url: Url = server.parse().expect("a URL");
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut admin = PgConnection::connect(&server).await.expect("the test server answers");
    // The name is made here: nobody can inject anything.
    let statement = format!("create database {name} {options}");
    admin.execute(AssertSqlSafe(statement)).await.expect("the migrated template is there");
    database_url.set_path(&name);
    database_url
}

async fn pool(database_url: &Url) -> PgPool {
    PgPoolOptions::new().max_connections(4).connect(database_url.as_str()).await.expect("the database answers")
}

/// Tells the person who runs the tests, even if all goes well.
pub fn report(line: &str) {
    // The test runner keeps what println! says to itself.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Polls a condition until it holds. It must hold within half a minute.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < patience, "{what} never happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn pause(interval: impl Into<Value>) -> Value {
    json!({ "status_id": 3, "interval": interval.into() })
}

/// A source of random choices, and its seed. The variable `SEED` repeats the choices of an earlier run.
pub fn random(what: &str) -> (u64, TestRng) {
    let seed = env::var("SEED").map_or_else(|_| Uuid::new_v4().as_u64_pair().0, |seed| seed.parse().expect("a number"));
    report(&format!("{what}: SEED={seed}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    (seed, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
