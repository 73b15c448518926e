//! The billing month, in the billing time zone.

use std::time::Duration;

use ecommerce_stub::Behaviour;
use harness::{Answer, Api, Call};
use serde_json::json;

/// A subscription that has been active since 2000.
async fn old_subscription(api: &Api) -> String {
    let subscription = api.subscription().await;
    api.run(
        "update subscription_status_history set effect_date = '2000-01-01', create_date = '2000-01-01';
         update club_status_history set effect_date = '2000-01-01', create_date = '2000-01-01'",
    )
    .await;
    subscription
}

#[tokio::test]
async fn months_end_to_the_millisecond_in_their_zone() {
    for (zone, moments) in [
        ("UTC", &[("2026-11-30T23:59:59.999Z", "2026-11"), ("2026-12-01T00:00:00Z", "2026-12")][..]),
        ("UTC", &[("2028-02-29T23:59:59.999Z", "2028-02"), ("2028-03-01T00:00:00Z", "2028-03")]),
        ("UTC", &[("2026-12-31T23:59:59.999Z", "2026-12"), ("2027-01-01T00:00:00Z", "2027-01")]),
        ("America/Sao_Paulo", &[("2026-12-01T02:59:59.999Z", "2026-11"), ("2026-12-01T03:00:00Z", "2026-12")]),
        ("America/Sao_Paulo", &[("2028-03-01T02:59:59.999Z", "2028-02"), ("2028-03-01T03:00:00Z", "2028-03")]),
        // Clocks went back in the night of the first, after the month had begun at midnight of daylight saving time.
        (
            "America/New_York",
            &[
                ("2026-11-01T03:59:59.999Z", "2026-10"),
                ("2026-11-01T04:00:00Z", "2026-11"),
                ("2026-11-01T06:30:00Z", "2026-11"),
            ],
        ),
        // Clocks go forward on the last day of the month, so it ends an hour earlier than it began.
        ("Europe/London", &[("2024-03-31T22:59:59.999Z", "2024-03"), ("2024-03-31T23:00:00Z", "2024-04")]),
        // The first of the month has no midnight: clocks went from 00:00 to 01:00.
        ("America/Asuncion", &[("2017-10-01T03:59:59.999Z", "2017-09"), ("2017-10-01T04:00:00Z", "2017-10")]),
        ("Pacific/Kiritimati", &[("2026-11-30T09:59:59.999Z", "2026-11"), ("2026-11-30T10:00:00Z", "2026-12")]),
        ("Asia/Kathmandu", &[("2026-11-30T18:14:59.999Z", "2026-11"), ("2026-11-30T18:15:00Z", "2026-12")]),
    ] {
        let api = Api::with(&[("BILLING_TIMEZONE", zone)]).await;
        let subscription = old_subscription(&api).await;
        let mut charged = Vec::new();
        for (moment, month) in moments {
            api.set_clock(&format!("'{moment}'::timestamptz")).await;
            let answer = api.charge(&subscription, &format!("o-{month}")).await;
            assert_eq!((answer.status, answer.text("month")), (200, *month), "{zone} {moment}: {answer:?}");
            assert_eq!(answer.body["already_charged"], json!(charged.contains(month)), "{zone} {moment}");
            charged.push(month);
        }
    }
}

#[tokio::test]
async fn a_status_changes_to_the_millisecond() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    api.status(&subscription, json!({ "status_id": 3, "interval": 1, "effect_date": "2028-02-29T12:00:00Z" })).await;
    for (moment, eligible) in [
        ("2028-02-29T11:59:59.999Z", true),
        ("2028-02-29T12:00:00Z", false),
        ("2028-03-01T11:59:59.999Z", false),
        ("2028-03-01T12:00:00Z", true),
    ] {
        api.set_clock(&format!("'{moment}'::timestamptz")).await;
        assert_eq!(!api.eligible().await.is_empty(), eligible, "{moment}");
    }
}

/// The functions' clocks decide no month. Here the database's clock is years ahead of them.
#[tokio::test]
async fn environments_whose_clocks_differ_agree_on_the_month() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    api.set_clock("'2031-05-31T23:59:59.999Z'::timestamptz").await;
    let (early, late) = (api.environment("charge").await, api.environment("charge").await);
    let charge = |number: &str| Call::charge(&subscription, number).event();
    let (one, two) = tokio::join!(
        early.invoke(charge("one"), Duration::from_secs(28)),
        late.invoke(charge("two"), Duration::from_secs(30)),
    );
    assert_eq!(api.platform.received().len(), 1);
    for answer in [one, two] {
        assert!(answer.text("month") == "2031-05" || answer.text("code") == "charge_in_progress", "{answer:?}");
    }
}

#[tokio::test]
async fn the_list_says_the_month_in_which_it_was_read() {
    for (zone, month) in [("UTC", "2026-12"), ("America/Sao_Paulo", "2026-11")] {
        let api = Api::with(&[("BILLING_TIMEZONE", zone)]).await;
        api.set_clock("'2026-12-01T00:00:00Z'::timestamptz").await;
        let list = Call::get("/subscription/eligible");
        let empty = api.call(list.clone()).await;
        assert_eq!((empty.body.as_array().map(Vec::len), &*empty.headers["billing-month"]), (Some(0), month), "{zone}");
        old_subscription(&api).await;
        old_subscription(&api).await;
        let page = api.call(list.query("limit", "1")).await;
        assert!(page.headers.contains_key("link"));
        assert_eq!((page.body.as_array().map(Vec::len), &*page.headers["billing-month"]), (Some(1), month), "{zone}");
    }
}

