//! Operators choose the database's default isolation level. The answers are right at each of them.

use std::sync::Arc;

use futures_util::future::join_all;
use harness::{Api, Call, Environment, PATIENT, SESSIONS, checker, eventually, wire::Wire};
use serde_json::json;

const LEVELS: [&str; 2] = ["repeatable read", "serializable"];

async fn at(level: &str) -> Api {
    let api = Api::start().await;
    api.set_default("default_transaction_isolation", level).await;
    api
}

async fn environments(api: &Api, function: &'static str) -> Vec<Environment> {
    join_all((0..6).map(|_| api.environment(function))).await
}

#[tokio::test]
async fn a_customer_is_subscribed_once() {
    for level in LEVELS {
        let api = at(level).await;
        let club = api.club().await;
        let environments = environments(&api, "subscribe").await;
        for round in 0..10 {
            let call = Call::subscribe(club, &format!("c-{round}"));
            let answers = join_all(environments.iter().map(|environment| environment.call(&call))).await;
            assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{level} {answers:?}");
            for answer in answers.iter().filter(|answer| answer.status != 201) {
                answer.refuses(409, "already_subscribed");
            }
        }
        assert_eq!(api.ask::<i64>("select count(*) from subscription").await, 10);
    }
}

#[tokio::test]
async fn a_subscription_is_charged_once() {
    for level in LEVELS {
        let api = at(level).await;
        let environments = environments(&api, "charge").await;
        for round in 0..5 {
            let subscription = api.subscription().await;
            let calls = environments.iter().enumerate().map(|(index, environment)| {
                let call = Call::charge(&subscription, &format!("o-{round}-{index}"));
                async move { environment.call(&call).await }
            });
            let answers = join_all(calls).await;
            let charged = answers.iter().filter(|answer| answer.body["already_charged"] == json!(false));
            assert_eq!(charged.count(), 1, "{level} {answers:?}");
            for answer in answers.iter().filter(|answer| answer.status != 200) {
                answer.refuses(409, "charge_in_progress");
            }
        }
        assert_eq!(api.platform.received().len(), 5);
        assert_eq!(checker::violations(&api.platform.received(), &api.ledger().await), Vec::<String>::new());
    }
}

#[tokio::test]
async fn simultaneous_statuses_and_lists_all_succeed() {
    for level in LEVELS {
        let api = at(level).await;
        let subscription = api.subscription().await;
        let (status, eligible) = (environments(&api, "status").await, environments(&api, "eligible").await);
        let change =
            Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 3, "interval": 1 }));
        let list = Call::get("/subscription/eligible");
        for _ in 0..5 {
            let changes = join_all(status.iter().map(|environment| environment.call(&change)));
            let lists = join_all(eligible.iter().map(|environment| environment.call(&list)));
            let (changes, lists) = tokio::join!(changes, lists);
            assert!(changes.iter().chain(&lists).all(|answer| answer.status == 200), "{level} {changes:?} {lists:?}");
        }
        assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 1 + 2 * 30, "{level}");
    }
}

#[tokio::test]
async fn a_claim_that_waited_sees_what_was_committed_meanwhile() {
    for level in LEVELS {
        let api = at(level).await;
        let subscription = api.subscription().await;
        let environment = Arc::new(api.environment("charge").await);
        let mut operator = api.sql.begin().await.unwrap();
        sqlx::query("select from subscription for update").execute(&mut *operator).await.unwrap();
        let charge = tokio::spawn({
            let (environment, call) = (Arc::clone(&environment), Call::charge(&subscription, "o"));
            async move { environment.call(&call).await }
        });
        let waits = format!("select exists (select from {SESSIONS} and wait_event_type = 'Lock')");
        eventually("the claim waits", async || api.ask(&waits).await).await;
        sqlx::query("update subscription_status_history set status_id = 2").execute(&mut *operator).await.unwrap();
        operator.commit().await.unwrap();
        charge.await.unwrap().refuses(409, "not_chargeable");
        assert!(api.platform.received().is_empty(), "{level}");
    }
}

#[tokio::test]
async fn a_transaction_is_begun_only_if_the_default_level_will_not_do() {
    let api = at("repeatable read").await;
    let (wire, url) = Wire::before(&api.database_url).await;
    let environment = api.environment_with("subscribe", &[("DATABASE_URL", url.as_str()), PATIENT]).await;
    let club = api.club().await;
    assert_eq!(environment.call(&Call::subscribe(club, "c")).await.status, 201);
    let before = wire.round_trips();
    assert_eq!(environment.call(&Call::subscribe(club, "d")).await.status, 201);
    assert_eq!(wire.round_trips() - before, 3, "begin, the call, commit");
}
