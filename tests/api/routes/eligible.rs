//! `GET /subscription/eligible`.

use ecommerce_stub::Behaviour;
use harness::{Api, Call};

/// Adds subscriptions with these ids, ACTIVE in an ACTIVE club.
async fn with_ids(api: &Api, ids: &str) {
    let club = api.club().await;
    api.run(&format!("insert into subscription (id, club_id) select id, {club} from ({ids}) ids (id)")).await;
    api.run(
        "insert into subscription_status_history (id, subscription_id, status_id, effect_date)
         select id, id, 1, '2020-01-01' from subscription",
    )
    .await;
}

/// Every page, each found by the link of the one before.
async fn pages(api: &Api, limit: usize) -> Vec<Vec<String>> {
    pages_from(api, Call::get("/subscription/eligible").query("limit", &limit.to_string())).await
}

async fn pages_from(api: &Api, first: Call) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(first));
    while let Some(call) = next {
        let answer = api.call(call).await;
        next = answer.next_page("/subscription/eligible");
        pages.push(serde_json::from_value(answer.body).unwrap());
    }
    pages
}

#[tokio::test]
async fn ids_come_in_the_order_of_their_bytes() {
    let api = Api::start().await;
    assert!(api.eligible().await.is_empty());
    with_ids(
        &api,
        "values ('b'), ('A'), ('a'), ('B'), ('_'), (U&'e\\0301'), ('é'), ('🍺'), ('1'), ('a b'), ('\"'), ('')",
    )
    .await;
    assert_eq!(api.eligible().await, ["", "\"", "1", "A", "B", "_", "a", "a b", "b", "e\u{301}", "é", "🍺"]);
}

#[tokio::test]
async fn a_subscription_is_eligible_when_it_is_active_and_its_club_active_or_closed() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let club: i32 = api.ask("select club_id from subscription").await;
    for (club_status, eligible) in [(2, true), (3, false), (1, true)] {
        api.club_status(club, club_status).await;
        assert_eq!(!api.eligible().await.is_empty(), eligible, "club status {club_status}");
    }
    api.run("update subscription_status_history set effect_date = null").await;
    assert!(api.eligible().await.is_empty(), "an entry without an effect date is never in effect");
    api.run("update subscription_status_history set effect_date = '-infinity'").await;
    assert_eq!(api.eligible().await, [subscription]);
    api.run("delete from club_status_history").await;
    assert!(api.eligible().await.is_empty(), "a club without a status");
    api.run("update subscription set club_id = null").await;
    assert!(api.eligible().await.is_empty(), "no club");
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let api = Api::start().await;
    with_ids(&api, "values ('a&b=c'), ('é#'), ('x y'), ('m'), ('n%41'), ('Z')").await;
    let whole = api.eligible().await;

    for limit in 1..=7 {
        let pages = pages(&api, limit).await;
        assert!(pages.iter().all(|page| page.len() <= limit));
        assert_eq!(pages.concat(), whole, "limit {limit}");
    }
    let rest = api.call(Call::get("/subscription/eligible").query("after", "m")).await;
    assert_eq!(rest.body, serde_json::json!(["n%41", "x y", "é#"]));
}

fn due(value: &str) -> Call {
    Call::get("/subscription/eligible").query("due", value)
}

#[tokio::test]
async fn who_is_charged_for_the_current_month_is_not_due() {
    let api = Api::start().await;
    with_ids(&api, "values ('charged'), ('orphan'), ('rejected'), ('unknown'), ('untried')").await;
    api.run("update subscription set customer_store_id = id").await;
    for id in ["charged", "orphan"] {
        assert_eq!(api.charge(id, id).await.status, 200);
    }
    api.platform.behave_once(Behaviour::status(402));
    api.charge("rejected", "rejected").await.refuses(502, "order_rejected");
    api.charge_into_the_unknown("unknown", "unknown").await;
    // It is created again, and starts clean.
    api.run(
        "create table again as select * from subscription where id = 'orphan';
         create table entry as select * from subscription_status_history where id = 'orphan';
         delete from subscription_status_history where id = 'orphan'; delete from subscription where id = 'orphan';
         insert into subscription select * from again; insert into subscription_status_history select * from entry",
    )
    .await;
    let still_due = ["orphan", "rejected", "unknown", "untried"];
    let answer = api.call(due("true")).await;
    assert_eq!(answer.body, serde_json::json!(still_due));
    assert!(answer.headers.contains_key("billing-month") && !answer.headers.contains_key("link"));
    assert_eq!(api.call(due("false")).await.body, serde_json::json!(api.eligible().await));
    assert_eq!(api.eligible().await.len(), 5);
    for limit in 1..=5 {
        let pages = pages_from(&api, due("true").query("limit", &limit.to_string())).await;
        assert_eq!(pages.concat(), still_due, "limit {limit}: the link keeps `due`");
        assert!(pages.iter().all(|page| page.len() <= limit));
    }
    api.set_clock("statement_timestamp() + interval '1 month'").await;
    assert_eq!(api.call(due("true")).await.body.as_array().map(Vec::len), Some(5), "everybody is due next month");
}

