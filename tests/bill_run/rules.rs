//! The rules of a run, on an API that answers what the test says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStderr, Stdio},
    time::Duration,
};

use harness::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::{
    scripted::{MONTH, Reply, Scripted, at_once, problem, rejected, unauthorized},
    tool::{Tool, ended, signal},
};

/// `count` ids, in the order of their bytes.
fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n:05}")).collect()
}

#[tokio::test]
async fn every_answer_leads_to_its_outcome() {
    let unknown = |status, named| Reply::Problem(status, "charge_outcome_unknown", json!({ "request_id": named }));
    let usual = |id: &str| format!("{MONTH}.{id}");
    // The first answer (charged after that), the state at the end, and the request_ids of the calls.
    let rows = [
        ("charged", vec![], "charged", vec![usual("charged")]),
        ("rejected", vec![rejected(402, json!({ "message": "declined" }))], "rejected", vec![usual("rejected")]),
        // Each pass meets again whom the API refuses by itself.
        ("refused", vec![problem(404, "subscription_not_found"); 2], "left", vec![usual("refused"); 2]),
        ("in_progress", vec![at_once(problem(409, "charge_in_progress"))], "charged", vec![usual("in_progress"); 2]),
        ("unavailable", vec![at_once(problem(503, "ecommerce_unavailable"))], "charged", vec![usual("unavailable"); 2]),
        ("throttled", vec![at_once(Reply::Bare(429))], "charged", vec![usual("throttled"); 2]),
        ("cut", vec![Reply::Cut], "charged", vec![usual("cut"); 2]),
        ("a_new_code", vec![at_once(problem(418, "a_new_code"))], "charged", vec![usual("a_new_code"); 2]),
        ("named", vec![at_once(unknown(409, "another"))], "charged", vec![usual("named"), "another".to_owned()]),
        // Only an operator can decide.
        ("undecidable", vec![unknown(409, "2026-11.undecidable")], "unknown", vec![usual("undecidable")]),
        (
            "stays_unknown",
            vec![at_once(unknown(504, "2026-11.stays_unknown")); 20],
            "unknown",
            vec![usual("stays_unknown"); 9],
        ),
        (
            "stays_unavailable",
            vec![at_once(problem(503, "ecommerce_unavailable")); 20],
            "not_sent",
            vec![usual("stays_unavailable"); 9],
        ),
        // It cannot stand in a URL.
        ("..", vec![], "left", vec![]),
    ];
    let ids: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let api = Scripted::start(&ids).await;
    for (id, replies, ..) in &rows {
        api.replies(id, replies.clone());
    }
    let tool = Tool::on(&api.url);
    let ended = tool.charge(&[]).await;
    let line = "13 = 7 charged + 1 rejected + 2 unknown + 3 left (ecommerce_unavailable, id_not_sendable, \
                subscription_not_found)";
    assert_eq!(ended.line(), (Some(4), line), "{ended:?}");
    let report = tool.report(&[]).await;
    report.states();
    assert_eq!((&*report.month, report.eligible), (MONTH, rows.len()));
    for (id, _, state, request_ids) in &rows {
        assert_eq!((report.line(id).state.as_str(), api.charges_of(id)), (*state, request_ids.clone()), "{id}");
    }
    assert!(api.charges().iter().all(|charge| charge.month == MONTH));
    let line = report.line("rejected");
    assert_eq!((line.upstream_status, &line.reason), (Some(402), &json!({ "message": "declined" })));
    assert_eq!(report.line("named").request_id.as_deref(), Some("another"));
    assert!(report.line("charged").charged_at.is_some() && line.charged_at.is_none());

    // Another run charges all but the rejected one, and repeats what is unknown.
    for id in ids {
        api.replies(id, []);
    }
    api.forget_charges();
    let ended = tool.charge(&[]).await;
    let line = "13 = 11 charged + 1 rejected + 0 unknown + 1 left (id_not_sendable)";
    assert_eq!(ended.line(), (Some(3), line), "{ended:?}");
    assert_eq!(api.charges().len(), 4);
}

