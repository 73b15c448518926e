//! The judge must be able to say no: broken histories, and broken variants of the protocol that make them.

use api_tests::{API_KEY, API_SECRET, Api, checker, checker::Attempt};
use ecommerce_stub::{Answer as Reply, Behaviour, Received};
use serde_json::json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

const CLAIM: &str = include_str!("../../crates/core/sql/claim_charge.sql");
const SETTLE: &str = include_str!("../../crates/core/sql/settle_charge.sql");

fn order(number: &str) -> Received {
    Received { request_id: number.to_owned(), customer_id: "c".to_owned(), sku_id: 1, taken: true, refused: false }
}

fn attempt(number: &str, standing: &str) -> Attempt {
    Attempt {
        subscription_id: "s".to_owned(),
        billing_month: "2026-11-01".to_owned(),
        request_id: number.to_owned(),
        customer_store_id: "c".to_owned(),
        store_sku: 1,
        standing: standing.to_owned(),
        decided_by: None,
        detached: false,
    }
}

#[test]
fn broken_histories_are_caught() {
    let refused = Received { taken: false, refused: true, ..order("b") };
    let good = ([order("a"), refused.clone()], [attempt("a", "charged"), attempt("b", "rejected")]);
    assert_eq!(checker::violations(&good.0, &good.1), Vec::<String>::new());
    let gone = |standing| Attempt { detached: true, ..attempt("a", standing) };
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

/// A call of the protocol, step by step, with statements that may be broken.
struct ProtocolCall {
    attempt: Option<Uuid>,
    token: Uuid,
    number: &'static str,
}

impl ProtocolCall {
    fn new(number: &'static str) -> Self {
        Self { attempt: None, token: Uuid::new_v4(), number }
    }

    async fn claim(&mut self, api: &Api) -> String {
        // Columns are called as sqlx's macros want them.
        let row = sqlx::query(CLAIM)
            .bind("s")
            .bind(self.number)
            .bind(Uuid::new_v4())
            .bind(self.token)
            .bind("UTC")
            .bind(5.0)
            .bind(true)
            .fetch_one(&api.sql)
            .await
            .unwrap();
        self.attempt = row.get("attempt_id?");
        row.get("verdict!")
    }

    /// The status that the platform answers, if it does.
    async fn send(&self, api: &Api) -> Option<u16> {
        let order = reqwest::Client::new()
            .post(format!("{}/order/{}", api.platform.base_url(), self.number))
            .header("x-api-key", API_KEY)
            .header("x-api-secret", API_SECRET)
            .json(&json!({ "customer_id": "c", "sku_id": 1 }));
        order.send().await.ok().map(|response| response.status().as_u16())
    }

    async fn settle(&self, api: &Api, statement: &str, state: &str) {
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .bind(self.attempt)
            .bind(self.token)
            .bind(state)
            .bind(None::<i16>)
            .bind(None::<&str>)
            .execute(&api.sql)
            .await
            .unwrap();
    }
}

async fn world() -> Api {
    let api = Api::start().await;
    api.run("insert into club values (7, 'c', 1); insert into subscription values ('s', 7, 'c')").await;
    api
}

fn broken(statement: &str, part: &str, by: &str) -> String {
    assert!(statement.contains(part), "the statement has changed: {part}");
    statement.replace(part, by)
}

async fn deadline_passes(api: &Api, minutes: i32) {
    api.set_clock(&format!("statement_timestamp() + interval '{minutes} minutes'")).await;
}

/// What the judge finds once a call under another number has done what it may.
async fn after_another_number(api: &Api, settle: &str) -> Vec<String> {
    let mut another = ProtocolCall::new("b");
    if another.claim(api).await == "claimed" {
        another.send(api).await;
        another.settle(api, settle, "charged").await;
    }
    checker::violations(&api.platform.received(), &api.ledger().await)
}

/// A call sleeps on a 422, its attempt is taken over and maybe taken; then it wakes and settles. Another number follows.
async fn sleeper(settle: &str) -> Vec<String> {
    let api = world().await;
    let mut slow = ProtocolCall::new("a");
    assert_eq!(slow.claim(&api).await, "claimed");
    api.platform.behave_for("a", Behaviour::status(422));
    assert_eq!(slow.send(&api).await, Some(422));
    deadline_passes(&api, 1).await;

    let mut quick = ProtocolCall::new("a");
    assert_eq!(quick.claim(&api).await, "claimed");
    api.platform.behave_for("a", Behaviour { answer: Reply::ResetAfterReading { take: true }, ..Behaviour::default() });
    assert_eq!(quick.send(&api).await, None);
    slow.settle(&api, settle, "rejected").await;
    quick.settle(&api, settle, "unknown").await;

    after_another_number(&api, settle).await
}

/// A first sending may have been taken; its repeat is refused. Another number follows.
async fn refused_repeat(settle: &str) -> Vec<String> {
    let api = world().await;
    let mut first = ProtocolCall::new("a");
    first.claim(&api).await;
    api.platform.behave_for("a", Behaviour { answer: Reply::ResetAfterReading { take: true }, ..Behaviour::default() });
    assert_eq!(first.send(&api).await, None);
    first.settle(&api, settle, "unknown").await;

    let mut repeat = ProtocolCall::new("a");
    assert_eq!(repeat.claim(&api).await, "claimed");
    api.platform.behave_for("a", Behaviour::status(422));
    assert_eq!(repeat.send(&api).await, Some(422));
    repeat.settle(&api, settle, "rejected").await;

    after_another_number(&api, settle).await
}

#[tokio::test]
async fn a_settlement_without_its_fence_is_caught() {
    let fence = "state = 'in_flight' and token = $2)";
    let guard = "and (possibly_sent or deadline < billing_now())";
    assert_eq!(sleeper(SETTLE).await, Vec::<String>::new());
    let unfenced = broken(&broken(SETTLE, fence, "state = 'in_flight')"), guard, "and false");
    assert!(!sleeper(&unfenced).await.is_empty());
}

#[tokio::test]
async fn a_repeat_that_opens_the_month_is_caught() {
    assert_eq!(refused_repeat(SETTLE).await, Vec::<String>::new());
    let opening = broken(SETTLE, "(possibly_sent or deadline < billing_now())", "deadline < billing_now()");
    assert!(!refused_repeat(&opening).await.is_empty());
}

#[tokio::test]
async fn a_claim_after_the_call_out_is_caught() {
    let api = world().await;
    // It dies between the two.
    assert_eq!(ProtocolCall::new("a").send(&api).await, Some(201));
    api.charge("s", "b").await;
    let found = checker::violations(&api.platform.received(), &api.ledger().await);
    assert!(found.iter().any(|violation| violation.contains("no attempt")), "{found:?}");

    // Two of them, both alive: the second claim comes too late.
    let api = world().await;
    let (mut one, mut two) = (ProtocolCall::new("a"), ProtocolCall::new("b"));
    one.send(&api).await;
    two.send(&api).await;
    for call in [&mut one, &mut two] {
        if call.claim(&api).await == "claimed" {
            call.settle(&api, SETTLE, "charged").await;
        }
    }
    assert!(!checker::violations(&api.platform.received(), &api.ledger().await).is_empty());
}
