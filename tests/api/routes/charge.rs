//! `POST /subscription/{id}/charge/{request_id}`.

use std::{sync::Arc, time::Duration};

use ecommerce_stub::{Answer as Reply, Behaviour};
use futures_util::future::join_all;
use harness::{Api, Call, eventually};
use serde_json::{Value, json};

fn answering(answer: Reply) -> Behaviour {
    Behaviour { answer, ..Behaviour::default() }
}

#[tokio::test]
async fn a_subscription_is_charged_once_a_month() {
    let api = Api::start().await;
    let subscription = api.subscription().await;

    let first = api.charge(&subscription, "order-1").await;
    assert_eq!(first.status, 200, "{first:?}");
    let customer: String = api.ask("select customer_store_id from subscription").await;
    let order = json!({ "order_id": 1, "request_id": "order-1", "customer_id": customer, "sku_id": 4711 });
    let month: String = api.ask("select to_char(utc_now(), 'YYYY-MM')").await;
    let charged_at = first.text("charged_at").to_owned();
    assert_eq!(
        first.body,
        json!({
            "subscription_id": subscription, "request_id": "order-1", "month": month, "charged_at": charged_at,
            "already_charged": false, "order": order
        })
    );
    assert!(charged_at.ends_with('Z'));

    for request_id in ["order-1", "order-2"] {
        let again = api.charge(&subscription, request_id).await;
        assert_eq!(
            (again.status, &again.body["already_charged"], again.text("request_id"), again.text("charged_at")),
            (200, &json!(true), "order-1", charged_at.as_str())
        );
        assert_eq!((&again.body["order"], again.text("month")), (&order, month.as_str()));
    }
    assert_eq!(api.platform.received().len(), 1);
}

#[tokio::test]
async fn the_next_month_is_charged_too_and_an_old_request_id_stays_in_its_month() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let november = api.charge(&subscription, "november").await;
    api.set_clock("statement_timestamp() + interval '1 month'").await;

    let december = api.charge(&subscription, "december").await;
    assert_eq!((december.status, &december.body["already_charged"]), (200, &json!(false)));
    assert_ne!(december.text("month"), november.text("month"));
    let reused = api.charge(&subscription, "november").await;
    assert_eq!(reused.refuses(422, "request_id_reused").text("month"), november.text("month"));
    assert_eq!(api.platform.received().len(), 2);
}

#[tokio::test]
async fn of_64_simultaneous_charges_through_8_environments_one_reaches_the_platform() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.platform.behave(Behaviour { delay_ms: 300, ..Behaviour::default() });
    let environments = join_all((0..8).map(|_| api.environment("charge"))).await;
    let environments: Vec<_> = environments.into_iter().map(Arc::new).collect();

    let calls = (0..64).map(|call| {
        let (environment, subscription) = (Arc::clone(&environments[call % 8]), subscription.clone());
        async move { environment.call(&Call::charge(&subscription, &format!("order-{call}"))).await }
    });
    let answers = join_all(calls).await;

    assert_eq!(api.platform.received().len(), 1);
    let charged =
        answers.iter().filter(|answer| answer.status == 200 && answer.body["already_charged"] == json!(false));
    assert_eq!(charged.count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.refuses(409, "charge_in_progress");
        assert!(answer.headers["retry-after"].parse::<u64>().is_ok_and(|seconds| (1..=19).contains(&seconds)));
    }
}

#[tokio::test]
async fn simultaneous_charges_of_two_subscriptions_under_one_request_id_make_one_order() {
    let api = Api::start().await;
    let subscriptions = [api.subscription().await, api.subscription().await];
    api.platform.behave(Behaviour { delay_ms: 200, ..Behaviour::default() });
    let environments = join_all((0..8).map(|_| api.environment("charge"))).await;
    let answers = join_all(environments.iter().enumerate().map(|(index, environment)| {
        let call = Call::charge(&subscriptions[index % 2], "shared");
        async move { environment.call(&call).await }
    }))
    .await;
    assert_eq!(api.platform.received().len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let code = answer.text("code");
        assert!(["charge_in_progress", "request_id_reused"].contains(&code), "{answer:?}");
    }
}

#[tokio::test]
async fn nothing_but_orders_reaches_the_platform() {
    let api = Api::start().await;
    let environment = api.environment("charge").await;
    for number in ["a", "b"] {
        let subscription = api.subscription().await;
        assert_eq!(environment.call(&Call::charge(&subscription, number)).await.status, 200);
    }
    environment.call(&Call::charge("nobody", "o")).await.refuses(404, "subscription_not_found");
    assert_eq!((api.platform.received().len(), api.platform.strangers()), (2, vec![]));
}