#[tokio::test]
async fn it_waits_as_long_as_it_is_told_and_announces_a_long_wait() {
    let api = Scripted::start(&["a", "b", "c"]).await;
    let tool = Tool::on(&api.url);
    api.replies("a", [Reply::RetryAfter(2, Box::new(problem(503, "ecommerce_unavailable")))]);
    assert_eq!(tool.charge(&[]).await.status, Some(0));
    let charges: Vec<_> = api.charges().into_iter().filter(|charge| charge.subscription == "a").collect();
    assert!(charges[1].at - charges[0].at >= Duration::from_secs(2));

    let api = Scripted::start(&["a", "b", "c"]).await;
    api.usually(Reply::RetryAfter(300, Box::new(Reply::Bare(429))));
    let mut run = Tool::on(&api.url).charging(&[]).spawn().unwrap();
    let said = says(&mut run, "waits").await;
    assert!(said.0.contains("429 (without a code): asked to wait for 5 minutes, and waits."), "{}", said.0);
    signal(&run, Signal::INT);
    let (status, rest) = end(run, said.1).await;
    assert_eq!(status, Some(5));
    assert!(!rest.contains("asked to wait"), "{rest}");
}

#[tokio::test]
async fn a_refusal_that_concerns_everybody_stops_the_run() {
    for (reply, status, said) in [
        (Reply::Bare(401), 6, "not authorized"),
        (Reply::Bare(403), 6, "not authorized"),
        (
            Reply::Problem(409, "month_mismatch", json!({ "month": "2026-12" })),
            1,
            "the month 2026-11 is over: it is 2026-12 at the API",
        ),
    ] {
        let api = Scripted::start(&["a", "b", "c", "d", "e"]).await;
        api.replies("b", [reply]);
        let tool = Tool::on(&api.url);
        let ended = tool.charge(&["--concurrency", "1"]).await;
        assert_eq!((ended.status, api.charges().len()), (Some(status), 2), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
        assert_eq!(tool.charge(&[]).await.line(), (Some(0), "5 = 5 charged + 0 rejected + 0 unknown + 0 left"));
    }
    // Nobody can be charged without the list.
    let api = Scripted::start(&["a"]).await;
    for (page_status, status) in [(401, 6), (403, 6), (404, 1), (500, 1)] {
        api.pages_answer(Some(page_status));
        // No credentials to sign with.
        let tool = Tool::with(&api.url, &[("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "sa-east-1")]);
        let ended = tool.charge(&[]).await;
        assert_eq!(ended.status, Some(status), "{ended:?}");
        assert!(ended.stderr.contains(&api.url), "{ended:?}");
    }
    assert!(api.charges().is_empty());
}

#[tokio::test]
async fn wrong_credentials_of_the_platform_stop_the_run_after_a_few_orders_and_cost_nobody_the_month() {
    const CONCURRENCY: usize = 20;
    let api = Scripted::start(&ids(300)).await;
    api.usually(unauthorized());
    let tool = Tool::on(&api.url);
    for _ in 0..2 {
        api.forget_charges();
        let ended = tool.charge(&["--concurrency", &CONCURRENCY.to_string()]).await;
        assert_eq!(ended.status, Some(6), "{ended:?}");
        assert!(ended.stderr.contains("the platform does not accept the API's credentials"), "{ended:?}");
        assert!((3..=CONCURRENCY + 2).contains(&api.charges().len()), "{}", api.charges().len());
    }
    api.usually(Reply::Charged);
    assert_eq!(tool.charge(&[]).await.line(), (Some(0), "300 = 300 charged + 0 rejected + 0 unknown + 0 left"));
}

#[tokio::test]
async fn too_many_failures_in_a_row_stop_a_run_and_those_of_earlier_runs_do_not() {
    let api = Scripted::start(&ids(300)).await;
    api.usually(rejected(402, Value::Null));
    let tool = Tool::on(&api.url);
    let ended = tool.charge(&["--concurrency", "2"]).await;
    assert_eq!(ended.status, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("too many failures in a row, the last: 502 (order_rejected)"), "{ended:?}");
    // One more may have been on its way.
    let count = api.charges().len();
    assert!((100..=101).contains(&count), "{count}");

    let ended = tool.charge(&["--max-failures", "1000"]).await;
    assert_eq!(ended.line(), (Some(3), "300 = 0 charged + 300 rejected + 0 unknown + 0 left"), "{ended:?}");
    api.forget_charges();
    let ended = tool.charge(&["--retry-rejected"]).await;
    assert_eq!((ended.status, api.charges().len()), (Some(3), 300), "{ended:?}");
    api.usually(Reply::Charged);
    let ended = tool.charge(&["--retry-rejected"]).await;
    assert_eq!(ended.line(), (Some(0), "300 = 300 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
}

#[tokio::test]
async fn a_platform_that_is_down_is_one_failure_of_each_subscription() {
    let api = Scripted::start(&ids(30)).await;
    api.usually(at_once(problem(503, "ecommerce_unavailable")));
    let tool = Tool::on(&api.url);
    let ended = tool.charge(&["--concurrency", "2", "--max-failures", "10"]).await;
    assert_eq!(ended.status, Some(5), "{ended:?}");
    let begun = ids(30).iter().filter(|id| !api.charges_of(id).is_empty()).count();
    assert!((10..=12).contains(&begun), "{begun}");
    // They are unsent, so the next run is for them, too.
    api.usually(Reply::Charged);
    assert_eq!(tool.charge(&[]).await.status, Some(0));
}

#[tokio::test]
async fn refusals_of_the_api_alone_do_not_stop_a_run() {
    const REFUSED: usize = 5_000;
    let ids = ids(REFUSED + 100);
    let api = Scripted::start(&ids).await;
    api.pages_have(1_000);
    for id in &ids[..REFUSED] {
        api.replies(id, vec![problem(409, "not_chargeable"); 2]);
    }
    let ended = Tool::on(&api.url).charge(&["--concurrency", "50"]).await;
    let line = "5,100 = 100 charged + 0 rejected + 0 unknown + 5,000 left (not_chargeable)";
    assert_eq!(ended.line(), (Some(3), line), "{}", ended.stderr);
}

#[tokio::test]
async fn a_pass_that_charges_nobody_is_the_last_one_and_so_is_the_third() {
    let api = Scripted::start(&["m"]).await;
    // Each is before the one that it follows, so only the next pass meets it.
    for (follower, other) in [("l", "m"), ("k", "l"), ("j", "k")] {
        api.follows(follower, other);
    }
    let tool = Tool::on(&api.url);
    let ended = tool.charge(&[]).await;
    assert_eq!(ended.line(), (Some(3), "4 = 3 charged + 0 rejected + 0 unknown + 1 left"), "{ended:?}");
    assert_eq!(tool.charge(&[]).await.line(), (Some(0), "4 = 4 charged + 0 rejected + 0 unknown + 0 left"));
}

#[tokio::test]
async fn a_rejected_charge_is_tried_again_on_demand_and_under_another_number_if_asked() {
    let api = Scripted::start(&["decided", "open", "rejected", "unknown", "unsent", "é"]).await;
    api.record("decided", "2026-11.decided", "rejected", Some("a person"));
    api.record("rejected", "2026-11.rejected", "rejected", None);
    api.record("unknown", "2026-11.unknown", "unknown", None);
    api.record("unsent", "2026-11.unsent", "not_sent", None);
    api.record("é", "2026-11.4c9d8941-1dcb-56d3-9fe5-b5aef28ef637", "rejected", None);
    let tool = Tool::on(&api.url);
    let ended = tool.charge(&[]).await;
    assert_eq!(ended.line(), (Some(3), "6 = 3 charged + 3 rejected + 0 unknown + 0 left"), "{ended:?}");

    api.usually(rejected(402, Value::Null));
    assert_eq!(tool.charge(&["--retry-rejected"]).await.status, Some(3));
    assert_eq!(tool.charge(&["--retry-rejected", "--new-number"]).await.status, Some(3));
    api.usually(Reply::Charged);
    assert_eq!(tool.charge(&["--retry-rejected", "--new-number"]).await.status, Some(0));
    for (id, request_ids) in [
        ("open", &["2026-11.open"][..]),
        ("unknown", &["2026-11.unknown"]),
        ("unsent", &["2026-11.unsent"]),
        // The person's decision is no attempt that the platform rejected.
        ("decided", &["2026-11.decided", "2026-11~2.decided", "2026-11~3.decided"]),
        ("rejected", &["2026-11.rejected", "2026-11~3.rejected", "2026-11~4.rejected"]),
        (
            "é",
            &[
                "2026-11.4c9d8941-1dcb-56d3-9fe5-b5aef28ef637",
                "2026-11~3.4c9d8941-1dcb-56d3-9fe5-b5aef28ef637",
                "2026-11~4.4c9d8941-1dcb-56d3-9fe5-b5aef28ef637",
            ],
        ),
    ] {
        assert_eq!(api.charges_of(id), request_ids, "{id}");
    }
}

#[tokio::test]
async fn of_a_past_month_only_what_is_unknown_is_settled() {
    let api = Scripted::start(&["charged", "left", "rejected", "unknown", "unsent"]).await;
    api.record("charged", "2026-11.charged", "charged", None);
    api.record("rejected", "2026-11.rejected", "rejected", None);
    api.record("unknown", "2026-11.unknown", "unknown", None);
    api.record("unsent", "2026-11.unsent", "not_sent", None);
    api.is_not_eligible("unknown");
    api.it_is("2026-12");
    let tool = Tool::on(&api.url);
    let past = ["--month", MONTH, "--retry-rejected"];
    api.replies("unknown", [problem(409, "charge_outcome_unknown")]);
    let ended = tool.charge(&past).await;
    assert_eq!(ended.line(), (Some(4), "4 = 1 charged + 1 rejected + 1 unknown + 1 left"), "{ended:?}");
    api.it_is(MONTH);
    let dry = tool.command("charge", &["--dry-run"]);
    assert_eq!(ended_lines(dry).await, ["unknown", "left", "unsent"]);
    api.it_is("2026-12");
    let mut dry = tool.command("charge", &["--dry-run"]);
    dry.args(past);
    assert_eq!(ended_lines(dry).await, ["unknown"]);

    let ended = tool.charge(&past).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("The month 2026-11 is over"), "{ended:?}");
    assert_eq!(api.charges_of("unknown").len(), api.charges().len());

    let ended = tool.charge(&["--month", "2027-01"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the month 2027-01 has not begun"), "{ended:?}");
}

async fn ended_lines(command: std::process::Command) -> Vec<String> {
    let ended = ended(command).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended.stdout.lines().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_dry_run_prints_whom_it_would_charge_and_a_list_of_ids_is_charged_alone() {
    let api = Scripted::start(&ids(12)).await;
    let tool = Tool::on(&api.url);
    let all = ended_lines(tool.command("charge", &["--dry-run"])).await;
    assert_eq!((all, api.charges().len()), (ids(12), 0));

    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    std::fs::write(&list, "s00007\ns00003\nnobody\n").unwrap();
    let list = list.to_str().unwrap();
    let some = ended_lines(tool.command("charge", &["--dry-run", "--ids", list])).await;
    assert_eq!(some, ["s00003", "s00007"]);
    let ended = tool.charge(&["--ids", list]).await;
    assert_eq!(ended.line(), (Some(3), "12 = 2 charged + 0 rejected + 0 unknown + 10 left"), "{ended:?}");

    let mut from_stdin = tool.charging(&["--ids", "-"]);
    from_stdin.stdin(Stdio::piped());
    let mut from_stdin = from_stdin.spawn().unwrap();
    from_stdin.stdin.take().unwrap().write_all(b"s00000\n").unwrap();
    let ended = spawn_blocking(move || from_stdin.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert_eq!(api.charges().len(), 3);

    let ended = tool.charge(&["--ids", "/there/is/none"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/there/is/none"), "{ended:?}");
}

#[tokio::test]
async fn the_report_is_the_ledger_s_in_three_formats() {
    let api = Scripted::start(&["charged", "left", "rejected", "words"]).await;
    let tool = Tool::on(&api.url);
    api.replies("rejected", [rejected(402, json!({ "message": "declined" }))]);
    api.replies("words", [rejected(422, "no\x1b[2J, \"never\"".into())]);
    api.replies("left", vec![problem(409, "not_chargeable"); 2]);
    api.record("in_flight", "2026-11.in_flight", "in_flight", None);
    api.replies("in_flight", vec![problem(409, "charge_outcome_unknown")]);
    assert_eq!(tool.charge(&[]).await.status, Some(4));

    let report = tool.report(&[]).await;
    let states = report.states();
    assert_eq!(
        states.into_iter().collect::<Vec<_>>(),
        [("charged", 1), ("in_flight", 1), ("left", 1), ("rejected", 2)]
    );
    let csv = tool.command("report", &["--format", "csv"]);
    assert_eq!(
        ended_lines(csv).await,
        [
            "subscription_id,request_id,state,upstream_status,reason,charged_at",
            "charged,2026-11.charged,charged,,,2026-11-24T21:38:53Z",
            "in_flight,2026-11.in_flight,in_flight,,,",
            "left,,left,,,",
            r#"rejected,2026-11.rejected,rejected,402,"{""message"":""declined""}","#,
            "words,2026-11.words,rejected,422,\"no\x1b[2J, \"\"never\"\"\",",
        ]
    );
    let text = tool.command("report", &["--state", "rejected,unknown"]);
    assert_eq!(
        ended_lines(text).await,
        [
            "in_flight                             in_flight",
            "rejected                              rejected  402 {\"message\":\"declined\"}",
            "words                                 rejected  422 no [2J, \"never\"",
            "2026-11: 5 = 1 charged + 2 rejected + 1 unknown + 1 left",
        ]
    );
    // Of a past month, the ledger alone.
    api.it_is("2026-12");
    assert_eq!(tool.report(&["--month", MONTH]).await.eligible, 4);
    assert_eq!(tool.report(&[]).await.left, 4);
}

/// Reads stderr until it has said this.
async fn says(process: &mut Child, text: &'static str) -> (String, BufReader<ChildStderr>) {
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    spawn_blocking(move || {
        let mut said = String::new();
        while !said.contains(text) {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{text:?} is not in {said}");
        }
        (said, stderr)
    })
    .await
    .unwrap()
}

/// The exit status, and the output until then.
async fn end(mut process: Child, mut stderr: BufReader<ChildStderr>) -> (Option<i32>, String) {
    spawn_blocking(move || {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        (process.wait().unwrap().code(), rest)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn one_interrupt_drains_and_two_stop() {
    let api = Scripted::start(&ids(10)).await;
    let tool = Tool::on(&api.url);
    for interrupts in [1, 2] {
        api.hold(true);
        api.forget_charges();
        let mut run = tool.charging(&["--concurrency", "2"]).spawn().unwrap();
        eventually("two requests are under way", async || api.charges().len() == 2).await;
        signal(&run, Signal::INT);
        let (_, stderr) = says(&mut run, "Once more stops at once").await;
        if interrupts == 2 {
            signal(&run, Signal::INT);
        } else {
            api.hold(false);
        }
        let (status, rest) = end(run, stderr).await;
        assert_eq!(status, Some(5), "{rest}");
        assert_eq!(rest.contains("Run it again"), interrupts == 1, "{rest}");
        assert_eq!(api.charges().len(), 2);
    }
    api.hold(false);
    let ended = tool.charge(&[]).await;
    assert_eq!(ended.line(), (Some(0), "10 = 10 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
}

#[tokio::test]
async fn a_rate_is_kept() {
    let api = Scripted::start(&ids(21)).await;
    let ended = Tool::on(&api.url).charge(&["--rate", "20"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let charges = api.charges();
    assert!(charges[20].at - charges[0].at >= Duration::from_millis(950));
}

#[tokio::test]
async fn wrong_usage_sends_nothing() {
    let api = Scripted::start(&["a"]).await;
    let tool = Tool::on(&api.url);
    for (command, arguments) in [
        ("charge", &[][..]),
        ("charge", &["--yes", "--concurrency", "0"]),
        ("charge", &["--yes", "--rate", "0"]),
        ("charge", &["--yes", "--new-number"]),
        ("charge", &["--yes", "--month", "2026-13"]),
        ("report", &["--format", "pdf"]),
        ("report", &["--state", "refused"]),
        ("apply", &[]),
    ] {
        let ended = ended(tool.command(command, arguments)).await;
        assert_eq!(ended.status, Some(2), "{command} {arguments:?} {ended:?}");
    }
    for url in ["not a URL", "ftp://example.com", "mailto:a@example.com"] {
        let ended = Tool::on(url).charge(&[]).await;
        assert_eq!(ended.status, Some(2), "{url} {ended:?}");
    }
    assert!(api.charges().is_empty());
}

#[tokio::test]
async fn a_password_of_the_url_is_used_and_never_shown() {
    let api = Scripted::start(&["a"]).await;
    let url = api.url.replace("http://", "http://operator:s%20secret@");
    let tool = Tool::on(&url);
    let mut shown = Vec::new();
    shown.push(tool.charge(&[]).await);
    assert_eq!(shown[0].status, Some(0), "{shown:?}");
    assert!(shown[0].stderr.contains(&api.url), "{shown:?}");
    assert_eq!(api.charges()[0].authorization.as_deref(), Some("Basic b3BlcmF0b3I6cyBzZWNyZXQ="));
    for status in [403, 404] {
        api.pages_answer(Some(status));
        shown.push(tool.charge(&[]).await);
    }
    shown.push(Tool::on("http://operator:s%20secret@[").charge(&[]).await);
    assert!(!format!("{shown:?}").contains("secret"), "{shown:?}");
}

#[tokio::test]
async fn requests_are_signed_where_the_routes_are_closed() {
    let api = Scripted::start(&["a", "b"]).await;
    let settings =
        [("AWS_ACCESS_KEY_ID", "the-key"), ("AWS_SECRET_ACCESS_KEY", "the-secret"), ("AWS_REGION", "sa-east-1")];
    api.replies("a", [Reply::Bare(418), Reply::Bare(418)]);
    assert_eq!(Tool::on(&api.url).charge(&[]).await.status, Some(3));
    assert_eq!(api.charges()[0].authorization, None);
    api.close();
    let ended = Tool::with(&api.url, &settings).charge(&[]).await;
    assert_eq!(ended.line(), (Some(0), "2 = 2 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
}
