//! `GET /charge`: a month's attempts, for the operators. `GET /subscription/{id}/charge`: how a subscription's months stand.

use chrono::{DateTime, Utc};
use ecommerce_stub::{Answer as Reply, Behaviour};
use harness::{Answer, Api, Call, gateway::GATEWAYS};
use serde_json::{Value, json};

/// Rows of `charge_attempt`: subscription, month, request_id, state, when it was claimed in November, and more columns.
async fn insert(api: &Api, attempts: &[(&str, &str, &str, &str, &str)]) {
    for (subscription, month, request_id, state, claimed_at) in attempts {
        api.run(&format!(
            "insert into charge_attempt (
                 id, subscription_id, billing_month, request_id, customer_id, sku_id, state, token, claimed_at,
                 deadline, settled_at
             )
             select gen_random_uuid(), '{subscription}', '{month}-01', '{request_id}', 'c', 1, '{state}',
                 gen_random_uuid(), '{claimed_at}', '{claimed_at}'::timestamptz + interval '19 s',
                 case when '{state}' <> 'in_flight' then '{claimed_at}'::timestamptz + interval '1 s' end"
        ))
        .await;
    }
}

fn charges() -> Call {
    Call::get("/charge")
}

async fn read(api: &Api, call: Call) -> Answer {
    let answer = api.call(call).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer
}

/// The request_ids of all pages, each found by the link of the one before.
async fn pages(api: &Api, first: Call) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(first));
    while let Some(call) = next {
        let answer = read(api, call).await;
        assert_eq!(answer.body.get("counts").is_some(), pages.is_empty(), "only the first page has the counts");
        let charges = answer.body["charges"].as_array().unwrap();
        pages.push(charges.iter().map(|charge| charge["request_id"].as_str().unwrap().to_owned()).collect());
        next = answer.next_page("/charge");
    }
    pages
}

#[tokio::test]
async fn a_month_shows_each_attempt_and_what_the_platform_said() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let refusal = r#"{"error":"card_declined","code":7.10}"#;
    let refuse = Reply::Status { status: 402, headers: Default::default(), body: refusal.to_owned() };
    api.platform.behave_once(Behaviour { answer: refuse, ..Behaviour::default() });
    api.charge(&subscription, "a").await.refuses(502, "order_rejected");
    let charged = api.charge(&subscription, "a").await;

    let month: String = api.ask("select to_char(utc_now(), 'YYYY-MM')").await;
    let answer = read(&api, charges()).await;
    let attempts = api.attempts().await;
    // PostgreSQL drops the last zeros of a moment.
    let moment = |value: &Value| serde_json::from_value::<DateTime<Utc>>(value.clone()).unwrap();
    let mut expected = json!({
        "subscription_id": subscription, "request_id": "a", "state": "rejected", "claimed_at": moment(&attempts[0]["claimed_at"]),
        "settled_at": moment(&attempts[0]["settled_at"]), "upstream_status": 402,
        "upstream_answer": { "error": "card_declined", "code": 7.10 }, "order": null, "late_order_at": null, "orphaned": false,
        "decided_by": null, "decided_at": null, "decided_because": null
    });
    assert_eq!(answer.body["month"], month);
    assert_eq!(answer.body["charges"][0], expected);
    for (member, value) in [
        ("state", json!("charged")),
        ("claimed_at", json!(moment(&attempts[1]["claimed_at"]))),
        ("settled_at", charged.body["charged_at"].clone()),
        ("upstream_status", json!(201)),
        ("upstream_answer", json!(null)),
        ("order", charged.body["order"].clone()),
    ] {
        expected[member] = value;
    }
    assert_eq!(answer.body["charges"][1], expected);
    let counts = json!({ "charged": 1, "in_flight": 0, "unknown": 0, "rejected": 0, "not_sent": 0 });
    assert_eq!((&answer.body["counts"], answer.next_page("/charge").is_none()), (&counts, true));
    assert_eq!(answer.body.as_object().unwrap().len(), 3);

    api.run(
        "update charge_attempt set state = 'rejected', late_order_at = '2026-11-30T12:00Z', decided_by = 'ana',
             decided_at = '2026-11-30T11:00Z', decided_because = 'she asked' where state = 'charged'",
    )
    .await;
    let decided = &read(&api, charges()).await.body["charges"][1];
    assert_eq!(decided["late_order_at"], "2026-11-30T12:00:00Z");
    assert_eq!(
        (&decided["decided_by"], &decided["decided_at"], &decided["decided_because"]),
        (&json!("ana"), &json!("2026-11-30T11:00:00Z"), &json!("she asked"))
    );
}