#[tokio::test]
async fn a_refused_order_leaves_the_month_open() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for (status, code) in [
        (400, "order_rejected"),
        (401, "ecommerce_unauthorized"),
        (402, "order_rejected"),
        (404, "order_rejected"),
        (407, "ecommerce_unauthorized"),
        (422, "order_rejected"),
    ] {
        api.platform.behave_once(Behaviour::status(status));
        let answer = api.charge(&subscription, "order-1").await;
        assert_eq!(answer.refuses(502, code).body["upstream_status"], status);
        assert!(!answer.headers.contains_key("retry-after"));
    }
    assert_eq!(api.charge(&subscription, "order-2").await.body["already_charged"], json!(false));
    let states: Vec<_> = api.attempts().await.iter().map(|attempt| attempt["state"].clone()).collect();
    assert_eq!(states, ["rejected", "not_sent", "rejected", "rejected", "not_sent", "rejected", "charged"]);
}

#[tokio::test]
async fn a_refusal_gives_what_the_platform_said() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    let long = "no ".repeat(100_000);
    for (body, said) in [
        (
            r#"{"error":{"code":"card_declined","retries":3}}"#,
            json!({ "error": { "code": "card_declined", "retries": 3 } }),
        ),
        ("The card was declined.\n", json!("The card was declined.")),
        (r#"{"error":"\u0000"}"#, json!(r#"{"error":"\u0000"}"#)),
        (&deep, json!(deep)),
        (&long, json!(long[..2048].trim())),
        ("", json!(null)),
    ] {
        let headers = Default::default();
        api.platform.behave_once(answering(Reply::Status { status: 402, headers, body: body.to_owned() }));
        let refused = api.charge(&subscription, "order-1").await;
        assert_eq!(refused.refuses(502, "order_rejected").body["upstream_answer"], said);
        assert_eq!(last_upstream_answer(&api).await, said);
    }
    // The longest in JSON that a refusal can be. Its outcome is recorded all the same.
    let controls = "\u{1}".repeat(3000);
    let headers = Default::default();
    api.platform.behave_once(answering(Reply::Status { status: 402, headers, body: controls.clone() }));
    api.charge(&subscription, "order-1").await.refuses(502, "order_rejected");
    assert_eq!(last_upstream_answer(&api).await, json!(controls[..2048]));
    // Neither a body that breaks off nor bytes that are no text change the outcome.
    for (bytes, said) in [
        (&b"HTTP/1.1 402 No\r\ncontent-length: 99\r\n\r\nThe card"[..], "The card"),
        (b"HTTP/1.1 402 No\r\n\r\n\0\xff no", "\u{fffd} no"),
    ] {
        api.platform.behave_once(answering(Reply::Raw { take: false, bytes: bytes.to_owned() }));
        let refused = api.charge(&subscription, "order-1").await;
        assert_eq!(refused.refuses(502, "order_rejected").text("upstream_answer"), said);
        assert_eq!(last_upstream_answer(&api).await, json!(said));
    }
    // For operators only: it may quote our credentials.
    for status in [401, 407] {
        let (headers, body) = (Default::default(), format!("{status}"));
        api.platform.behave_once(answering(Reply::Status { status, headers, body }));
        let refused = api.charge(&subscription, "order-1").await;
        assert_eq!(refused.refuses(502, "ecommerce_unauthorized").body["upstream_answer"], json!(null));
        assert_eq!(last_upstream_answer(&api).await, json!(status));
    }
    // Of an unknown outcome and of a charge there is none, even if an earlier sending was refused.
    api.charge_into_the_unknown(&subscription, "order-1").await;
    assert_eq!(last_upstream_answer(&api).await, json!(null));
    api.platform.behave_once(answering(Reply::Status {
        status: 402,
        headers: Default::default(),
        body: "1".to_owned(),
    }));
    api.charge(&subscription, "order-1").await.refuses(504, "charge_outcome_unknown");
    assert_eq!(last_upstream_answer(&api).await, json!(1));
    assert_eq!(api.charge(&subscription, "order-1").await.status, 200);
    assert_eq!(last_upstream_answer(&api).await, json!(null));
}

/// The last attempt's refusal, as the ledger has kept it.
async fn last_upstream_answer(api: &Api) -> Value {
    let last = "select upstream_answer from charge_ledger order by claimed_at desc limit 1";
    api.ask::<Option<String>>(last).await.map_or(json!(null), |kept| serde_json::from_str(&kept).unwrap())
}

