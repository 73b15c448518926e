//! `POST /subscription/{id}/status`.

use harness::{Api, Call};
use serde_json::json;

#[tokio::test]
async fn a_status_takes_effect_now_and_leaves_no_return() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for status in [2, 1, 3, 3, 2, 1] {
        let answer = api.status(&subscription, json!({ "status_id": status })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["subscription_id"], subscription);
        assert_eq!(answer.body["status_id"], status);
        assert_eq!(answer.body["details"], json!(null));
        assert_eq!(answer.body["automatic_return"], json!(null));
        assert!(answer.text("effect_date").ends_with('Z'));
        let now: i32 = api
            .ask(&format!("select status_id from subscription_current_status where subscription_id = '{subscription}'"))
            .await;
        assert_eq!(now, status);
        assert_eq!(api.eligible().await.len(), usize::from(status == 1));
    }
}

#[tokio::test]
async fn a_pause_with_an_interval_schedules_its_return() {
    let api = Api::start().await;
    let subscription = api.subscription().await;

    for interval in [json!(30), json!("30"), json!(30.0)] {
        let body = json!({ "status_id": 3, "interval": interval, "details": "Férias 🏖", "effect_date": "2030-01-31T21:00:00-03:00" });
        let answer = api.status(&subscription, body).await;
        assert_eq!(
            answer.body,
            json!({
                "subscription_id": subscription, "status_id": 3, "details": "Férias 🏖",
                "effect_date": "2030-02-01T00:00:00Z", "automatic_return": "2030-03-03T00:00:00Z"
            })
        );
    }
    let rows: String = api
        .ask(
            "select string_agg(concat_ws('|', status_id, effect_date, details), ';' order by effect_date, status_id)
             from (select distinct status_id, effect_date, details from subscription_status_history where effect_date > '2029-01-01') d",
        )
        .await;
    assert_eq!(rows, "3|2030-02-01 00:00:00|Férias 🏖;1|2030-03-03 00:00:00|Automatic return schedule");
    let together: bool = api
        .ask(
            "select count(distinct create_date) = 3 and count(*) = 6
             from subscription_status_history where effect_date > '2029-01-01'",
        )
        .await;
    assert!(together, "a pause and its return are recorded at the same moment");
}

#[tokio::test]
async fn an_interval_counts_only_with_a_pause() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for status in [1, 2] {
        for interval in [json!(30), json!(0), json!("x")] {
            let answer = api.status(&subscription, json!({ "status_id": status, "interval": interval })).await;
            assert_eq!((answer.status, &answer.body["automatic_return"]), (200, &json!(null)), "{answer:?}");
        }
    }
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 7);
}

#[tokio::test]
async fn a_scheduled_status_is_not_in_effect_before_its_time() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.status(&subscription, json!({ "status_id": 2, "effect_date": "2999-12-31" })).await;
    assert_eq!(api.eligible().await, std::slice::from_ref(&subscription));
    api.set_clock("'2999-12-30T23:59:59.999Z'::timestamptz").await;
    assert_eq!(api.eligible().await, std::slice::from_ref(&subscription));
    api.set_clock("'2999-12-31T00:00:00Z'::timestamptz").await;
    assert!(api.eligible().await.is_empty());
}

#[tokio::test]
async fn an_unknown_subscription_is_not_found() {
    let api = Api::start().await;
    api.status("nobody", json!({ "status_id": 1 })).await.refuses(404, "subscription_not_found");
    api.status("nobody", json!({ "status_id": 3, "interval": 5 })).await.refuses(404, "subscription_not_found");
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 0);
}

#[tokio::test]
async fn an_invalid_status_is_refused_with_the_name_of_the_field_and_changes_nothing() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for (body, field) in [
        (json!({}), "status_id"),
        (json!({ "status_id": 0 }), "status_id"),
        (json!({ "status_id": 4 }), "status_id"),
        (json!({ "status_id": 1.5 }), "status_id"),
        (json!({ "status_id": "1" }), "status_id"),
        (json!({ "status_id": 4294967297_u64 }), "status_id"),
        (json!({ "status_id": 3, "interval": 0 }), "interval"),
        (json!({ "status_id": 3, "interval": -1 }), "interval"),
        (json!({ "status_id": 3, "interval": 1.5 }), "interval"),
        (json!({ "status_id": 3, "interval": "" }), "interval"),
        (json!({ "status_id": 3, "interval": "two" }), "interval"),
        (json!({ "status_id": 3, "interval": 4000000 }), "interval"),
        (json!({ "status_id": 3, "interval": 1, "effect_date": "9999-12-31" }), "interval"),
        (json!({ "status_id": 3, "interval": 10000000000000000000000_f64 }), "interval"),
        (json!({ "status_id": 1, "effect_date": "tomorrow" }), "effect_date"),
        (json!({ "status_id": 1, "effect_date": "2024-02-30" }), "effect_date"),
        (json!({ "status_id": 1, "effect_date": "infinity" }), "effect_date"),
        (json!({ "status_id": 1, "effect_date": 1700000000 }), "effect_date"),
        (json!({ "status_id": 1, "effect_date": "" }), "effect_date"),
        (json!({ "status_id": 1, "details": 5 }), "details"),
        (json!({ "status_id": 1, "details": "x".repeat(257) }), "details"),
        (json!({ "status_id": 1, "details": "a\0b" }), "details"),
    ] {
        let answer = api.status(&subscription, body.clone()).await;
        assert!(answer.refuses(400, "invalid_request").text("detail").contains(field), "{body}: {answer:?}");
    }
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 1);
}

#[tokio::test]
async fn optional_fields_may_be_null_and_unknown_ones_are_ignored() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let body = json!({ "status_id": 3, "interval": null, "effect_date": null, "details": null, "reason": ["x"] });
    let answer = api.status(&subscription, body).await;
    assert_eq!((answer.status, &answer.body["automatic_return"]), (200, &json!(null)));
    let answer = api.status(&subscription, json!({ "status_id": 1, "details": "🍺".repeat(256) })).await;
    assert_eq!(answer.text("details"), "🍺".repeat(256));
}

#[tokio::test]
async fn an_id_that_is_no_uuid_works_on_every_route() {
    let api = Api::start().await;
    let club = api.club().await;
    let id = "00000000-0000-0000-000-0000000000000";
    api.run(&format!("insert into subscription (id, club_id, customer_store_id) values ('{id}', {club}, '{id}')"))
        .await;
    assert_eq!(api.status(id, json!({ "status_id": 3 })).await.status, 200);
    assert_eq!(api.status(id, json!({ "status_id": 1 })).await.status, 200);
    assert_eq!(api.eligible().await, [id]);
    assert_eq!(api.charge(id, id).await.status, 200);
    assert_eq!(api.call(Call::subscribe(club, id)).await.status, 409);
}
