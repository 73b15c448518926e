//! A refusal or a replay writes nothing: the position in the write-ahead log does not move, and nothing is flushed.
//!
//! Cargo runs test programs one after the other. This test is a separate one, so that no other test writes meanwhile.

// A failed unwrap is a failed test, in a helper as well.
#![allow(clippy::unwrap_used)]

use ecommerce_stub::Behaviour;
use harness::{Api, Call, report};
use serde_json::json;

/// The server writes now and then. A call that writes does so each time.
const TRIES: usize = 5;

/// The fewest bytes that this call added to the log.
async fn written_by(api: &Api, call: &Call, status: u64) -> i64 {
    const POSITION: &str = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
    let mut least = i64::MAX;
    for _ in 0..TRIES {
        let before: i64 = api.ask(POSITION).await;
        let answer = api.call(call.clone()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        least = least.min(api.ask::<i64>(POSITION).await - before);
    }
    least
}

#[tokio::test]
async fn refusals_and_replays_write_nothing() {
    let api = Api::start().await;
    let club = api.club().await;
    let closed = api.club().await;
    api.club_status(closed, 2).await;
    let charged = api.subscription().await;
    assert_eq!(api.charge(&charged, "charged").await.status, 200);
    let unknown = api.subscription().await;
    api.platform.behave_once(Behaviour::status(500));
    api.charge(&unknown, "unknown").await.refuses(504, "charge_outcome_unknown");
    let paused = api.subscription().await;
    assert_eq!(api.status(&paused, json!({ "status_id": 3 })).await.status, 200);
    assert_eq!(api.subscribe(club, "c").await.status, 201);
    // The first read of new rows sets hint bits.
    api.run("vacuum analyze").await;

    for (what, call, status) in [
        ("a customer who is subscribed", Call::subscribe(club, "c"), 409),
        ("no such club", Call::subscribe(i32::MAX, "c"), 404),
        ("a closed club", Call::subscribe(closed, "c"), 409),
        (
            "a status of nobody",
            Call::post("/subscription/nobody/status", json!({ "status_id": 3, "interval": 1 })),
            404,
        ),
        ("the list", Call::get("/subscription/eligible"), 200),
        ("a subscription", Call::get(format!("/subscription/{paused}")), 200),
        ("a customer's subscriptions", Call::get("/subscription").query("customer_id", "c"), 200),
        ("the clubs", Call::get("/club"), 200),
        ("what is due", Call::get("/subscription/eligible").query("due", "true"), 200),
        ("a subscription's charges", Call::get(format!("/subscription/{charged}/charge")), 200),
        ("a month's charges", Call::get("/charge"), 200),
        ("a replay", Call::charge(&charged, "charged"), 200),
        ("a replay under another request_id", Call::charge(&charged, "another"), 200),
        ("a charge of nobody", Call::charge("nobody", "o"), 404),
        ("a charge of a paused subscription", Call::charge(&paused, "o"), 409),
        ("a request_id of another subscription", Call::charge(&paused, "charged"), 422),
        ("another request_id while one is unknown", Call::charge(&unknown, "another"), 409),
    ] {
        assert_eq!(written_by(&api, &call, status).await, 0, "{what}");
    }
    let pause = Call::post(format!("/subscription/{paused}/status"), json!({ "status_id": 3 }));
    let written = written_by(&api, &pause, 200).await;
    assert!(written > 0);
    report(&format!("refusals and replays wrote nothing; a status wrote {written} bytes"));
}
