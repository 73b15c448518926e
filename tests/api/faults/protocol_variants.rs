//! The checker must be able to fail: broken histories, and broken variants of the protocol that produce them.

use ecommerce_stub::{Answer as Reply, Behaviour, Received};
use harness::{API_KEY, API_SECRET, Api, checker, checker::Attempt};
use serde_json::json;
use uuid::Uuid;

fn order(number: &str) -> Received {
    Received { request_id: number.to_owned(), customer_id: "c".to_owned(), sku_id: 1, taken: true, refused: false }
}

fn attempt(number: &str, state: &str) -> Attempt {
    Attempt {
        subscription_id: "s".to_owned(),
        billing_month: "2026-11-01".to_owned(),
        request_id: number.to_owned(),
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

/// A call of the protocol, step by step, by database functions that may be broken.
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
        let (verdict, attempt): (String, Option<Uuid>) = sqlx::query_as(
            "select verdict, live_attempt_id from claim_charge('s', $1, $2, $3, 'UTC', 5, true, null, 60)",
        )
        .bind(self.number)
        .bind(Uuid::new_v4())
        .bind(self.token)
        .fetch_one(&api.sql)
        .await
        .unwrap();
        self.attempt = attempt;
        verdict
    }

    /// The status of the platform's answer, if there is one.
    async fn send(&self, api: &Api) -> Option<u16> {
        let order = reqwest::Client::new()
            .post(format!("{}/order/{}", api.platform.base_url(), self.number))
            .header("x-api-key", API_KEY)
            .header("x-api-secret", API_SECRET)
            .json(&json!({ "customer_id": "c", "sku_id": 1 }));
        order.send().await.ok().map(|response| response.status().as_u16())
    }

    async fn settle(&self, api: &Api, outcome: &str) {
        sqlx::query("select settle_charge($1, $2, $3, null, null, null)")
            .bind(self.attempt)
            .bind(self.token)
            .bind(outcome)
            .execute(&api.sql)
            .await
            .unwrap();
    }
}

/// Parts of `settle_charge()`, each with its replacement. Where the function changes, the parts change here.
type Breakage<'a> = &'a [(&'a str, &'a str)];

async fn world(breakage: Breakage<'_>) -> Api {
    let api = Api::start().await;
    api.run("insert into club values (7, 'c', 1); insert into subscription values ('s', 7, 'c')").await;
    for (part, by) in breakage {
        let source: String = api.ask("select pg_get_functiondef('settle_charge'::regproc)").await;
        assert!(source.contains(part), "{part}\nis not in migrations/sql/settle_charge.sql: correct it in {}", file!());
        api.run(&source.replace(part, by)).await;
    }
    api
}

async fn deadline_passes(api: &Api, minutes: i32) {
    api.set_clock(&format!("statement_timestamp() + interval '{minutes} minutes'")).await;
}

/// The checker's findings after a call under another request_id.
async fn after_another_number(api: &Api) -> Vec<String> {
    let mut another = ProtocolCall::new("b");
    if another.claim(api).await == "claimed" {
        another.send(api).await;
        another.settle(api, "charged").await;
    }
    checker::violations(&api.platform.received(), &api.ledger().await)
}

/// A call is frozen with a 422. Its attempt is taken over, and the order may have been taken. Then the first call settles.
/// Another request_id follows.
async fn sleeper(breakage: Breakage<'_>) -> Vec<String> {
    let api = world(breakage).await;
    let mut slow = ProtocolCall::new("a");
    assert_eq!(slow.claim(&api).await, "claimed");
    api.platform.behave_for("a", Behaviour::status(422));
    assert_eq!(slow.send(&api).await, Some(422));
    deadline_passes(&api, 1).await;

    let mut quick = ProtocolCall::new("a");
    assert_eq!(quick.claim(&api).await, "claimed");
    api.platform.behave_for("a", Behaviour { answer: Reply::ResetAfterReading { take: true }, ..Behaviour::default() });
    assert_eq!(quick.send(&api).await, None);
    slow.settle(&api, "rejected").await;
    quick.settle(&api, "unknown").await;

    after_another_number(&api).await
}

/// A first order may have been taken, and its repeat is refused. Another request_id follows.
async fn refused_repeat(breakage: Breakage<'_>) -> Vec<String> {
    let api = world(breakage).await;
    let mut first = ProtocolCall::new("a");
    first.claim(&api).await;
    api.platform.behave_for("a", Behaviour { answer: Reply::ResetAfterReading { take: true }, ..Behaviour::default() });
    assert_eq!(first.send(&api).await, None);
    first.settle(&api, "unknown").await;

    let mut repeat = ProtocolCall::new("a");
    assert_eq!(repeat.claim(&api).await, "claimed");
    api.platform.behave_for("a", Behaviour::status(422));
    assert_eq!(repeat.send(&api).await, Some(422));
    repeat.settle(&api, "rejected").await;

    after_another_number(&api).await
}

#[tokio::test]
async fn a_settlement_without_its_fence_is_caught() {
    assert_eq!(sleeper(&[]).await, Vec::<String>::new());
    let unfenced = [
        ("and attempt.state = 'in_flight' and attempt.token = settle_charge.token", "and attempt.state = 'in_flight'"),
        ("and (possibly_sent or is_past_deadline(claimed_at, deadline))", "and false"),
    ];
    assert!(!sleeper(&unfenced).await.is_empty());
}

#[tokio::test]
async fn a_repeat_that_opens_the_month_is_caught() {
    assert_eq!(refused_repeat(&[]).await, Vec::<String>::new());
    let opening =
        [("(possibly_sent or is_past_deadline(claimed_at, deadline))", "is_past_deadline(claimed_at, deadline)")];
    assert!(!refused_repeat(&opening).await.is_empty());
}

#[tokio::test]
async fn a_claim_after_the_call_out_is_caught() {
    let api = world(&[]).await;
    // It dies after the order, before the claim.
    assert_eq!(ProtocolCall::new("a").send(&api).await, Some(201));
    api.charge("s", "b").await;
    let found = checker::violations(&api.platform.received(), &api.ledger().await);
    assert!(found.iter().any(|violation| violation.contains("no attempt")), "{found:?}");

    // Two calls that live: the second claim comes too late.
    let api = world(&[]).await;
    let (mut one, mut two) = (ProtocolCall::new("a"), ProtocolCall::new("b"));
    one.send(&api).await;
    two.send(&api).await;
    for call in [&mut one, &mut two] {
        if call.claim(&api).await == "claimed" {
            call.settle(&api, "charged").await;
        }
    }
    assert!(!checker::violations(&api.platform.received(), &api.ledger().await).is_empty());
}