const NOVEMBER: &str = "2026-11";

/// Subscriptions a to f, each with a story, in November and with one attempt in December.
async fn with_stories(api: &Api) {
    api.set_clock("'2026-11-20T12:00:00Z'::timestamptz").await;
    api.run("insert into subscription (id) values ('a'), ('B'), ('c'), ('d'), ('e'), ('é'), ('gone')").await;
    insert(
        api,
        &[
            ("gone", NOVEMBER, "gone", "charged", "2026-11-19T00:00Z"),
            ("a", NOVEMBER, "a-1", "rejected", "2026-11-19T00:00Z"),
            ("a", NOVEMBER, "a-2", "charged", "2026-11-19T01:00Z"),
            ("B", NOVEMBER, "B-2", "not_sent", "2026-11-19T01:00Z"),
            ("B", NOVEMBER, "B-1", "rejected", "2026-11-19T00:00Z"),
            // Charged after all, before a later one was rejected.
            ("c", NOVEMBER, "c-1", "charged", "2026-11-19T00:00Z"),
            ("c", NOVEMBER, "c-2", "rejected", "2026-11-19T01:00Z"),
            ("d", NOVEMBER, "d-1", "in_flight", "2026-11-20T11:59:50Z"),
            ("e", NOVEMBER, "e-1", "in_flight", "2026-11-20T11:00Z"),
            ("é", NOVEMBER, "é-1", "rejected", "2026-11-19T00:00Z"),
            ("a", "2026-12", "a-3", "charged", "2026-11-19T00:00Z"),
        ],
    )
    .await;
    api.run("delete from subscription where id = 'gone'").await;
}

const ALL: [&str; 9] = ["B-1", "B-2", "a-1", "a-2", "c-1", "c-2", "d-1", "e-1", "é-1"];

