//! Statements that operators and the acceptance system run by hand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use harness::{Api, Call};
use serde_json::json;

const DELETE: &str = "delete from subscription_status_history; delete from subscription";

#[tokio::test]
async fn rows_by_hand_are_accepted_as_on_the_bare_schema() {
    let api = Api::start().await;
    api.run(
        "insert into club (name) values ('first');
         insert into club values (50, null, null), (51, repeat('x', 128), -1);
         insert into status (name) values ('a fourth');
         insert into club_status (name) values ('a fourth');
         insert into subscription values ('', null, null, null), (repeat('🍺', 36), 50, repeat('é', 36), 'infinity');
         insert into subscription values ('twice-1', 50, 'c'), ('twice-2', 50, 'c');
         insert into subscription_status_history values
            ('1', 'twice-1', null, null, null, null), ('2', 'twice-1', 4, '-infinity', null, ''),
            ('3', null, 1, '2020-01-01', 'infinity', repeat('x', 256)), ('4', 'twice-1', 2, '2020-01-01', null, null),
            ('5', 'twice-1', 3, '2020-01-01', null, null);
         insert into club_status_history values
            ('1', 50, null, null, null, null), ('2', null, 4, 'infinity', null, null), ('3', 50, 1, '2020-01-01', null, null), ('4', 50, 1, '2020-01-01', null, null);
         update subscription set id = 'renamed' where id = 'twice-2';
         update club_status_history set club_id = 51 where id = '4'",
    )
    .await;
    assert_eq!(api.ask::<i32>("select max(id) from status").await, 4, "the sequence went on after the first three");
    assert!(api.eligible().await.is_empty());
    api.subscribe(50, "c").await.refuses(409, "already_subscribed");
    assert_eq!(api.status("twice-1", json!({ "status_id": 1 })).await.status, 200);
    assert_eq!(api.eligible().await, ["twice-1"]);
}

#[tokio::test]
async fn a_charged_subscription_can_be_deleted_and_starts_clean_when_it_is_inserted_again() {
    for delete in [DELETE, "truncate subscription_status_history, subscription", "truncate subscription cascade"] {
        let api = Api::start().await;
        let club = api.club().await;
        let make = format!("insert into subscription values ('s', {club}, 'c')");
        for round in 1..=3 {
            api.run(&make).await;
            let charged = api.charge("s", "the-same-number").await;
            assert_eq!((charged.status, &charged.body["already_charged"]), (200, &json!(false)), "{delete} {round}");
            assert_eq!(api.charge("s", "another").await.body["already_charged"], json!(true));
            api.run(delete).await;
            api.charge("s", "another").await.refuses(404, "subscription_not_found");
        }
        api.run(&format!("insert into subscription values ('t', {club}, 'd')")).await;
        assert_eq!(api.charge("t", "the-same-number").await.status, 200, "the request_id is free again");
        let attempts = api.attempts().await;
        assert_eq!(attempts.len(), 4, "the record of the charges stays");
        assert_eq!(attempts.iter().filter(|attempt| attempt["orphaned"] == true).count(), 3);
    }
}

#[tokio::test]
async fn an_orphaned_attempt_does_not_block_a_charge() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let club: i32 = api.ask("select club_id from subscription").await;
    api.charge_into_the_unknown(&subscription, "o").await;
    api.run(DELETE).await;
    api.run(&format!("insert into subscription values ('{subscription}', {club}, 'c')")).await;
    assert_eq!(api.charge(&subscription, "another").await.status, 200);
}

#[tokio::test]
async fn deleting_does_not_fail_while_the_ledger_is_locked() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.charge(&subscription, "o").await;

    let mut holder = api.sql.begin().await.unwrap();
    sqlx::query("select from charge_attempt for update").execute(&mut *holder).await.unwrap();
    sqlx::query("lock table charge_attempt in access exclusive mode").execute(&mut *holder).await.unwrap();
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let script = format!(
            "begin isolation level {isolation}; set local lock_timeout = '1ms'; select 1; {DELETE}; commit;
             insert into subscription values ('again')"
        );
        api.run(&script).await;
    }
    holder.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn truncating_never_deadlocks_with_what_the_functions_do() {
    let api = Api::start().await;
    let club = api.club().await;
    let make = format!(
        "insert into subscription select 's-' || n, {club}, 'c-' || n from generate_series(1, 200) n;
         insert into subscription_status_history select id, id, 1, '2020-01-01' from subscription"
    );
    let done = AtomicBool::new(false);
    let answers: [AtomicUsize; 5] = Default::default();
    let callers = async {
        let environments =
            join_all(["eligible", "eligible", "status", "charge", "subscribe"].map(|name| api.environment(name))).await;
        let calls = environments.iter().enumerate().map(|(index, environment)| {
            let (done, answered) = (&done, &answers[index]);
            async move {
                while !done.load(Ordering::Acquire) {
                    let number = answered.load(Ordering::Acquire);
                    let subscription = format!("s-{}", number % 200 + 1);
                    let call = match index {
                        0 | 1 => Call::get("/subscription/eligible"),
                        2 => Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 1 })),
                        3 => Call::charge(&subscription, &format!("o-{number}")),
                        _ => Call::subscribe(club, &format!("new-{number}")),
                    };
                    let answer = environment.call(&call).await;
                    assert!(answer.status < 500, "{answer:?}");
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        join_all(calls).await;
    };
    let truncate = async {
        let mut rounds = 0;
        // Until each caller has met a truncate.
        while rounds < 150 || answers.iter().any(|answered| answered.load(Ordering::Acquire) < 20) {
            for statement in ["truncate subscription_status_history, subscription", "truncate subscription cascade"] {
                api.run(statement).await;
                api.run(&make).await;
            }
            rounds += 2;
        }
        done.store(true, Ordering::Release);
    };
    tokio::join!(callers, truncate);
}

#[tokio::test]
async fn a_role_that_may_delete_needs_no_right_on_the_ledger() {
    let api = Api::start().await;
    api.subscription().await;
    api.run(&format!(
        "do $$ begin if not exists (select from pg_roles where rolname = 'clerk') then create role clerk; end if; end $$;
         grant select, insert, update, delete, truncate on subscription, subscription_status_history to clerk;
         begin; set local role clerk; {DELETE}; truncate subscription, subscription_status_history; commit"
    ))
    .await;
    api.charge("s", "o").await.refuses(404, "subscription_not_found");
}

#[tokio::test]
async fn the_documented_statements_for_clubs_work() {
    let api = Api::start().await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md")).unwrap();
    let statements: Vec<_> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(statements.len() >= 3, "the page has SQL");
    api.run(statements[0]).await;
    let club: i32 = api.ask("select max(id) from club").await;
    assert_eq!(api.subscribe(club, "c").await.status, 201);
    for statement in &statements[1..] {
        api.run(statement).await;
    }
    api.set_clock("'2027-01-01Z'::timestamptz").await;
    api.subscribe(club, "d").await.refuses(409, "club_not_active");
}
