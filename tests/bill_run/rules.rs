//! Each answer and what it leads to, on an API that answers what the test says.

use std::{
    io::{BufRead, BufReader, Read},
    time::Duration,
};

use api_tests::eventually;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    scripted::{MONTH, Reply, Scripted},
    tool::{Desk, signal},
};

fn problem(status: u16, code: &'static str) -> Reply {
    Reply::Problem(status, code, json!({}))
}

#[tokio::test]
async fn every_answer_leads_to_its_outcome() {
    let unknown = |status, named| Reply::Problem(status, "charge_outcome_unknown", json!({ "request_id": named }));
    let at_once = |reply| Reply::RetryAfter(0, Box::new(reply));
    // What is answered first (charged after that), what the report says, and how often it was asked.
    let rows = vec![
        ("charged", vec![], "charged", None, Some(200), 1),
        ("order_rejected", vec![problem(502, "order_rejected")], "refused", Some("order_rejected"), Some(502), 1),
        ("not_chargeable", vec![problem(409, "not_chargeable")], "refused", Some("not_chargeable"), Some(409), 1),
        ("gone", vec![problem(404, "subscription_not_found")], "refused", Some("subscription_not_found"), Some(404), 1),
        ("reused", vec![problem(422, "request_id_reused")], "refused", Some("request_id_reused"), Some(422), 1),
        ("invalid", vec![problem(400, "invalid_request")], "refused", Some("invalid_request"), Some(400), 1),
        ("in_progress", vec![at_once(problem(409, "charge_in_progress"))], "charged", None, Some(200), 2),
        ("unavailable", vec![at_once(problem(503, "ecommerce_unavailable"))], "charged", None, Some(200), 2),
        ("no_database", vec![at_once(problem(503, "database_unavailable"))], "charged", None, Some(200), 2),
        ("throttled", vec![at_once(Reply::Bare(429))], "charged", None, Some(200), 2),
        ("cut", vec![Reply::Cut], "charged", None, Some(200), 2),
        ("gateway_timeout", vec![Reply::Bare(504)], "charged", None, Some(200), 2),
        ("not_the_api", vec![Reply::Bare(200)], "charged", None, Some(200), 2),
        ("failure", vec![problem(500, "internal_error")], "charged", None, Some(200), 2),
        ("found", vec![unknown(504, "2026-11.found")], "charged", None, Some(200), 2),
        ("named", vec![unknown(409, "another")], "charged", None, Some(200), 2),
        (
            "stays_unknown",
            vec![unknown(504, "2026-11.stays_unknown"); 5],
            "unknown",
            Some("charge_outcome_unknown"),
            Some(504),
            5,
        ),
        // It cannot stand in a URL.
        ("..", vec![], "refused", Some("id_not_sendable"), None, 0),
    ];
    let ids: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let api = Scripted::start(&ids).await;
    for (id, replies, ..) in &rows {
        api.replies(id, replies.clone());
    }
    let desk = Desk::new();
    desk.plan(&api.url, "plan").await;
    let ended = desk.run(&["apply", "plan", "--yes"]).await;
    assert_eq!(ended.status, Some(4), "{ended:?}");

    let report = desk.report("plan").await;
    assert_eq!((&*report.month, report.planned), (MONTH, rows.len()));
    report.outcomes();
    for (id, _, outcome, code, status, asked) in &rows {
        let line = report.line(id);
        let found = (&*line.outcome, line.code.as_deref(), line.http_status, line.attempts as usize);
        assert_eq!(found, (*outcome, *code, *status, *asked), "{id}");
        assert_eq!(line.charged_at.is_some(), *outcome == "charged", "{id}");
        let charges = api.charges_of(id);
        assert_eq!(charges.len(), *asked, "{id}");
        for (place, charge) in charges.iter().enumerate() {
            let request_id = if (*id, place) == ("named", 1) { "another".to_owned() } else { format!("{MONTH}.{id}") };
            assert_eq!((charge.request_id.as_str(), &*charge.month), (&*request_id, MONTH), "{id}");
        }
    }

    // What is unknown is asked about again; the rest is not.
    let before = api.charges().len();
    let ended = desk.run(&["apply", "plan", "--yes"]).await;
    assert_eq!((ended.status, api.charges().len()), (Some(3), before + 1), "{ended:?}");
    assert_eq!(desk.report("plan").await.line("stays_unknown").outcome, "charged");

    let only =
        desk.run(&["report", "plan", "--format", "csv", "--only", "order_rejected,unknown,id_not_sendable"]).await;
    assert_eq!(
        only.stdout.lines().collect::<Vec<_>>(),
        [
            "subscription_id,request_id,outcome,code,http_status,charged_at,attempts",
            "order_rejected,2026-11.order_rejected,refused,order_rejected,502,,1",
            "..,2026-11...,refused,id_not_sendable,,,0",
        ]
    );
}