#[tokio::test]
async fn the_month_that_counts_for_due_is_that_of_the_billing_time_zone() {
    let api = Api::with(&[("BILLING_TIMEZONE", "America/Sao_Paulo")]).await;
    with_ids(&api, "values ('s')").await;
    api.run(
        "update subscription set customer_store_id = id; update club_status_history set effect_date = '2020-01-01'",
    )
    .await;
    api.set_clock("'2026-12-01T02:59:59Z'::timestamptz").await;
    assert_eq!(api.charge("s", "november").await.text("month"), "2026-11");
    for (moment, expected) in [("2026-12-01T02:59:59Z", 0), ("2026-12-01T03:00:00Z", 1)] {
        api.set_clock(&format!("'{moment}'::timestamptz")).await;
        assert_eq!(api.call(due("true")).await.body.as_array().map(Vec::len), Some(expected), "{moment}");
    }
}

#[tokio::test]
async fn invalid_parameters_are_refused() {
    let api = Api::start().await;
    for value in ["", "1", "yes", "True", "TRUE"] {
        let refused = api.call(due(value)).await;
        assert_eq!(refused.refuses(400, "invalid_request").text("detail"), "due must be true or false", "{value:?}");
    }
    for limit in ["0", "-1", "100001", "1.5", "x", "", "+1", "4294967297"] {
        api.call(Call::get("/subscription/eligible").query("limit", limit)).await.refuses(400, "invalid_request");
    }
    api.call(Call::get("/subscription/eligible").query("after", "a\0")).await.refuses(400, "invalid_request");
}

#[tokio::test]
async fn the_whole_list_is_refused_when_it_is_too_large_for_an_answer() {
    let api = Api::start().await;
    // 41 bytes each, in 6 MiB less 8 KiB.
    with_ids(&api, "select gen_random_uuid()::text from generate_series(1, 153250)").await;
    let ids = api.eligible().await;
    assert_eq!(ids.len(), 153_250);
    assert!(ids.is_sorted());

    api.run("insert into subscription (id, club_id) select 'one more', min(club_id) from subscription").await;
    api.run("insert into subscription_status_history values ('one more', 'one more', 1, '2020-01-01')").await;
    let whole = Call::get("/subscription/eligible");
    api.call(whole.clone()).await.refuses(400, "page_required");
    api.call(whole.clone().query("after", "")).await.refuses(400, "page_required");

    let page = api.call(whole.clone().query("limit", "100000")).await;
    assert_eq!(page.body.as_array().map(Vec::len), Some(100_000));
    assert!(page.headers.contains_key("link"));
    let rest = api.call(whole.query("after", &ids[99_999])).await;
    assert_eq!(rest.body.as_array().map(Vec::len), Some(53_251));
    assert!(!rest.headers.contains_key("link"));
}

#[tokio::test]
async fn a_page_of_long_ids_ends_before_it_is_too_large() {
    let api = Api::start().await;
    // 36 quotes: 73 bytes escaped once, 146 and more escaped twice.
    with_ids(&api, "select repeat('\"', 30) || lpad(n::text, 6, '0') from generate_series(1, 60000) n").await;
    let sizes: Vec<usize> = pages(&api, 60_000).await.iter().map(Vec::len).collect();
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (2, 60_000), "{sizes:?}");
}