#[tokio::test]
async fn an_unreachable_platform_leaves_the_month_open() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for base_url in ["http://127.0.0.1:1", "http://no-such-host.invalid", "https://127.0.0.1:1"] {
        let environment = api.environment_with("charge", &[("ECOMMERCE_BASE_URL", base_url)]).await;
        let answer = environment.call(&Call::charge(&subscription, "order-1")).await;
        let retry_after = &answer.refuses(503, "ecommerce_unavailable").headers["retry-after"];
        assert!(retry_after.parse::<u64>().is_ok(), "{base_url}");
    }
    assert!(api.attempts().await.iter().all(|attempt| attempt["state"] == "not_sent"));
    assert_eq!(api.charge(&subscription, "order-1").await.body["already_charged"], json!(false));
}

#[tokio::test]
async fn an_unknown_outcome_is_repeated_only_under_its_own_request_id() {
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "2000")]).await;
    let late = Behaviour { delay_ms: 60_000, ..Behaviour::default() };
    let behaviours = [
        Behaviour::status(500),
        Behaviour::status(503),
        Behaviour::status(301),
        Behaviour::status(408),
        Behaviour::status(409),
        answering(Reply::ResetBeforeReading),
        answering(Reply::ResetAfterReading { take: true }),
        late,
    ];
    for (index, behaviour) in behaviours.into_iter().enumerate() {
        let subscription = api.subscription().await;
        let number = format!("order-{index}");
        api.platform.behave_once(behaviour.clone());
        let answer = api.charge(&subscription, &number).await;
        assert_eq!(answer.refuses(504, "charge_outcome_unknown").text("request_id"), number, "{behaviour:?}");
        assert_eq!(answer.headers["retry-after"], "2");

        let other = api.charge(&subscription, "another").await;
        assert_eq!(other.refuses(409, "charge_outcome_unknown").text("request_id"), number, "{behaviour:?}");
        assert_eq!(other.headers["retry-after"], "2");

        // A repeat that is refused, throttled or not sent says nothing about the first sending.
        for refusal in [401, 407, 422, 429, 500].map(Behaviour::status) {
            api.platform.behave_once(refusal);
            api.charge(&subscription, &number).await.refuses(504, "charge_outcome_unknown");
        }
        let unreachable = api.environment_with("charge", &[("ECOMMERCE_BASE_URL", "http://127.0.0.1:1")]).await;
        unreachable.call(&Call::charge(&subscription, &number)).await.refuses(504, "charge_outcome_unknown");

        let repeated = api.charge(&subscription, &number).await;
        assert_eq!((repeated.status, &repeated.body["already_charged"]), (200, &json!(false)), "{behaviour:?}");
        assert_eq!(repeated.body["order"]["request_id"], number);
    }
    assert!(api.platform.received().iter().all(|order| order.request_id.starts_with("order-")));
}

#[tokio::test]
async fn a_repeat_in_the_next_month_counts_for_the_first_month() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.charge_into_the_unknown(&subscription, "november").await;
    let november: String = api.ask("select to_char(billing_month, 'YYYY-MM') from charge_attempt").await;
    api.set_clock("statement_timestamp() + interval '1 month'").await;

    assert_eq!(
        api.charge(&subscription, "december").await.status,
        200,
        "an unknown outcome of last month does not hold up this one"
    );
    let repeated = api.charge(&subscription, "november").await;
    assert_eq!((repeated.status, repeated.text("month")), (200, november.as_str()), "{repeated:?}");
}

#[tokio::test]
async fn a_repeat_sends_the_same_order() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.charge_into_the_unknown(&subscription, "o").await;
    api.run("update club set store_sku = null; update subscription set customer_store_id = 'somebody else'").await;
    assert_eq!(api.charge(&subscription, "o").await.status, 200);
    let received = api.platform.received();
    assert_eq!((&received[0].customer_id, received[0].sku_id), (&received[1].customer_id, received[1].sku_id));
}