#[tokio::test]
async fn it_waits_as_long_as_it_is_told() {
    let api = Scripted::start(&["a"]).await;
    api.replies("a", [Reply::RetryAfter(2, Box::new(problem(503, "ecommerce_unavailable")))]);
    let desk = Desk::new();
    desk.plan(&api.url, "plan").await;
    assert_eq!(desk.run(&["apply", "plan", "--yes"]).await.status, Some(0));
    let charges = api.charges();
    assert!(charges[1].at - charges[0].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn after_a_refusal_that_concerns_everybody_nothing_more_is_sent() {
    for (reply, status, said) in [
        (Reply::Bare(401), 6, "not authorized: the API answers 401"),
        (Reply::Bare(403), 6, "not authorized: the API answers 403"),
        (
            Reply::Problem(409, "month_mismatch", json!({ "month": "2026-12" })),
            1,
            "the month 2026-11 is over: it is 2026-12 there",
        ),
    ] {
        let api = Scripted::start(&["a", "b", "c", "d", "e"]).await;
        api.replies("b", [reply]);
        let desk = Desk::new();
        desk.plan(&api.url, "plan").await;
        let ended = desk.run(&["apply", "plan", "--yes", "--concurrency", "1"]).await;
        assert_eq!(ended.status, Some(status), "{ended:?}");
        assert!(ended.stderr.contains(said) && ended.stderr.contains("Go on with: bill-run apply plan"), "{ended:?}");
        assert_eq!(api.charges().len(), 2, "{said}");
        let report = desk.report("plan").await;
        assert_eq!((report.charged, report.left), (1, 4), "{said}");

        let ended = desk.run(&["apply", "plan", "--yes"]).await;
        assert_eq!((ended.status, desk.report("plan").await.charged), (Some(0), 5), "{ended:?}");
    }
    let api = Scripted::start(&["a"]).await;
    api.list_answers(403);
    let ended = Desk::new().run(&["plan", "--api", &api.url]).await;
    assert_eq!(ended.status, Some(6), "{ended:?}");
}

#[tokio::test]
async fn after_too_many_failures_in_a_row_it_stops_and_can_go_on() {
    let ids: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    let api = Scripted::start(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    api.usually(Reply::RetryAfter(0, Box::new(problem(503, "ecommerce_unavailable"))));
    let desk = Desk::new();
    desk.plan(&api.url, "plan").await;
    let ended = desk.run(&["apply", "plan", "--yes", "--max-failures", "10", "--concurrency", "2"]).await;
    assert_eq!(ended.status, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("too many failures in a row, the last: 503 (ecommerce_unavailable)"), "{ended:?}");
    // One more may have been on its way.
    assert!((10..=11).contains(&api.charges().len()), "{}", api.charges().len());

    api.usually(Reply::Charged);
    let ended = desk.run(&["apply", "plan", "--yes"]).await;
    assert_eq!((ended.status, desk.report("plan").await.charged), (Some(0), 50), "{ended:?}");
}

#[tokio::test]
async fn one_interrupt_drains_and_two_stop() {
    let ids: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    let api = Scripted::start(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let desk = Desk::new();
    desk.plan(&api.url, "plan").await;
    for (interrupts, sent_by_now, charged) in [(1, 2, 2), (2, 4, 2)] {
        api.hold(true);
        let mut apply = desk.command(&["apply", "plan", "--yes", "--concurrency", "2"]).spawn().unwrap();
        eventually("two requests are under way", async || api.charges().len() == sent_by_now).await;

        // Meanwhile others can look, but not apply.
        let status = desk.run(&["status", "plan"]).await;
        assert_eq!(status.status, Some(0));
        assert!(status.stdout.contains("planned         10"), "{status:?}");
        let second = desk.run(&["apply", "plan", "--yes"]).await;
        assert_eq!(second.status, Some(1));
        assert!(second.stderr.contains("another apply of this plan is running"), "{second:?}");

        signal(&apply, Signal::INT);
        let mut stderr = BufReader::new(apply.stderr.take().unwrap());
        let (mut stderr, line) = spawn_blocking(move || {
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            (stderr, line)
        })
        .await
        .unwrap();
        assert!(line.contains("Once more stops at once"), "{line}");
        if interrupts == 2 {
            signal(&apply, Signal::INT);
        } else {
            api.hold(false);
        }
        let (status, rest) = spawn_blocking(move || {
            let mut rest = String::new();
            stderr.read_to_string(&mut rest).unwrap();
            (apply.wait().unwrap().code(), rest)
        })
        .await
        .unwrap();
        assert_eq!(status, Some(5), "{rest}");
        assert_eq!(rest.contains("Go on with: bill-run apply plan"), interrupts == 1, "{rest}");
        assert_eq!(desk.report("plan").await.charged, charged);
        assert_eq!(api.charges().len(), sent_by_now);
    }
    api.hold(false);
    let ended = desk.run(&["apply", "plan", "--yes"]).await;
    assert_eq!((ended.status, desk.report("plan").await.charged), (Some(0), 10), "{ended:?}");
}

#[tokio::test]
async fn wrong_usage_sends_nothing() {
    let api = Scripted::start(&["a"]).await;
    let desk = Desk::new();
    desk.plan(&api.url, "plan").await;
    for arguments in [
        &["apply", "plan"][..],
        &["apply", "plan", "--yes", "--concurrency", "0"],
        &["apply", "plan", "--yes", "--rate", "0"],
        &["plan"],
        &["plan", "--api", "not a URL"],
        &["report", "plan", "--format", "pdf"],
        &["charge"],
    ] {
        let ended = desk.run(arguments).await;
        assert_eq!(ended.status, Some(2), "{arguments:?} {ended:?}");
    }
    assert!(api.charges().is_empty());
    // A plan is never written over, and never changed.
    assert_eq!(desk.run(&["plan", "--api", &api.url, "--output", "plan"]).await.status, Some(1));
    let changed = std::fs::read_to_string(desk.path("plan")).unwrap().replace("2026-11", "2026-12");
    std::fs::write(desk.path("changed"), changed).unwrap();
    assert_eq!(desk.run(&["apply", "changed", "--yes"]).await.status, Some(1));
    assert!(api.charges().is_empty());
}

#[tokio::test]
async fn a_part_can_be_planned_first_and_who_is_in_no_plan_is_listed() {
    let ids: Vec<String> = (0..30).map(|n| format!("s{n:02}")).collect();
    let api = Scripted::start(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let desk = Desk::new();
    let ended = desk.run(&["plan", "--api", &api.url, "--limit", "7"]).await;
    assert_eq!((ended.status, ended.stdout.trim()), (Some(0), "bill-run-2026-11.plan"), "{ended:?}");
    let ended = desk.run(&["apply", "bill-run-2026-11.plan", "--yes", "--rate", "100"]).await;
    assert_eq!((ended.status, api.charges().len()), (Some(0), 7), "{ended:?}");
    assert!(ended.stderr.contains("23 more are eligible"), "{ended:?}");

    desk.plan(&api.url, "whole").await;
    api.is_eligible("late");
    let ended = desk.run(&["apply", "whole", "--yes"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("1 became eligible after the plan was made"), "{ended:?}");
    assert_eq!(
        ended.stdout.lines().collect::<Vec<_>>(),
        ["30 planned = 30 charged + 0 charged before + 0 refused + 0 unknown + 0 left", "late"]
    );
}