#[tokio::test]
async fn a_months_attempts_come_by_subscription_and_time_and_its_subscriptions_are_counted() {
    let api = Api::start().await;
    with_stories(&api).await;
    let counts = json!({ "charged": 2, "in_flight": 1, "unknown": 1, "rejected": 1, "not_sent": 1 });
    let answer = read(&api, charges()).await;
    assert_eq!((answer.text("month"), &answer.body["counts"]), (NOVEMBER, &counts));
    let states: Vec<_> = answer.body["charges"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(
        states,
        ["rejected", "not_sent", "rejected", "charged", "charged", "rejected", "in_flight", "unknown", "rejected"]
    );
    assert_eq!(pages(&api, charges()).await, [ALL.map(str::to_owned).to_vec()]);

    // The filters leave the counts as they are: they are the month's.
    for (name, value, expected) in [
        ("state", "rejected", &["B-1", "a-1", "c-2", "é-1"][..]),
        ("state", "unknown,in_flight", &["d-1", "e-1"]),
        ("state", "charged", &["a-2", "c-1"]),
        ("subscription_id", "a", &["a-1", "a-2"]),
        ("subscription_id", "nobody", &[]),
        ("subscription_id", "gone", &[]),
        ("orphaned", "false", &ALL),
    ] {
        let call = charges().query(name, value);
        assert_eq!(read(&api, call.clone()).await.body["counts"], counts, "{name}={value}");
        assert_eq!(pages(&api, call).await, [expected], "{name}={value}");
    }
    let orphaned = read(&api, charges().query("orphaned", "true").query("subscription_id", "gone")).await;
    assert_eq!((&orphaned.body["charges"][0]["orphaned"], &orphaned.body["counts"]), (&json!(true), &counts));

    let december = read(&api, charges().query("month", "2026-12")).await;
    assert_eq!((december.text("month"), &december.body["counts"]["charged"]), ("2026-12", &json!(1)));
    assert_eq!(december.body["charges"][0]["request_id"], "a-3");
    let empty = read(&api, charges().query("month", "2027-01")).await;
    assert_eq!((&empty.body["charges"], &empty.body["counts"]["charged"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn the_current_month_is_that_of_the_billing_time_zone() {
    let api = Api::with(&[("BILLING_TIMEZONE", "America/Sao_Paulo")]).await;
    api.set_clock("'2026-12-01T02:59:59Z'::timestamptz").await;
    assert_eq!(read(&api, charges()).await.text("month"), NOVEMBER);
    api.set_clock("'2026-12-01T03:00:00Z'::timestamptz").await;
    assert_eq!(read(&api, charges()).await.text("month"), "2026-12");
}

#[tokio::test]
async fn the_link_keeps_the_month_and_every_other_parameter() {
    let api = Api::start().await;
    with_stories(&api).await;
    for limit in 1..=10 {
        let pages = pages(&api, charges().query("limit", &limit.to_string())).await;
        assert!(pages.iter().all(|page| page.len() <= limit));
        assert_eq!(pages.concat(), ALL, "limit {limit}");
    }
    let first = read(&api, charges().query("limit", "1")).await;
    // Each page is read in the next month.
    api.set_clock("'2026-12-01T12:00:00Z'::timestamptz").await;
    let second = read(&api, first.next_page("/charge").unwrap()).await;
    assert_eq!((second.text("month"), &second.body["charges"][0]["request_id"]), (NOVEMBER, &json!("B-2")));

    let filtered = charges()
        .query("month", NOVEMBER)
        .query("state", "charged,rejected")
        .query("orphaned", "true")
        .query("limit", "1");
    let filtered = pages(&api, filtered).await;
    assert_eq!(filtered.concat(), ["B-1", "a-1", "a-2", "c-1", "c-2", "gone", "é-1"]);
    assert_eq!(filtered.len(), 7);
    let one = pages(&api, charges().query("month", NOVEMBER).query("subscription_id", "a").query("limit", "1")).await;
    assert_eq!(one, [["a-1"], ["a-2"]]);
}

#[tokio::test]
async fn a_page_ends_before_it_is_too_large() {
    let api = Api::start().await;
    api.set_clock("'2026-11-20T12:00:00Z'::timestamptz").await;
    // In the function's answer, where each quote counts double, an order takes more than twice its length.
    for (order, what) in
        [(r#"'["' || repeat('\"', 5900) || '"]'"#, "quotes"), (r#"'["' || repeat('x', 11900) || '"]'"#, "letters")]
    {
        api.run("truncate charge_attempt").await;
        api.run(&format!(
            "insert into charge_attempt (
                 id, subscription_id, billing_month, request_id, customer_id, sku_id, state, token, claimed_at, deadline,
                 settled_at, \"order\"
             )
             select gen_random_uuid(), 's' || n, '2026-11-01', 'r' || n, 'c', 1, 'charged', gen_random_uuid(), billing_now(),
                 billing_now(), billing_now(), {order}
             from generate_series(1, 1000) n"
        ))
        .await;
        let pages = pages(&api, charges()).await;
        assert_eq!(pages.concat().len(), 1000, "{what}");
        let least = pages[..pages.len() - 1].iter().map(Vec::len).min().unwrap();
        // 4 MB of orders of 12 kB, or of 24 kB.
        let expected = if what == "quotes" { 160..170 } else { 320..340 };
        assert!(expected.contains(&least), "{what}: {:?}", pages.iter().map(Vec::len).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn invalid_parameters_are_refused_by_name() {
    let api = Api::start().await;
    for (name, values) in [
        ("month", &["", "2026", "2026-13", "now", "2026-11\0"][..]),
        ("state", &["", "done", "charged,", "Charged", "charged rejected"]),
        ("limit", &["0", "10001", "-1", "x", ""]),
        ("orphaned", &["", "1", "yes", "True"]),
        ("subscription_id", &["", "a\0", &"x".repeat(37)]),
        (
            "after",
            &[
                "",
                "a",
                "1.2.3",
                "9223372036854775807.6640484e-0000-4000-8000-000000000000.a",
                "-99999999999999999.6640484e-0000-4000-8000-000000000000.a",
                "1.6640484e-0000-4000-8000-000000000000",
                "1.6640484e-0000-4000-8000-000000000000.\0",
            ],
        ),
    ] {
        for value in values {
            let refused = api.call(charges().query(name, value)).await;
            let detail = refused.refuses(400, "invalid_request").text("detail");
            assert!(detail.contains(name.trim_end_matches("_id")), "{name}={value:?}: {detail}");
        }
    }
}

#[tokio::test]
async fn every_gateway_finds_the_route_and_ids_that_look_like_routes() {
    let api = Api::start().await;
    for id in ["charge", "subscription", "club", "eligible"] {
        api.run(&format!("insert into subscription values ('{id}')")).await;
        insert(&api, &[(id, NOVEMBER, id, "charged", "2026-11-19T00:00Z")]).await;
        for gateway in GATEWAYS {
            for slash in ["", "/"] {
                let own = read(&api, Call::get(format!("/subscription/{id}/charge{slash}")).via(gateway)).await;
                assert_eq!(own.body[0]["request_id"], id, "{gateway:?} {own:?}");
                let month = Call::get(format!("/charge{slash}")).via(gateway).query("month", NOVEMBER);
                let month = read(&api, month.query("subscription_id", id)).await;
                assert_eq!(month.body["charges"][0]["request_id"], id, "{gateway:?} {month:?}");
            }
        }
    }
}

fn of(subscription: &str) -> Call {
    Call::get(format!("/subscription/{subscription}/charge"))
}

#[tokio::test]
async fn a_subscription_has_one_line_a_month_and_no_answer_of_the_platform() {
    let api = Api::start().await;
    with_stories(&api).await;
    let line = |month: &str, state: &str, request_id: &str, claimed_at: &str, charged_at: Value| json!({ "month": month, "state": state, "request_id": request_id, "claimed_at": claimed_at, "charged_at": charged_at });
    let charged = json!("2026-11-19T01:00:01Z");
    let december = line("2026-12", "charged", "a-3", "2026-11-19T00:00:00Z", json!("2026-11-19T00:00:01Z"));
    let november = line(NOVEMBER, "charged", "a-2", "2026-11-19T01:00:00Z", charged);
    assert_eq!(read(&api, of("a")).await.body, json!([december, november]));
    for (subscription, expected) in [
        ("B", line(NOVEMBER, "not_sent", "B-2", "2026-11-19T01:00:00Z", json!(null))),
        ("c", line(NOVEMBER, "charged", "c-1", "2026-11-19T00:00:00Z", json!("2026-11-19T00:00:01Z"))),
        ("d", line(NOVEMBER, "in_flight", "d-1", "2026-11-20T11:59:50Z", json!(null))),
        ("e", line(NOVEMBER, "unknown", "e-1", "2026-11-20T11:00:00Z", json!(null))),
    ] {
        assert_eq!(read(&api, of(subscription)).await.body, json!([expected]), "{subscription}");
    }
    api.call(of("gone")).await.refuses(404, "subscription_not_found");
    api.run("insert into subscription (id) values ('gone')").await;
    assert_eq!(read(&api, of("gone")).await.body, json!([]), "it starts clean");
    api.call(of(&"x".repeat(37))).await.refuses(400, "invalid_request");
}