#[tokio::test]
async fn a_success_with_any_body_is_a_charge() {
    let api = Api::start().await;
    let with_body = |status, body: String| answering(Reply::Status { status, headers: Default::default(), body });
    for (behaviour, order) in [
        (with_body(200, "<html>thanks</html>".to_owned()), json!(null)),
        (with_body(204, String::new()), json!(null)),
        (with_body(200, format!("\"{}\"", "x".repeat(300 * 1024))), json!(null)),
        (answering(Reply::CutBody), json!(null)),
        (
            with_body(202, " {\"total\": 10.50, \"note\": \"\\u0000 🍺\"} ".to_owned()),
            json!({ "total": 10.50, "note": "\0 🍺" }),
        ),
        (with_body(201, "null".to_owned()), json!(null)),
    ] {
        let subscription = api.subscription().await;
        api.platform.behave_once(behaviour.clone());
        for already in [false, true] {
            let answer = api.charge(&subscription, &format!("for-{subscription}")).await;
            assert_eq!((answer.status, &answer.body["order"]), (200, &order), "{behaviour:?}");
            assert_eq!(answer.body["already_charged"], json!(already));
        }
    }
}

#[tokio::test]
async fn the_platforms_json_is_passed_on_unchanged() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let body = r#"{"total":10.50,"big":123456789012345678901234567890,"twice":1,"twice":2}"#;
    api.platform.behave_once(answering(Reply::Status {
        status: 200,
        headers: Default::default(),
        body: body.to_owned(),
    }));
    let environment = api.environment("charge").await;
    let charge = Call::charge(&subscription, "o").event();
    environment.invoke(charge, Duration::from_secs(29)).await;
    assert_eq!(api.ask::<String>("select \"order\" from charge_attempt").await, body);
}

#[tokio::test]
async fn a_request_id_belongs_to_its_first_use() {
    let api = Api::start().await;
    let (one, two) = (api.subscription().await, api.subscription().await);
    assert_eq!(api.charge(&one, "charged").await.status, 200);
    let reused = api.charge(&two, "charged").await;
    assert_eq!(reused.refuses(422, "request_id_reused").body["month"], json!(null), "another subscription's month");

    api.platform.behave_once(Behaviour::status(422));
    api.charge(&two, "rejected").await.refuses(502, "order_rejected");
    api.charge(&one, "rejected").await.refuses(422, "request_id_reused");

    api.set_clock("statement_timestamp() + interval '1 month'").await;
    api.charge(&two, "rejected").await.refuses(422, "request_id_reused");
    assert_eq!(api.charge(&two, "charged-2").await.status, 200);
    assert_eq!(api.platform.received().len(), 3);
}

#[tokio::test]
async fn an_inactive_or_incomplete_subscription_is_not_charged() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let club: i32 = api.ask("select club_id from subscription").await;
    for (change, chargeable) in [
        ("update subscription_status_history set status_id = 3", false),
        ("update subscription_status_history set status_id = 2", false),
        ("update subscription_status_history set status_id = null", false),
        ("update subscription_status_history set status_id = 1, effect_date = '2999-01-01'", false),
        (
            "update subscription_status_history set effect_date = '2020-01-01'; update club_status_history set club_status_id = 3",
            false,
        ),
        ("update club_status_history set club_status_id = 1, effect_date = '2999-01-01'", false),
        ("delete from club_status_history; update club set store_sku = null", false),
        ("update club set store_sku = 1; update subscription set customer_store_id = null", false),
        ("update subscription set customer_store_id = ''", false),
        ("update subscription set customer_store_id = 'c', club_id = null", false),
        (&format!("update subscription set club_id = {club}"), true),
    ] {
        api.run(change).await;
        let answer = api.charge(&subscription, "o").await;
        if chargeable {
            assert_eq!(answer.status, 200, "{change}: {answer:?}");
        } else {
            answer.refuses(409, "not_chargeable");
            assert!(api.platform.received().is_empty(), "{change}");
        }
    }
}

#[tokio::test]
async fn a_subscription_without_any_history_is_charged() {
    let api = Api::start().await;
    api.run("insert into club values (77, 'by hand', 42); insert into subscription values ('s', 77, 'c')").await;
    assert_eq!(api.charge("s", "o").await.status, 200);
    assert_eq!(api.platform.received()[0].sku_id, 42);
}

#[tokio::test]
async fn an_operator_resolves_the_unknown_outcome_of_a_paused_subscription() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.charge_into_the_unknown(&subscription, "o").await;
    api.status(&subscription, json!({ "status_id": 3 })).await;
    let stuck = api.charge(&subscription, "o").await;
    assert!(stuck.refuses(409, "charge_outcome_unknown").text("detail").contains("operator"));
    assert!(!stuck.headers.contains_key("retry-after"), "a repeat does not help");
    assert_eq!(api.platform.received().len(), 1);
}

