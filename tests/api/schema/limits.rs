//! The writing functions refuse a change too many, and a call that its caller has given up.

use harness::{Api, eventually};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Records a status, with at most three changes a day: the verdict, the seconds to wait, and how many entries there are.
async fn record(api: &Api, customer: &str, entry: &str, days: &str) -> (String, Option<i32>, i64) {
    let (verdict, retry_after) = sqlx::query_as(AssertSqlSafe(format!(
        "select verdict, retry_after
         from record_status('s', {customer}, 3, null, null, null, {days}, null, null, null, 'UTC', '{entry}', 3, 60)"
    )))
    .fetch_one(&api.sql)
    .await
    .unwrap();
    (verdict, retry_after, api.ask("select count(*) from subscription_status_history").await)
}

#[tokio::test]
async fn a_change_beyond_the_limit_of_24_hours_is_refused() {
    let api = Api::start().await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c')")).await;
    let at = |hour: &str| format!("timestamptz '2026-11-10T{hour}:00Z'");
    let is = |verdict: &str, retry_after, entries| (verdict.to_owned(), retry_after, entries);

    api.set_clock(&at("10:00")).await;
    assert_eq!(record(&api, "null", "a", "30").await, is("recorded", None, 2));
    api.set_clock(&at("11:00")).await;
    assert_eq!(record(&api, "'c'", "b", "30").await, is("recorded", None, 4));
    // Entries of others count, but they are never refused. A return counts with its pause.
    api.run("insert into subscription_status_history values ('x', 's', 1, '2026-11-10', '2026-11-10 11:30')").await;
    assert_eq!(record(&api, "null", "c", "null").await, is("too_many_changes", Some(23 * 3600), 5));
    assert_eq!(record(&api, "'another'", "c", "null").await, is("subscription_not_found", None, 5));
    // A call whose answer was lost finds its rows.
    assert_eq!(record(&api, "null", "b", "30").await, is("recorded", None, 5));

    api.set_clock("timestamptz '2026-11-11T09:59:59Z'").await;
    assert_eq!(record(&api, "null", "c", "null").await, is("too_many_changes", Some(1), 5));
    api.set_clock("timestamptz '2026-11-11T10:00:00Z'").await;
    assert_eq!(record(&api, "null", "c", "null").await, is("recorded", None, 6));
}

#[tokio::test]
async fn calls_at_the_same_time_share_the_limit() {
    let api = Api::start().await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c')")).await;
    let calls = (0..12).map(|number| {
        let url = api.database_url.clone();
        async move {
            let mut session = PgConnection::connect(url.as_str()).await.unwrap();
            loop {
                let call = format!(
                    "select verdict
                     from record_status('s', null, 3, null, null, null, null, null, null, null, 'UTC', 'e-{number}', 3, 60)"
                );
                match sqlx::query_scalar::<_, String>(AssertSqlSafe(call)).fetch_one(&mut session).await {
                    Ok(verdict) => return verdict,
                    // The functions try again, too.
                    Err(error) => {
                        assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("55P03"))
                    }
                }
            }
        }
    });
    let verdicts = futures_util::future::join_all(calls).await;
    assert_eq!(verdicts.iter().filter(|verdict| *verdict == "recorded").count(), 3, "{verdicts:?}");
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 3);
}

#[tokio::test]
async fn a_call_that_gets_its_lock_after_its_caller_has_given_up_changes_nothing() {
    let api = Api::start().await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c')")).await;
    for (function, lock, call) in [
        (
            "claim_charge",
            "select from subscription for update".to_owned(),
            "select claim_charge('s', 'o', gen_random_uuid(), gen_random_uuid(), 'UTC', 19, true, null, 0.2)"
                .to_owned(),
        ),
        (
            "record_status",
            "select from subscription for update".to_owned(),
            "select record_status('s', null, 3, null, null, null, 30, null, null, null, 'UTC', 'e', null, 0.2)"
                .to_owned(),
        ),
        (
            "subscribe",
            format!("select pg_advisory_xact_lock(hashtextextended('d', {club}))"),
            format!("select subscribe({club}, 'd', 'new', 'e', 0.2)"),
        ),
    ] {
        // So that the lock comes, and not the function's own timeout.
        api.run(&format!("alter function {function} set lock_timeout = '20s'")).await;
        let mut holder = PgConnection::connect(api.database_url.as_str()).await.unwrap();
        holder.execute("begin").await.unwrap();
        holder.execute(AssertSqlSafe(lock)).await.unwrap();
        let release = async {
            eventually("the call waits for longer than its caller", async || {
                api.ask::<i64>(
                    "select count(*) from pg_locks join pg_stat_activity using (pid)
                     where not granted and datname = current_database()
                         and clock_timestamp() > query_start + interval '0.2 s'",
                )
                .await
                    > 0
            })
            .await;
            holder.execute("rollback").await.unwrap();
        };
        let (answer, ()) = tokio::join!(api.sql.execute(AssertSqlSafe(call)), release);
        let error = answer.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("57014"), "{function}: {error}");
        let rows = "select (select count(*) from subscription) + (select count(*) from charge_attempt)
            + (select count(*) from subscription_status_history)";
        assert_eq!(api.ask::<i64>(rows).await, 1, "{function}");
    }
}
