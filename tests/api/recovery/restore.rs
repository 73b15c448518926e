//! A database that has forgotten what came last: a restore to a point in time, a fail-over, a clock that is behind.

use std::collections::BTreeSet;

use super::*;

/// The rows of the database at the point.
async fn before_the_point(api: &Api) {
    api.club().await;
    api.run("update club set store_sku = 4711").await;
    subscribe(api, &["charged", "unknown", "forgotten", "by-hand", "cancelled", "paused", "open", "deleted"]).await;
    assert!(charges(api, "deleted", &month(api, "deleted").await).await);
    api.run("delete from subscription_status_history where subscription_id = 'deleted'").await;
    api.run("delete from subscription where id = 'deleted'").await;
    assert!(charges(api, "charged", &month(api, "charged").await).await);
    api.charge_into_the_unknown("unknown", &month(api, "unknown").await).await;
}

/// The calls after it, which are lost. Returns the shop's log of status changes.
async fn after_the_point(api: &Api) -> String {
    let forgotten = month(api, "forgotten").await;
    assert!(charges(api, "forgotten", &forgotten).await);
    assert!(charges(api, "unknown", &month(api, "unknown").await).await);
    assert!(charges(api, "by-hand", "a-number").await);
    let club: i32 = api.ask("select max(id) from club").await;
    let new = api.subscribe(club, "customer of new").await.text("id").to_owned();
    assert!(charges(api, &new, &month(api, &new).await).await);
    let cancelled = api.status("cancelled", json!({ "status_id": 2 })).await;
    let paused = api.status("paused", pause(30)).await;
    let log = [
        ("cancelled", 2, cancelled.text("effect_date"), ""),
        ("paused", 3, paused.text("effect_date"), ""),
        ("paused", 1, paused.text("automatic_return"), "Automatic return schedule"),
        ("never-heard-of", 2, cancelled.text("effect_date"), ""),
    ];
    let lines = log.map(|(id, status, moment, details)| {
        format!("{id},{status},{moment},{},{details}\n", cancelled.text("effect_date"))
    });
    format!("subscription_id,status_id,effect_date,recorded,details\n{}", lines.concat())
}

/// A request_id as the bill run makes it.
async fn month(api: &Api, subscription: &str) -> String {
    let month: String = api.ask("select to_char(current_billing_month('America/Sao_Paulo'), 'YYYY-MM')").await;
    format!("{month}.{subscription}")
}

/// Goes the guide's way back, with what the platform and the shop know. Then everybody is charged once.
async fn the_way_back(api: &Api, shell: &Shell, statuses: &str) {
    let placed = api.platform.received();
    let orders = placed.iter().filter(|order| order.taken);
    let lines = orders.map(|order| format!("{},{},{}\n", order.request_id, order.customer_id, order.sku_id));
    std::fs::write(shell.path("orders.csv"), format!("request_id,customer_id,sku_id\n{}", lines.collect::<String>()))
        .unwrap();
    std::fs::write(shell.path("statuses.csv"), statuses).unwrap();
    // It starts closed.
    api.charge("open", "6").await.refuses(503, "database_unavailable");
    let [record] = commands("The way back").try_into().unwrap();
    for _ in 0..2 {
        let printed = shell.run(&record);
        let (_, rest) = printed.split_once("Orders that the ledger does not have:").expect(&printed);
        let (orders, statuses) = rest.split_once("Statuses without a subscription:").unwrap();
        assert!(orders.contains("a-number") && orders.contains("(1 row)"), "{printed}");
        assert!(statuses.contains("never-heard-of") && statuses.contains("(1 row)"), "{printed}");
    }
    // The one order whose request_id says nothing.
    let [find, record_one] = blocks("The way back", "sql").try_into().unwrap();
    let found: String = api
        .ask(
            &find
                .replace("select subscription.id, create_date", "select subscription.id")
                .replace("customer-1", "customer of by-hand"),
        )
        .await;
    assert_eq!(found, "by-hand");
    let month = month(api, "").await;
    shell.run(&format!(
        "psql --set=ON_ERROR_STOP=1 \"$NEW\" <<'SQL'\n{}SQL",
        record_one
            .replace("57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba", &found)
            .replace("2026-11", &month[..7])
            .replace("the request_id", "a-number")
    ));
    let [open] = commands("Open").try_into().unwrap();
    shell.run(&open);
    eventually("it is open", async || api.charge("open", &format!("{month}open")).await.status == 200).await;

    let eligible = api.eligible().await;
    assert_eq!(eligible.len(), 6, "all but the cancelled and the paused one: {eligible:?}");
    for subscription in &eligible {
        assert!(!charges(api, subscription, "another").await);
    }
    let received = api.platform.received();
    let orders: BTreeSet<_> =
        received.iter().filter(|order| order.taken).map(|order| (&order.customer_id, &order.request_id)).collect();
    let customers: BTreeSet<_> = orders.iter().map(|(customer, _)| customer).collect();
    assert_eq!((orders.len(), customers.len()), (7, 7), "{orders:?}");
    assert_eq!(checker::violations(&api.platform.received(), &api.ledger().await), Vec::<String>::new());
    let returns: String = api
        .ask(
            "select next_status_id || ' ' || next_effect_date from subscriptions('paused', null, null, null, null, 10)",
        )
        .await;
    assert!(returns.starts_with("1 "), "the pause ends as it was recorded: {returns}");
}

