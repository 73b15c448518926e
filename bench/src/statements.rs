//! The functions' statements by a bare sqlx loop, and the rows that they write.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection, query};
use uuid::Uuid;

const GREETING: &str = include_str!("../../crates/core/sql/greeting.sql");
const SUBSCRIBE: &str = include_str!("../../crates/core/sql/subscribe.sql");
const STATUS: &str = include_str!("../../crates/core/sql/record_status.sql");
const ELIGIBLE: &str = include_str!("../../crates/core/sql/eligible.sql");
const CLAIM: &str = include_str!("../../crates/core/sql/claim_charge.sql");
const SETTLE: &str = include_str!("../../crates/core/sql/settle_charge.sql");

/// A connection like the functions'.
pub async fn connect(database: &str) -> PgConnection {
    let mut connection = PgConnection::connect(database).await.expect("the database");
    sqlx::raw_sql(GREETING).execute(&mut connection).await.expect("the settings");
    connection
}

/// What this function asks the database for one request.
pub async fn run(function: &str, connection: &mut PgConnection, id: &str) -> Duration {
    let new_id = || Uuid::new_v4().to_string();
    let started = Instant::now();
    match function {
        "subscribe" => {
            let customer = new_id();
            let mut transaction = connection.begin().await.expect("the database");
            query("select pg_advisory_xact_lock(hashtextextended($1, $2))")
                .bind(&customer)
                .bind(1_i64)
                .execute(&mut *transaction)
                .await
                .expect("the lock");
            query(SUBSCRIBE)
                .bind(1)
                .bind(&customer)
                .bind(new_id())
                .bind(new_id())
                .fetch_one(&mut *transaction)
                .await
                .expect("the subscription");
            transaction.commit().await.expect("the database");
        }
        "status" => {
            query(STATUS)
                .bind(id)
                .bind(1)
                .bind(None::<chrono::NaiveDateTime>)
                .bind(Some("as it was"))
                .bind(None::<i32>)
                .bind(new_id())
                .bind(new_id())
                .fetch_one(connection)
                .await
                .expect("the entry");
        }
        "charge" => {
            let (attempt, token) = (Uuid::new_v4(), Uuid::new_v4());
            query(CLAIM)
                .bind(id)
                .bind(new_id())
                .bind(attempt)
                .bind(token)
                .bind("UTC")
                .bind(19.0_f64)
                .bind(true)
                .fetch_one(&mut *connection)
                .await
                .expect("the claim");
            query(SETTLE)
                .bind(attempt)
                .bind(token)
                .bind("charged")
                .bind(Some(201_i16))
                .bind(Some("{}"))
                .fetch_one(connection)
                .await
                .expect("the settlement");
        }
        _ => {
            eligible(connection, Some(101)).await;
        }
    }
    started.elapsed()
}

pub async fn eligible(connection: &mut PgConnection, limit: Option<i64>) -> Vec<String> {
    let rows = sqlx::query_scalar::<_, String>(ELIGIBLE).bind(None::<String>).bind(limit).fetch(connection);
    rows.try_collect().await.expect("the list")
}

/// The rows of one request, and nothing else: this is done on the first revision, too.
pub async fn insert(function: &str, connection: &mut PgConnection, id: &str) {
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
