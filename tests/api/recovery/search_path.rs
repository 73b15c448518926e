//! Readers whose search_path does not have our schema, or has something before it.

use sqlx::{AssertSqlSafe, Executor};

use super::*;

const VIEWS: [&str; 4] = ["subscription_current_status", "club_current_status", "charge_ledger", "unresolved_charges"];

async fn filled() -> (Api, PgConnection) {
    let api = Api::start().await;
    fill(&api).await;
    let session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
    (api, session)
}

async fn count(session: &mut PgConnection, from: &str) -> i64 {
    let query = format!("select count(*) from {from}");
    sqlx::query_scalar(AssertSqlSafe(query.clone()))
        .fetch_one(session)
        .await
        .unwrap_or_else(|error| panic!("{error}: {query}"))
}

#[tokio::test]
async fn views_and_functions_work_under_any_search_path() {
    let (_api, mut session) = filled().await;
    let mut expected = Vec::new();
    for view in VIEWS {
        expected.push(count(&mut session, view).await);
    }
    // Empty, or with tables of the same names in front.
    let shadow = "create temporary table subscription (id varchar); create temporary table charge_attempt (id varchar);
        create temporary table subscription_status_history (id varchar); set search_path = pg_temp, public";
    for setting in ["set search_path = ''", shadow] {
        session.execute(setting).await.unwrap();
        for (view, expected) in VIEWS.iter().zip(&expected) {
            assert_eq!(count(&mut session, &format!("public.{view}")).await, *expected, "{view}");
        }
        for (from, rows) in [
            ("public.active_clubs()", 1),
            ("public.subscriptions('open', null, null, null, null, 10)", 1),
            (
                "public.eligible_subscriptions(null, null, null, 1000000, 10) where cardinality(eligible_subscriptions) = 6",
                1,
            ),
            ("public.subscribe(1, 'customer of open', 'new', 'new', 10) where verdict = 'already_subscribed'", 1),
            (
                "public.record_status('open', null, 1, null, null, null, null, null, null, null, 'UTC', gen_random_uuid()::text,
                    null, 10)
                 where verdict = 'recorded'",
                1,
            ),
            (
                "public.claim_charge('charged', '1', gen_random_uuid(), gen_random_uuid(), 'UTC', 10, true, null, 10)
                 where verdict = 'already_charged'",
                1,
            ),
            (
                "public.settle_charge(gen_random_uuid(), gen_random_uuid(), 'charged', 201::smallint, null, null) where state is null",
                1,
            ),
            ("public.count_charges(public.current_billing_month('UTC')) where charged > 0", 1),
            (
                "public.charges_of_month(
                     public.current_billing_month('UTC'), null, 'charged', false, null, null, null, 10, 1000
                 ) where state = 'charged'",
                1,
            ),
            ("public.charges_of_subscription('charged', null) where state = 'charged'", 1),
            ("public.count_unresolved_charges() where count_unresolved_charges = 1", 1),
            (
                "public.record_charge('charged', to_char(public.current_billing_month('UTC'), 'YYYY-MM'), '1') where state = 'charged'",
                1,
            ),
        ] {
            assert_eq!(count(&mut session, from).await, rows, "{setting}: {from}");
        }
    }
}

#[tokio::test]
async fn a_materialized_view_over_a_view_of_ours_is_refreshed() {
    let (api, mut session) = filled().await;
    for view in VIEWS {
        session
            .execute(AssertSqlSafe(format!("create materialized view of_{view} as select * from {view}")))
            .await
            .unwrap_or_else(|error| panic!("{error}: {view}"));
        session.execute(AssertSqlSafe(format!("refresh materialized view of_{view}"))).await.unwrap();
    }
    assert_eq!(count(&mut session, "of_subscription_current_status where status_id = 1").await, 6);
    // A copy has them, too.
    let mut shell = Shell::new();
    let copy = create_database("").await;
    shell.set("OLD", api.database_url.as_str());
    shell.set("NEW", copy.as_str());
    shell.run("pg_dump --dbname=\"$OLD\" | psql --quiet --set=ON_ERROR_STOP=1 \"$NEW\"");
    let mut session = PgConnection::connect(copy.as_str()).await.unwrap();
    assert_eq!(count(&mut session, "of_subscription_current_status where status_id = 1").await, 6);
}

/// The embedded PostgreSQL has no postgres_fdw, so this is what its other end sends, as a log of PostgreSQL 15 has it.
#[tokio::test]
async fn another_database_reads_through_postgres_fdw() {
    let (_api, mut session) = filled().await;
    for statement in [
        "set search_path = pg_catalog",
        "set timezone = 'GMT'",
        "set datestyle = iso",
        "set intervalstyle = postgres",
        "set extra_float_digits = 3",
    ] {
        session.execute(statement).await.unwrap();
    }
    for view in VIEWS {
        session.execute("start transaction isolation level repeatable read").await.unwrap();
        session
            .execute(AssertSqlSafe(format!("declare c1 cursor for select * from public.{view}")))
            .await
            .unwrap_or_else(|error| panic!("{error}: {view}"));
        assert!(!session.fetch_all("fetch 100 from c1").await.unwrap().is_empty(), "{view}");
        session.execute("close c1; commit transaction").await.unwrap();
    }
}