#[tokio::test]
async fn nobody_is_charged_twice_after_a_restore_to_the_middle_of_a_month() {
    let mut api = Api::start().await;
    let mut shell = Shell::new();
    shell.run("mkdir archive");
    for name in ["BASE", "ARCHIVE", "DATA"] {
        shell.set(name, shell.path(&name.to_lowercase()));
    }
    shell.initialize("old", &format!("archive_mode = on\narchive_command = 'cp %p {}/%f'", shell.path("archive")));
    shell.start("old");
    let old = with_our_schema(&mut shell, "old", &api);
    api.move_to(&old).await;
    let [backup, restore] = commands("Restore to a point in time").try_into().unwrap();
    shell.run(&backup);
    before_the_point(&api).await;
    shell.set("POINT", api.ask::<String>("select clock_timestamp()::text").await);
    let statuses = after_the_point(&api).await;
    closed(&shell, &api).await;
    shell.run("pg_ctl stop --pgdata=old --mode=fast");

    let new = shell.url("data", "beer_club");
    shell.set("NEW", new.as_str());
    shell.run(&restore);
    api.move_to(&new).await;
    assert_eq!(api.ask::<i64>("select count(*) from charge_ledger").await, 3);
    the_way_back(&api, &shell, &statuses).await;
}

#[tokio::test]
async fn nobody_is_charged_twice_after_a_fail_over_that_lost_commits() {
    let mut api = Api::start().await;
    let mut shell = Shell::new();
    shell.initialize("old", "");
    shell.start("old");
    let old = with_our_schema(&mut shell, "old", &api);
    api.move_to(&old).await;
    shell.run("pg_basebackup --dbname=\"$OLD\" --pgdata=standby --checkpoint=fast --no-sync --write-recovery-conf");
    shell.start("standby");
    before_the_point(&api).await;
    let last: String = api.ask("select pg_current_wal_lsn()::text").await;
    let arrived = format!("select count(*) from pg_stat_replication where replay_lsn >= '{last}'");
    eventually("the standby has it", async || api.ask::<i64>(&arrived).await == 1).await;
    shell.run("pg_ctl stop --pgdata=standby --mode=fast");
    let statuses = after_the_point(&api).await;
    shell.run("pg_ctl stop --pgdata=old --mode=immediate");

    shell.start("standby");
    let new = shell.url("standby", "beer_club");
    shell.set("NEW", new.as_str());
    let [fail_over] = commands("Fail-over").try_into().unwrap();
    shell.run(&fail_over);
    api.move_to(&new).await;
    the_way_back(&api, &shell, &statuses).await;
}

#[tokio::test]
async fn a_second_charge_of_a_month_is_refused_and_the_first_is_named() {
    let api = Api::start().await;
    fill(&api).await;
    let month = &month(&api, "").await[..7];
    let record = async |subscription: &str, request_id: &str| {
        sqlx::query("select record_charge($1, $2, $3, 'a person')")
            .bind(subscription)
            .bind(month)
            .bind(request_id)
            .execute(&api.sql)
            .await
            .map(drop)
            .map_err(|error| (error.as_database_error().unwrap().code().unwrap().into_owned(), error.to_string()))
    };
    let states = async || {
        let rows = "select string_agg(concat_ws(' ', subscription_id, request_id, state, decided_by), ', ' order by request_id, state)
            from charge_ledger where not orphaned";
        api.ask::<String>(rows).await
    };
    for _ in 0..2 {
        record("open", "6").await.unwrap();
        record("charged", "1").await.unwrap();
        record("unknown", "2").await.unwrap();
        record("rejected", "3").await.unwrap();
        record("orphaned", "4").await.unwrap();
        assert_eq!(
            states().await,
            "charged 1 charged, unknown 2 charged a person, rejected 3 charged a person, orphaned 4 charged a person, \
             charged-again 5 charged, open 6 charged a person"
        );
    }
    for (subscription, first) in [("charged", "1"), ("open", "6")] {
        let (code, message) = record(subscription, "another").await.unwrap_err();
        assert_eq!(code, "23514");
        assert!(message.contains(&format!("\"{first}\"")) || message.contains(&format!(" {first}")), "{message}");
    }
    let (code, message) = record("nobody", "7").await.unwrap_err();
    assert!(code == "23503" && message.contains("nobody"), "{code} {message}");
    for subscription in ["open", "charged", "unknown", "rejected", "orphaned"] {
        assert!(!charges(&api, subscription, "another").await, "{subscription}");
    }
}

#[tokio::test]
async fn an_attempt_from_a_clock_that_was_ahead_is_not_stuck() {
    let api = Api::start().await;
    api.club().await;
    subscribe(&api, &["s", "t"]).await;
    let doomed = api.environment_with("charge", &[("FAILPOINTS", "claimed=return(KILL)")]).await;
    api.set_clock("statement_timestamp() + interval '6 hours'").await;
    assert!(doomed.try_call(&Call::charge("s", "1")).await.is_none());
    api.set_clock("statement_timestamp()").await;

    api.charge("s", "another").await.refuses(409, "charge_outcome_unknown");
    let listed: String = api.ask("select request_id || ' ' || minutes from unresolved_charges").await;
    assert_eq!(listed, "1 0");
    assert!(charges(&api, "s", "1").await);
    assert_eq!(checker::violations(&api.platform.received(), &api.ledger().await), Vec::<String>::new());
}
