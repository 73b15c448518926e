//! Attacks on the database, and attacks by its logins.

use futures_util::{StreamExt, stream};
use harness::Api;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    recovery::{
        charges, fill,
        rights::{ENTRY_POINTS, allowed, set},
        role,
    },
    routes::secrets_and_tls::{no_tls_before, statuses, tls_before},
};

/// PostgreSQL refuses this statement, because the login lacks a right.
async fn is_forbidden(session: &mut PgConnection, statement: &str) {
    let Err(refused) = session.execute(AssertSqlSafe(statement.to_owned())).await else {
        panic!("it may: {statement}");
    };
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"), "{refused}: {statement}");
}

async fn session_of(api: &Api, login: &str) -> PgConnection {
    let mut url = api.database_url.clone();
    url.set_username(login).unwrap();
    PgConnection::connect(url.as_str()).await.unwrap()
}

/// If this works, it frees a month: the trigger notes rows of the login's own table.
const ATTACH: &str = "create temporary table bait (id varchar);
    insert into bait values ('charged');
    create trigger bait after delete on bait referencing old table as deleted
        for each statement execute function public.note_orphans();
    delete from bait";

#[tokio::test]
async fn a_login_without_rights_attaches_our_trigger_to_its_own_table() {
    let api = Api::start().await;
    fill(&api).await;
    let login = role(&api, "login").await;
    is_forbidden(&mut session_of(&api, &login).await, ATTACH).await;
    assert!(!charges(&api, "charged", "another").await, "the month is free");
    assert_eq!(allowed(&api, &login).await, set(&[]));
}

#[tokio::test]
async fn the_owners_login_attaches_our_trigger_to_another_table() {
    let api = Api::start().await;
    fill(&api).await;
    for table in ["bait", "subscription"] {
        let mut session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
        let attached = session.execute(AssertSqlSafe(ATTACH.replace("bait", table))).await;
        assert!(!charges(&api, "charged", "another").await, "{table}: the month is free");
        assert!(attached.is_err(), "{table}");
    }
}

#[tokio::test]
async fn a_thief_of_the_functions_password_reads_customers_and_rewrites_the_ledger() {
    let api = Api::start().await;
    fill(&api).await;
    let login = role(&api, "login").await;
    api.run(&format!("select grant_to_functions('{login}')")).await;
    let ledger = api.attempts().await;
    let thief = &mut session_of(&api, &login).await;
    let everything: Vec<(String, bool)> = sqlx::query_as(
        "select relname::text, relkind = 'r' from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')",
    )
    .fetch_all(&api.sql)
    .await
    .unwrap();
    assert!(everything.contains(&("subscription".to_owned(), true)));
    assert!(everything.contains(&("charge_ledger".to_owned(), false)));
    for (name, is_table) in everything {
        is_forbidden(thief, &format!("select from {name}")).await;
        if is_table {
            is_forbidden(thief, &format!("insert into {name} default values")).await;
            is_forbidden(thief, &format!("delete from {name}")).await;
            is_forbidden(thief, &format!("truncate {name}")).await;
        }
    }
    for statement in [
        "update charge_attempt set state = 'rejected'",
        "select resolve_charge(null, 'not_sent', 'I say so')",
        "select record_charge('open', '2026-11', 'no-such-order')",
        "select release_orphans('charged', '1')",
        "select grant_to_operators(current_user)",
        "create trigger mine after delete on subscription for each statement execute function note_orphans()",
        "create function public.mine() returns int language sql return 1",
        "alter function billing_now() rename to mine",
        "alter table charge_attempt disable trigger all",
        "set role club",
        "copy (select 1) to program 'true'",
    ] {
        is_forbidden(thief, statement).await;
    }
    assert_eq!(
        allowed(&api, &login).await,
        set(&ENTRY_POINTS),
        "ENTRY_POINTS of tests/api/recovery/rights.rs, and rights.sql"
    );
    assert_eq!(api.attempts().await, ledger);
}

#[tokio::test]
async fn a_server_without_tls_or_of_another_authority_takes_the_databases_place() {
    let api = Api::start().await;
    let no_tls = no_tls_before(&api.database_url).await;
    let (tls, _) = tls_before(&api.database_url).await;
    let scopes = ["prod", "production", "staging", "Dev", "dev2"].map(|closed| (closed, 503));
    let scopes = scopes.into_iter().chain(["dev", "local"].map(|open| (open, 200)));
    let answers = scopes.flat_map(|scope| [(scope, no_tls), (scope, tls)]).map(async |((scope, status), port)| {
        assert_eq!(statuses(&api, scope, "localhost", port, &[]).await, [status; 2], "{scope}");
    });
    // Few at a time, so that each has time to connect.
    stream::iter(answers).buffer_unordered(3).collect::<()>().await;
    let asked_for = [("sslmode", "prefer")];
    assert_eq!(statuses(&api, "staging", "localhost", no_tls, &asked_for).await, [200; 2]);
}