#[tokio::test]
async fn a_charge_before_a_pause_is_still_answered() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.charge(&subscription, "o").await;
    api.status(&subscription, json!({ "status_id": 3 })).await;
    assert_eq!(api.charge(&subscription, "another").await.body["already_charged"], json!(true));
}

#[tokio::test]
async fn a_call_with_too_little_time_claims_nothing() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let environment = api.environment("charge").await;
    let event = Call::charge(&subscription, "o").event();
    let answer = environment.invoke(event.clone(), Duration::from_secs(5)).await;
    assert!(answer.refuses(503, "ecommerce_unavailable").headers.contains_key("retry-after"));
    assert!(api.attempts().await.is_empty());

    environment.invoke(event.clone(), Duration::from_secs(29)).await;
    let answer = environment.invoke(event, Duration::from_secs(5)).await;
    assert_eq!(
        (answer.status, &answer.body["already_charged"]),
        (200, &json!(true)),
        "an earlier charge is still answered"
    );
}

#[tokio::test]
async fn an_attempt_whose_process_died_is_unknown_after_its_deadline() {
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "20000")]).await;
    let subscription = api.subscription().await;
    api.platform.behave_once(Behaviour { delay_ms: 60_000, ..Behaviour::default() });
    let doomed = api.environment("charge").await;
    let call = Call::charge(&subscription, "o");
    tokio::select! {
        _ = doomed.call(&call) => panic!("the platform does not answer"),
        () = eventually("the order arrives", async || !api.platform.received().is_empty()) => {}
    }
    drop(doomed);
    api.charge(&subscription, "o").await.refuses(409, "charge_in_progress");
    api.charge(&subscription, "another").await.refuses(409, "charge_in_progress");

    api.set_clock("statement_timestamp() + interval '1 minute'").await;
    assert_eq!(api.attempts().await[0]["state"], "unknown");
    api.charge(&subscription, "another").await.refuses(409, "charge_outcome_unknown");
    let repeated = api.charge(&subscription, "o").await;
    assert_eq!((repeated.status, &repeated.body["order"]["order_id"]), (200, &json!(1)));
}

#[tokio::test]
async fn a_process_that_was_frozen_past_its_deadline_changes_nothing_that_was_taken_over() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let sleeper = api.environment_with("charge", &[("FAILPOINTS", "answered=return(STOP)")]).await;
    api.platform.behave_once(Behaviour::status(422));
    let answer = api
        .charge_asleep(&sleeper, &subscription, "o", async || {
            api.set_clock("statement_timestamp() + interval '1 minute'").await;
            api.charge_into_the_unknown(&subscription, "o").await;
        })
        .await;
    answer.refuses(504, "charge_outcome_unknown");
    assert_eq!(api.attempts().await[0]["state"], "unknown", "its 422 says nothing about the repeat");
    assert_eq!(api.charge(&subscription, "o").await.status, 200);
}

#[tokio::test]
async fn invalid_request_ids_are_refused_and_no_other_url_is_called() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    for request_id in [
        ".",
        "..",
        "...",
        "a%2Fb",
        "%2E%2E",
        "a%00",
        "a%20b",
        "%22",
        "'",
        "a%0D%0Ab",
        "%F0%9F%8D%BA",
        "%FF",
        "a;b",
        "a@b",
        &"x".repeat(65),
        &"x".repeat(10_000),
    ] {
        api.charge(&subscription, request_id).await.refuses(400, "invalid_request");
    }
    assert!(api.platform.received().is_empty() && api.attempts().await.is_empty());
    assert_eq!(api.charge(&subscription, &"x".repeat(64)).await.status, 200);
    assert_eq!(api.platform.received()[0].request_id, "x".repeat(64));
}

#[tokio::test]
async fn an_unknown_subscription_is_not_found() {
    let api = Api::start().await;
    api.charge("nobody", "o").await.refuses(404, "subscription_not_found");
}

#[tokio::test]
async fn an_attempt_is_repeated_even_if_another_subscription_used_its_request_id() {
    let api = Api::start().await;
    let (one, two) = (api.subscription().await, api.subscription().await);
    api.platform.behave_once(Behaviour::status(422));
    api.charge(&one, "shared").await.refuses(502, "order_rejected");
    api.charge_into_the_unknown(&two, "other").await;
    // As if the two had raced.
    api.run("update charge_attempt set request_id = 'shared'").await;
    assert_eq!(api.charge(&two, "shared").await.status, 200);
    api.charge(&one, "shared").await.refuses(422, "request_id_reused");
}
