//! The rights of each kind of login in the database.

use std::{collections::BTreeSet, path::Path};

use harness::{Answer, SESSIONS, database};
use sqlx::{AssertSqlSafe, Executor};

use super::*;
use crate::schema::migrations::{ROOT, Scope};

/// Everything in our schema that this login has a right on: functions, and what it may do with tables and views.
pub async fn allowed(api: &Api, login: &str) -> BTreeSet<String> {
    let rights = "select proname::text from pg_proc
        where pronamespace = 'public'::regnamespace and has_function_privilege($1, oid, 'execute')
        union all
        select verb || ' ' || relname
        from pg_class cross join unnest(array['select', 'insert', 'update', 'references']) verb
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') and has_any_column_privilege($1, oid, verb)
        union all
        select verb || ' ' || relname
        from pg_class cross join unnest(array['delete', 'truncate', 'trigger']) verb
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') and has_table_privilege($1, oid, verb)
        union all
        select 'usage ' || relname from pg_class
        where relnamespace = 'public'::regnamespace
            and case when relkind = 'S' then has_sequence_privilege($1, oid, 'usage, select, update') end";
    sqlx::query_scalar(rights).bind(login).fetch_all(&api.sql).await.unwrap().into_iter().collect()
}

pub fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

pub const ENTRY_POINTS: [&str; 12] = [
    "active_clubs",
    "charges_of_month",
    "charges_of_subscription",
    "claim_charge",
    "count_charges",
    "count_unresolved_charges",
    "current_billing_month",
    "eligible_subscriptions",
    "record_status",
    "settle_charge",
    "subscribe",
    "subscriptions",
];

#[tokio::test]
async fn the_functions_role_can_do_what_the_api_does_and_nothing_else() {
    let mut api = Api::start().await;
    let login = role(&api, "login").await;
    // One file for Alembic, which is the owner, and for the functions.
    let mut config = json!({ "database": database::configuration(&api.database_url) });
    config["database"]["functions_user"] = json!(login);
    config["database"]["functions_password"] = json!("another");
    let scope = Scope::with(Path::new(ROOT), Some(&config));
    scope.alembic(&["upgrade", "head"]).unwrap();
    assert_eq!(
        allowed(&api, &login).await,
        set(&ENTRY_POINTS),
        "ENTRY_POINTS of tests/api/recovery/rights.rs, and rights.sql"
    );

    let club = api.club().await;
    let scope = scope.file().to_str().unwrap().trim_end_matches("_config.json").to_owned();
    api.set(&[("DATABASE_URL", ""), ("SCOPE", &scope)]).await;
    let subscribed = api.subscribe(club, "a customer").await;
    assert_eq!(subscribed.status, 201, "{subscribed:?}");
    let id = subscribed.text("id").to_owned();
    let ok = |answer: Answer| assert_eq!(answer.status, 200, "{answer:?}");
    ok(api.call(Call::get("/club")).await);
    ok(api.call(Call::get(format!("/subscription/{id}"))).await);
    ok(api.call(Call::get("/subscription").query("customer_id", "a customer")).await);
    assert_eq!(api.eligible().await, [id.as_str()]);
    assert!(charges(&api, &id, "1").await);
    ok(api.call(Call::get("/subscription/eligible").query("due", "true")).await);
    ok(api.call(Call::get(format!("/subscription/{id}/charge"))).await);
    ok(api.call(Call::get("/charge")).await);
    ok(api.status(&id, harness::pause(7)).await);
    let unresolved = api.environment("unresolved").await;
    let counted = unresolved.invoke_raw(json!({ "source": "aws.events" }), std::time::Duration::from_secs(20)).await;
    assert_eq!(counted, Ok(json!(0)));
    let logins: String = api.ask(&format!("select string_agg(distinct usename, ' ') from {SESSIONS}")).await;
    assert_eq!(logins, login);
}

#[tokio::test]
async fn an_upgrade_gives_the_roles_their_rights_on_what_it_makes() {
    let api = Api::start().await;
    let (functions, operator) = (role(&api, "login").await, role(&api, "login").await);
    api.run(&format!("select grant_to_functions('{functions}'), grant_to_operators('{operator}')")).await;
    let before = [allowed(&api, &functions).await, allowed(&api, &operator).await];
    let scope = Scope::of(&api.database_url);
    // This removes the list of charges, and the functions that give rights.
    scope.alembic(&["downgrade", "7ae60d79b60a"]).unwrap();
    assert!(!allowed(&api, &functions).await.contains("charges_of_month"));
    scope.alembic(&["upgrade", "head"]).unwrap();
    assert_eq!([allowed(&api, &functions).await, allowed(&api, &operator).await], before);
}

#[tokio::test]
async fn a_role_that_is_not_there_is_named_before_anything_is_changed() {
    let api = Api::start().await;
    let mut config = json!({ "database": database::configuration(&api.database_url) });
    config["database"]["functions_user"] = json!("nobody_knows");
    let scope = Scope::with(Path::new(ROOT), Some(&config));
    // To the revision before that of the rights.
    Scope::of(&api.database_url).alembic(&["downgrade", "481e2ad8607a-1"]).unwrap();
    let said = Scope::refusal(scope.command(&["upgrade", "head"]));
    assert!(said.contains("no role nobody_knows") && said.contains(&scope.name), "{said}");
    assert!(api.ask::<bool>("select to_regproc('grant_to_functions') is null").await);
}

#[tokio::test]
async fn an_operator_reads_the_views_and_decides_about_charges() {
    let api = Api::start().await;
    fill(&api).await;
    let login = role(&api, "login").await;
    api.run(&format!("select grant_to_operators('{login}')")).await;
    assert_eq!(
        allowed(&api, &login).await,
        // The functions that decide nothing stand in the views.
        set(&[
            "automatic_return_details",
            "billing_now",
            "is_automatic_return",
            "is_past_deadline",
            "record_charge",
            "resolve_charge",
            "select charge_ledger",
            "select club_current_status",
            "select subscription_current_status",
            "select unresolved_charges",
            "status_timeline",
            "utc_now",
        ])
    );
    let mut url = api.database_url.clone();
    url.set_username(&login).unwrap();
    let mut session = PgConnection::connect(url.as_str()).await.unwrap();
    for (view, rows) in [("subscription_current_status", 6), ("club_current_status", 1), ("unresolved_charges", 1)] {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {view}")))
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert_eq!(count, rows, "{view}");
    }
    session
        .execute(
            "select resolve_charge(attempt_id, 'not_sent', 'the platform has no such order') from unresolved_charges",
        )
        .await
        .unwrap();
    let decided_by: String = api.ask("select decided_by from charge_ledger where decided_by is not null").await;
    assert_eq!(decided_by, login);
    session.execute("select record_charge('open', '2026-11', 'an-order')").await.unwrap();
    assert_eq!(api.ask::<String>("select state from charge_ledger where request_id = 'an-order'").await, "charged");
}
