//! `POST /club/{id}/subscribe`.

use std::sync::Arc;

use futures_util::future::join_all;
use harness::{Api, Call};
use serde_json::json;

#[tokio::test]
async fn a_customer_subscribes_to_an_active_club() {
    let api = Api::start().await;
    let club = api.club().await;

    let answer = api.subscribe(club, "00000000-0000-0000-000-0000000000000").await;

    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.body["club_id"], club);
    assert_eq!(answer.body["customer_id"], "00000000-0000-0000-000-0000000000000");
    assert_eq!(answer.body["status_id"], 1);
    let kept: bool = api
        .ask(&format!(
            "select s.customer_store_id = '00000000-0000-0000-000-0000000000000' and h.status_id = 1
                and h.effect_date = s.create_date and h.create_date = s.create_date
                and '{}' = to_char(s.create_date, 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ')
                and s.create_date between utc_now() - interval '1 minute' and utc_now()
            from subscription s join subscription_status_history h on h.subscription_id = s.id
            where s.id = '{}'",
            answer.text("create_date"),
            answer.text("id")
        ))
        .await;
    assert!(kept);
}

#[tokio::test]
async fn an_unknown_club_is_not_found() {
    let api = Api::start().await;
    api.subscribe(4711, "c").await.refuses(404, "club_not_found");
}

#[tokio::test]
async fn only_an_active_club_takes_subscriptions() {
    let api = Api::start().await;
    let club: i32 = api.ask("insert into club (name) values ('Bock') returning id").await;
    api.subscribe(club, "c").await.refuses(409, "club_not_active");

    for (status, expected) in [(2, 409), (3, 409), (1, 201), (2, 409)] {
        api.club_status(club, status).await;
        assert_eq!(api.subscribe(club, "c").await.status, expected, "club status {status}");
    }
    api.run(&format!("update club_status_history set club_status_id = null where club_id = {club}")).await;
    api.subscribe(club, "d").await.refuses(409, "club_not_active");
}

#[tokio::test]
async fn a_club_that_opens_tomorrow_is_not_active_today() {
    let api = Api::start().await;
    let club: i32 = api.ask("insert into club (name) values ('Märzen') returning id").await;
    api.run(&format!(
        "insert into club_status_history (id, club_id, club_status_id, effect_date)
         values ('tomorrow', {club}, 1, utc_now() + interval '1 day')"
    ))
    .await;
    api.subscribe(club, "c").await.refuses(409, "club_not_active");
    api.set_clock("statement_timestamp() + interval '25 hours'").await;
    assert_eq!(api.subscribe(club, "c").await.status, 201);
}

#[tokio::test]
async fn a_customer_subscribes_once_per_club_ever() {
    let api = Api::start().await;
    let (club, other) = (api.club().await, api.club().await);
    let first = api.subscribe(club, "c").await;
    api.subscribe(club, "c").await.refuses(409, "already_subscribed");

    assert_eq!(api.status(first.text("id"), json!({ "status_id": 2 })).await.status, 200);
    api.subscribe(club, "c").await.refuses(409, "already_subscribed");

    assert_eq!(api.subscribe(club, "C").await.status, 201, "another customer");
    assert_eq!(api.subscribe(other, "c").await.status, 201, "another club");
}

#[tokio::test]
async fn of_64_simultaneous_calls_through_8_environments_one_subscribes() {
    let api = Api::start().await;
    let club = api.club().await;
    let environments = join_all((0..8).map(|_| api.environment("subscribe"))).await;
    let environments: Vec<_> = environments.into_iter().map(Arc::new).collect();

    let calls = (0..64).map(|call| {
        let environment = Arc::clone(&environments[call % 8]);
        async move { environment.call(&Call::subscribe(club, "c")).await }
    });
    let answers = join_all(calls).await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.refuses(409, "already_subscribed");
    }
    assert_eq!(api.ask::<i64>("select count(*) from subscription").await, 1);
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 1);
}

#[tokio::test]
async fn invalid_customer_ids_are_refused_and_change_nothing() {
    let api = Api::start().await;
    let club = api.club().await;
    for (body, field) in [
        ("", "body"),
        ("{", "body"),
        ("[]", "body"),
        ("\"c\"", "body"),
        ("{}", "customer_id"),
        (r#"{"customer_id": null}"#, "customer_id"),
        (r#"{"customer_id": 7}"#, "customer_id"),
        (r#"{"customer_id": ""}"#, "customer_id"),
        (r#"{"customer_id": "a\u0000b"}"#, "customer_id"),
        (r#"{"customer_id": "a\nb"}"#, "customer_id"),
        (r#"{"customer_id": "\u0085"}"#, "customer_id"),
        (r#"{"customer_id": "\ud800"}"#, "customer_id"),
    ] {
        let answer = api.call(Call::subscribe(club, "").body(body)).await;
        assert!(answer.refuses(400, "invalid_request").text("detail").contains(field), "{body}: {answer:?}");
    }
    let long = api.subscribe(club, &"x".repeat(10_000)).await;
    assert!(!long.refuses(400, "invalid_request").text("detail").contains("xxx"));
    api.subscribe(club, &"🍺".repeat(37)).await.refuses(400, "invalid_request");
    assert_eq!(api.ask::<i64>("select count(*) from subscription").await, 0);
}

#[tokio::test]
async fn unusual_customer_ids_are_kept_verbatim() {
    let api = Api::start().await;
    let club = api.club().await;
    for customer in ["a/b", "..", "%2F", "'; drop table club; --", "\"", "\\", " padded ", &"🍺".repeat(36)] {
        let answer = api.subscribe(club, customer).await;
        assert_eq!((answer.status, answer.text("customer_id")), (201, customer), "{answer:?}");
        let kept = "select customer_store_id from subscription where id = ";
        assert_eq!(api.ask::<String>(&format!("{kept}'{}'", answer.text("id"))).await, customer);
    }
}
