//! The engine as a Lambda function, which goes on from one invocation to the next.

use std::{collections::HashMap, time::Duration};

use harness::{Environment, eventually};
use serde_json::{Value, json};

use crate::scripted::{MONTH, Reply, Scripted, at_once, problem, rejected, unauthorized};

/// Time for one invocation: what it works, and the minute in which it starts no charge.
const TIME: Duration = Duration::from_secs(63);

async fn function(api: &Scripted) -> Environment {
    Environment::start("bill-run", &HashMap::from([("BILL_RUN_API".to_owned(), api.url.clone())])).await
}

/// Goes on until it is done, as the state machine does. The answers.
async fn run(function: &Environment, mut event: Value, time: Duration) -> Vec<Value> {
    let mut answers: Vec<Value> = Vec::new();
    while answers.last().is_none_or(|answer| answer["done"] == false) {
        let answer = function.invoke_raw(event.clone(), time).await.unwrap();
        event["after"] = answer["after"].clone();
        event["pass"] = answer["pass"].clone();
        answers.push(answer);
    }
    answers
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n:05}")).collect()
}

#[tokio::test]
async fn it_charges_a_month_over_several_invocations_though_it_is_killed() {
    const COUNT: usize = 300;
    let api = Scripted::start(&ids(COUNT)).await;
    api.replies("s00005", [rejected(402, Value::Null)]);
    api.replies("s00006", vec![problem(409, "not_chargeable"); 9]);
    api.record("s00007", "2026-11.another", "unknown", None);
    let killed = function(&api).await;
    let event = json!({ "month": MONTH, "concurrency": 4, "rate": 40 });
    let invocation = killed.invoke_raw(event.clone(), TIME);
    let kill = async {
        eventually("some are charged", async || api.charges().len() > 50).await;
        killed.kill();
    };
    let (died, ()) = tokio::join!(invocation, kill);
    died.unwrap_err();

    let answers = run(&function(&api).await, event, TIME).await;
    assert!(answers.len() > 2, "{answers:?}");
    let (last, others) = answers.split_last().unwrap();
    assert_eq!(
        *last,
        json!({
            "month": MONTH, "done": true, "stopped": null, "after": null, "pass": last["pass"],
            "charged_now": last["charged_now"],
            "eligible": COUNT, "charged": COUNT - 2, "rejected": 1, "unknown": 0, "left": 1
        })
    );
    for answer in others {
        // An invocation may end with a pass. The next one begins at the list's beginning then.
        let begins_a_pass = answer["after"].is_null() && answer["pass"].as_u64() > Some(1);
        assert!((answer["after"].is_string() || begins_a_pass) && answer.get("left").is_none(), "{answer}");
    }
    assert_eq!(api.charges_of("s00007"), ["2026-11.another"]);
    assert_eq!(api.charges_of("s00005").len(), 1);
    for id in ids(COUNT) {
        // The last order of the killed one may be sent again. A pass may meet it twice, where it ended.
        let most = if id == "s00006" { 5 } else { 2 };
        assert!((1..=most).contains(&api.charges_of(&id).len()), "{id}");
    }
}

#[tokio::test]
async fn it_starts_nothing_in_the_last_minute_and_ends_before_it() {
    let api = Scripted::start(&ids(30)).await;
    let function = function(&api).await;
    let answer = function.invoke_raw(json!({ "month": MONTH }), Duration::from_secs(59)).await.unwrap();
    assert_eq!((&answer["done"], &answer["charged_now"], api.charges().len()), (&json!(false), &json!(0), 0));

    // It does not wait for those that are to be repeated much later. They are left to the next run.
    api.usually(Reply::RetryAfter(300, Box::new(problem(503, "ecommerce_unavailable"))));
    let begun = std::time::Instant::now();
    let answer = function.invoke_raw(json!({ "month": MONTH }), TIME).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((&answer["done"], &answer["after"]), (&json!(false), &json!("s00029")));
    api.usually(Reply::Charged);
    let answers = run(&function, json!({ "month": MONTH, "pass": 1, "after": "s00029" }), TIME).await;
    assert_eq!(answers.last().unwrap()["left"], 30);
    let answers = run(&function, json!({ "month": MONTH }), TIME).await;
    assert_eq!(answers.last().unwrap()["charged"], 30);
}

#[tokio::test]
async fn it_says_why_it_will_not_go_on() {
    let count = 120;
    for (reply, stopped) in [
        (unauthorized(), "ecommerce_unauthorized"),
        (at_once(problem(503, "ecommerce_unavailable")), "too_many_failures"),
        (problem(409, "month_mismatch"), "month_is_over"),
    ] {
        let api = Scripted::start(&ids(count)).await;
        api.usually(reply);
        let function = function(&api).await;
        let answer = function.invoke_raw(json!({}), Duration::from_secs(90)).await.unwrap();
        assert_eq!((&answer["stopped"], &answer["done"]), (&json!(stopped), &json!(true)), "{answer}");
        assert_eq!(answer["charged"], 0, "{answer}");
    }
    let api = Scripted::start(&ids(count)).await;
    api.record("s00001", "2026-11.s00001", "unknown", None);
    api.it_is("2026-12");
    let function = function(&api).await;
    let answer = function.invoke_raw(json!({ "month": MONTH }), TIME).await.unwrap();
    assert_eq!((&answer["stopped"], &answer["charged_now"]), (&json!("month_is_over"), &json!(1)), "{answer}");

    // Lambda repeats what failed. The state machine sees it.
    api.pages_answer(Some(403));
    function.invoke_raw(json!({ "month": MONTH }), TIME).await.unwrap_err();
}

#[tokio::test]
async fn a_dry_run_counts_and_a_retry_charges_those_that_were_rejected() {
    let api = Scripted::start(&ids(3)).await;
    api.record("s00000", "2026-11.s00000", "rejected", None);
    let function = function(&api).await;
    let answer = function.invoke_raw(json!({ "month": MONTH, "dry_run": true }), TIME).await.unwrap();
    assert_eq!(
        (&answer["eligible"], &answer["rejected"], &answer["left"], api.charges().len()),
        (&json!(3), &json!(1), &json!(2), 0)
    );
    let event = json!({ "month": MONTH, "retry_rejected": true, "new_number": true });
    let answers = run(&function, event, Duration::from_secs(90)).await;
    assert_eq!((answers.len(), &answers[0]["charged"]), (1, &json!(3)), "{answers:?}");
    assert_eq!(api.charges_of("s00000"), ["2026-11~2.s00000"]);
}
