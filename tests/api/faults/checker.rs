//! The checker can fail: on broken histories, and on a claim that comes after its order.

use ecommerce_stub::Received;
use harness::{API_KEY, API_SECRET, Api, checker, checker::Attempt};
use serde_json::json;
use uuid::Uuid;

fn order(request_id: &str) -> Received {
    Received { request_id: request_id.to_owned(), customer_id: "c".to_owned(), sku_id: 1, taken: true, refused: false }
}

fn attempt(request_id: &str, state: &str) -> Attempt {
    Attempt {
        subscription_id: "s".to_owned(),
        billing_month: "2026-11-01".to_owned(),
        request_id: request_id.to_owned(),
        customer_id: "c".to_owned(),
        sku_id: 1,
        state: state.to_owned(),
        decided_by: None,
        orphaned: false,
    }
}

#[test]
fn broken_histories_are_caught() {
    let refused = Received { taken: false, refused: true, ..order("b") };
    let good = ([order("a"), refused.clone()], [attempt("a", "charged"), attempt("b", "rejected")]);
    assert_eq!(checker::violations(&good.0, &good.1), Vec::<String>::new());
    let gone = |state| Attempt { orphaned: true, ..attempt("a", state) };
    assert_eq!(checker::violations(&[order("a")], &[gone("rejected"), gone("charged")]), Vec::<String>::new());

    let other_customer = Received { customer_id: "d".to_owned(), ..order("a") };
    let lost = Received { taken: false, ..order("a") };
    let december = Attempt { billing_month: "2026-12-01".to_owned(), ..attempt("a", "charged") };
    for (received, ledger, what) in [
        (vec![order("a"), order("b")], vec![attempt("a", "charged"), attempt("b", "rejected")], "ordered under"),
        (vec![order("a"), order("b")], vec![attempt("a", "unknown"), attempt("b", "not_sent")], "ordered under"),
        (vec![order("a")], vec![], "no attempt"),
        (vec![other_customer], vec![attempt("a", "charged")], "no attempt"),
        (vec![], vec![attempt("a", "charged")], "nothing was ordered"),
        (vec![refused], vec![attempt("b", "charged")], "nothing was ordered"),
        (vec![order("a")], vec![attempt("a", "rejected")], "the month is open"),
        (vec![lost.clone()], vec![attempt("a", "not_sent")], "the month is open"),
        (vec![lost], vec![attempt("a", "in_flight")], "in_flight at rest"),
        (vec![order("a")], vec![attempt("a", "charged"), attempt("b", "unknown")], "two live attempts"),
        (vec![order("a")], vec![attempt("a", "charged"), december], "belongs to"),
    ] {
        let found = checker::violations(&received, &ledger);
        assert!(found.iter().any(|violation| violation.contains(what)), "{what}: {found:?}");
    }
}

async fn world() -> Api {
    let api = Api::start().await;
    api.run("insert into club values (7, 'c', 1); insert into subscription values ('s', 7, 'c')").await;
    api
}

/// An order before its claim. The platform takes it.
async fn send(api: &Api, request_id: &str) {
    let order = reqwest::Client::new()
        .post(format!("{}/order/{request_id}", api.platform.base_url()))
        .header("x-api-key", API_KEY)
        .header("x-api-secret", API_SECRET)
        .json(&json!({ "customer_id": "c", "sku_id": 1 }));
    assert_eq!(order.send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_claim_after_the_call_out_is_caught() {
    let api = world().await;
    // It dies after the order, before the claim.
    send(&api, "a").await;
    api.charge("s", "b").await;
    let found = checker::violations(&api.platform.received(), &api.ledger().await);
    assert!(found.iter().any(|violation| violation.contains("no attempt")), "{found:?}");

    // Two calls that live: the second claim comes too late.
    let api = world().await;
    send(&api, "a").await;
    send(&api, "b").await;
    let (attempt, token) = (Uuid::new_v4(), Uuid::new_v4());
    api.run(&format!(
        "select claim_charge('s', 'a', '{attempt}', '{token}', 'UTC', 5, true, null, 60);
         select settle_charge('{attempt}', '{token}', 'charged', null, null, null)"
    ))
    .await;
    assert_eq!(api.charge("s", "b").await.body["already_charged"], true);
    let found = checker::violations(&api.platform.received(), &api.ledger().await);
    assert!(found.iter().any(|violation| violation.contains("no attempt")), "{found:?}");
}