fn charge_for(subscription: &str, request_id: &str, month: &str) -> Call {
    Call::charge(subscription, request_id).query("month", month)
}

#[tokio::test]
async fn a_call_for_another_month_charges_nothing() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    api.set_clock("'2026-12-01T00:00:00Z'::timestamptz").await;
    for month in ["2026-11", "2027-01", "0000-01"] {
        let answer = api.call(charge_for(&subscription, "o", month)).await;
        assert_eq!(answer.refuses(409, "month_mismatch").text("month"), "2026-12");
    }
    assert!(api.platform.received().is_empty() && api.attempts().await.is_empty());

    let charged = api.call(charge_for(&subscription, "o", "2026-12")).await;
    assert_eq!((charged.status, charged.text("month")), (200, "2026-12"), "{charged:?}");
}

#[tokio::test]
async fn the_call_s_month_is_that_of_the_request_id_s_first_use() {
    let api = Api::start().await;
    let (subscription, other) = (old_subscription(&api).await, old_subscription(&api).await);
    api.set_clock("'2026-11-30T23:59:59Z'::timestamptz").await;
    api.platform.behave_once(Behaviour::status(500));
    api.charge(&subscription, "november").await.refuses(504, "charge_outcome_unknown");

    api.set_clock("'2026-12-01T00:00:00Z'::timestamptz").await;
    let answer = api.call(charge_for(&subscription, "november", "2026-12")).await;
    assert_eq!(answer.refuses(409, "month_mismatch").text("month"), "2026-11");
    assert_eq!(api.platform.received().len(), 1);
    let repeated = api.call(charge_for(&subscription, "november", "2026-11")).await;
    assert_eq!((repeated.status, repeated.text("month")), (200, "2026-11"), "{repeated:?}");

    // In its place among the refusals: after an unknown subscription, before a request_id of another one.
    api.call(charge_for("nobody", "o", "2026-11")).await.refuses(404, "subscription_not_found");
    api.call(charge_for(&other, "november", "2026-11")).await.refuses(409, "month_mismatch");
    api.call(charge_for(&other, "november", "2026-12")).await.refuses(422, "request_id_reused");
}

#[tokio::test]
async fn a_repeat_across_midnight_is_answered_and_a_request_id_of_every_month_is_refused() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    let answers =
        |answer: &Answer| (answer.status, answer.text("month").to_owned(), answer.body["already_charged"].clone());
    let november = || (200, "2026-11".to_owned(), json!(true));
    api.set_clock("'2026-11-30T23:59:59Z'::timestamptz").await;
    assert_eq!(api.charge(&subscription, "mine").await.status, 200);

    for moment in ["2026-12-01T00:00:00Z", "2026-12-01T23:59:59Z"] {
        api.set_clock(&format!("'{moment}'::timestamptz")).await;
        assert_eq!(answers(&api.charge(&subscription, "mine").await), november(), "{moment}");
    }
    for moment in ["2026-12-01T23:59:59.001Z", "2026-12-30T00:00:00Z", "2027-11-30T00:00:00Z"] {
        api.set_clock(&format!("'{moment}'::timestamptz")).await;
        let reused = api.charge(&subscription, "mine").await;
        assert_eq!(reused.refuses(422, "request_id_reused").text("month"), "2026-11", "{moment}");
        // A caller who names the month works through it.
        assert_eq!(answers(&api.call(charge_for(&subscription, "mine", "2026-11")).await), november(), "{moment}");
        api.call(charge_for(&subscription, "mine", "2026-12")).await.refuses(409, "month_mismatch");
    }
    assert_eq!(api.platform.received().len(), 1);
}

#[tokio::test]
async fn within_its_month_a_charge_is_answered_for_weeks() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    api.set_clock("'2026-12-01T00:00:00Z'::timestamptz").await;
    assert_eq!(api.charge(&subscription, "mine").await.status, 200);
    api.set_clock("'2026-12-31T23:59:59Z'::timestamptz").await;
    assert_eq!(api.charge(&subscription, "mine").await.body["already_charged"], json!(true));
}

#[tokio::test]
async fn a_request_id_that_was_rejected_or_not_sent_in_a_past_month_is_refused() {
    let api = Api::start().await;
    let (one, two) = (old_subscription(&api).await, old_subscription(&api).await);
    api.set_clock("'2026-11-30T23:59:59Z'::timestamptz").await;
    for (subscription, request_id, status, code) in
        [(&one, "rejected", 402, "order_rejected"), (&two, "not-sent", 429, "ecommerce_unavailable")]
    {
        api.platform.behave_once(Behaviour::status(status));
        assert_eq!(api.charge(subscription, request_id).await.text("code"), code);
    }
    api.set_clock("'2026-12-01T00:00:00Z'::timestamptz").await;
    for (subscription, request_id) in [(&one, "rejected"), (&two, "not-sent")] {
        for call in [Call::charge(subscription, request_id), charge_for(subscription, request_id, "2026-11")] {
            let reused = api.call(call).await;
            assert_eq!(reused.refuses(422, "request_id_reused").text("month"), "2026-11");
        }
        api.call(charge_for(subscription, request_id, "2026-12")).await.refuses(409, "month_mismatch");
    }
    assert_eq!(api.platform.received().len(), 2);
}

#[tokio::test]
async fn a_malformed_month_is_refused() {
    let api = Api::start().await;
    for month in ["", "2026", "2026-1", "2026-13", "2026-11-01", "11-2026", "2026-11\0", "now"] {
        api.call(charge_for("nobody", "o", month)).await.refuses(400, "invalid_request");
    }
}
