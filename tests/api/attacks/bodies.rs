//! Anybody sends megabytes of JSON, to use up a function's memory.

use base64::prelude::{BASE64_STANDARD, Engine};
use harness::{Answer, Api, Call, Environment, gateway::GATEWAYS, report};
use serde_json::json;

const MEGABYTE: u64 = 1024 * 1024;
/// The longest body that is read.
const LONGEST: usize = 16 * 1024;

/// Texts of exactly this length. A parser would make an object of hundreds of bytes from every few bytes of them.
fn hostile_json(length: usize) -> Vec<String> {
    [
        ("[", r#"{"":0},"#, "0]"),
        ("{", r#""":[0],"#, r#""":0}"#),
        (r#"{"":["#, r#"{"":0},"#, "0]}"),
        (r#"{"customer_id":["#, r#"{"":0},"#, "0]}"),
        (r#"{"status_id":["#, r#"{"":0},"#, "0]}"),
        (r#"{"status_id":3,"interval":["#, r#"{"":0},"#, "0]}"),
        (r#"{"status_id":3,"interval":{"#, r#""":{},"#, r#""":0}}"#),
        (r#"{"status_id":3,"until":["#, r#"{"":0},"#, "0]}"),
        ("", "[", "0"),
        (r#"{"":"#, r#"{"":"#, "0"),
    ]
    .into_iter()
    .map(|(begin, repeated, end)| {
        let times = (length - begin.len() - end.len()) / repeated.len();
        let json = format!("{begin}{}{end}", repeated.repeat(times));
        let spaces = " ".repeat(length - json.len());
        json + &spaces
    })
    .collect()
}

/// Sends this body to the function in every form in which a gateway hands it on.
async fn send(environment: &Environment, call: &Call, body: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for gateway in GATEWAYS {
        answers.push(environment.call(&call.clone().via(gateway).body(body)).await);
        let mut encoded = call.clone().via(gateway).body(BASE64_STANDARD.encode(body));
        encoded.base64 = true;
        answers.push(environment.call(&encoded).await);
    }
    answers
}

#[tokio::test]
async fn somebody_sends_3_mb_of_json() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let club = api.club().await;
    for (function, call) in [
        ("subscribe", Call::subscribe(club, "c")),
        ("status", Call::post(format!("/subscription/{subscription}/status"), json!({}))),
    ] {
        let environment = api.environment(function).await;
        send(&environment, &call, &"x".repeat(LONGEST)).await;
        let idle = environment.peak_memory();
        for body in hostile_json(LONGEST) {
            for answer in send(&environment, &call, &body).await {
                assert!([200, 400].contains(&answer.status), "{answer:?}");
            }
        }
        let read = environment.peak_memory() - idle;
        for body in hostile_json(LONGEST + 1).into_iter().chain(hostile_json(3_000_000).into_iter().step_by(4)) {
            for answer in send(&environment, &call, &body).await {
                answer.refuses(413, "too_large");
            }
        }
        let refused = environment.peak_memory() - idle;
        report(&format!("{function}: 16 KiB of hostile JSON take {} KiB, 3 MB {} KiB", read / 1024, refused / 1024));
        assert!(read <= 4 * MEGABYTE, "{function}: {read}");
        // The runtime holds the event a few times, with its quotes escaped, before a function sees it.
        assert!(refused <= 32 * MEGABYTE, "{function}: {refused}");
    }
    let changes = "select count(*) from subscription_status_history";
    assert!(api.ask::<i64>(changes).await >= 1);

    // A charge reads no body.
    let charge = Call::charge(&subscription, "o").body("[".repeat(3_000_000));
    assert_eq!(api.call(charge).await.status, 200);
}
