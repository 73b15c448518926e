//! Whole months, charged through the real functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use api_tests::{Api, checker, eventually, report};
use ecommerce_stub::{Answer, Behaviour};
use rustix::process::Signal;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{
    front::Front,
    tool::{Desk, Report, journal, signal},
};

/// Active subscriptions to one club; their ids.
async fn subscriptions(api: &Api, count: usize) -> Vec<String> {
    let club = api.club().await;
    api.run(&format!(
        "insert into subscription (id, club_id, customer_store_id)
             select gen_random_uuid()::text, {club}, 'c' || n from generate_series(1, {count}) n;
         insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
             select id, id, 1, '2020-01-01', '2020-01-01' from subscription;
         update club_status_history set effect_date = '2020-01-01', create_date = '2020-01-01'"
    ))
    .await;
    api.eligible().await
}

/// Who was charged by which order: at most one each, and the same that the report says.
async fn assert_orders_are_those_of(report: &Report, api: &Api) {
    let (received, ledger) = (api.platform.received(), api.ledger().await);
    assert_eq!(checker::violations(&received, &ledger), Vec::<String>::new());
    let mut orders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for order in received.iter().filter(|order| order.taken) {
        orders.entry(&order.customer_id).or_default().insert(&order.request_id);
    }
    let charged: BTreeSet<&str> =
        ledger.iter().filter(|attempt| attempt.state == "charged").map(|attempt| &*attempt.subscription_id).collect();
    for line in &report.subscriptions {
        let is_charged = ["charged", "already_charged"].contains(&&*line.outcome);
        assert_eq!(charged.contains(&*line.subscription_id), is_charged, "{line:?}");
    }
    assert_eq!(orders.len(), charged.len());
    assert!(orders.values().all(|request_ids| request_ids.len() == 1));
}

/// What goes wrong with the first order of some of them.
fn fault(place: usize) -> Option<Behaviour> {
    let answering = |answer| Some(Behaviour { answer, ..Behaviour::default() });
    match place % 100 {
        3 => Some(Behaviour::status(500)),
        13 => Some(Behaviour::status(503)),
        23 => Some(Behaviour::status(429)),
        33 => answering(Answer::ResetBeforeReading),
        43 => answering(Answer::ResetAfterReading { take: true }),
        53 => answering(Answer::ResetAfterReading { take: false }),
        63 => answering(Answer::CutBody),
        // Refused, and so it stays.
        73 => Some(Behaviour::status(422)),
        // It comes too late.
        83 if place % 500 == 83 => Some(Behaviour { delay_ms: 1500, ..Behaviour::default() }),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_charged_once_though_the_tool_is_killed_twenty_times_and_the_platform_fails() {
    const COUNT: usize = 5000;
    const KILLS: u32 = 20;
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "1000")]).await;
    let ids = subscriptions(&api, COUNT).await;
    let front = Front::start(&api, 8).await;
    let desk = Desk::new();
    desk.plan(&front.url, "plan").await;
    let month = desk.report("plan").await.month;
    for (place, id) in ids.iter().enumerate() {
        if let Some(fault) = fault(place) {
            api.platform.behave_for(&format!("{month}.{id}"), fault);
        }
    }

    // At random moments, counted in entries of the journal. A request makes two.
    let seed = Uuid::new_v4().as_u128();
    let mut moments: Vec<usize> =
        (0..KILLS).map(|kill| (seed.rotate_left(kill * 6) % (2 * COUNT as u128)) as usize).collect();
    moments.sort_unstable();
    report(&format!("bill run: killed at entries {moments:?}"));
    for moment in moments {
        let mut apply = desk.command(&["apply", "plan", "--yes", "--concurrency", "16"]).spawn().unwrap();
        eventually("the moment to kill it", async || {
            journal(&desk.path("plan")) >= moment || apply.try_wait().unwrap().is_some()
        })
        .await;
        // It may have ended: what is left is less than one would think.
        if apply.try_wait().unwrap().is_none() {
            signal(&apply, Signal::KILL);
        }
        spawn_blocking(move || apply.wait().unwrap()).await.unwrap();
    }

    let ended = desk.run(&["apply", "plan", "--yes", "--concurrency", "16"]).await;
    assert_eq!(ended.status, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("0 became eligible after the plan was made"), "{ended:?}");
    let whole = desk.report("plan").await;
    let outcomes = whole.outcomes();
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), ["already_charged", "charged", "refused"]);
    for (place, line) in whole.subscriptions.iter().enumerate() {
        let is_refused = line.outcome == "refused";
        if is_refused {
            assert_eq!((line.code.as_deref(), line.http_status), (Some("order_rejected"), Some(502)), "{line:?}");
        }
        // A refusal whose answer died with the tool was asked for once more, and then it was not refused.
        let was_refused = fault(place) == Some(Behaviour::status(422));
        assert!(is_refused == was_refused || was_refused && line.attempts > 1, "{line:?}");
    }
    assert_orders_are_those_of(&whole, &api).await;
    let attempts: u32 = whole.subscriptions.iter().map(|line| line.attempts).sum();
    report(&format!("bill run: {COUNT} subscriptions, {KILLS} kills, {attempts} requests: {outcomes:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_charge_the_same_month_at_once_charge_it_once() {
    const COUNT: usize = 300;
    // A deadline soon after the answer: the other one waits until then.
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "1000")]).await;
    subscriptions(&api, COUNT).await;
    let front = Front::start(&api, 4).await;
    let (one, other) = (Desk::new(), Desk::new());
    one.plan(&front.url, "plan").await;
    other.plan(&front.url, "plan").await;
    let apply = ["apply", "plan", "--yes", "--concurrency", "4"];
    let (ended, other_ended) = tokio::join!(one.run(&apply), other.run(&apply));
    for ended in [ended, other_ended] {
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
    let reports = [one.report("plan").await, other.report("plan").await];
    for report in &reports {
        assert_eq!(report.charged + report.already_charged, COUNT);
        assert_orders_are_those_of(report, &api).await;
    }
    assert_eq!(reports[0].charged + reports[1].charged, COUNT);
    let request_ids: BTreeSet<String> = api.platform.received().into_iter().map(|order| order.request_id).collect();
    assert_eq!(request_ids.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_month_ends_it_stops_and_nothing_of_the_new_month_is_charged() {
    const COUNT: usize = 200;
    let api = Api::start().await;
    subscriptions(&api, COUNT).await;
    api.set_clock("timestamptz '2026-11-30 23:59:59Z'").await;
    let front = Front::start(&api, 4).await;
    let desk = Desk::new();
    desk.plan(&front.url, "plan").await;

    let apply = desk.run(&["apply", "plan", "--yes", "--rate", "40"]);
    let end_month = async {
        eventually("some are charged", async || api.platform.received().len() >= 20).await;
        api.set_clock("timestamptz '2026-12-01 00:00:00Z'").await;
    };
    let (ended, ()) = tokio::join!(apply, end_month);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the month 2026-11 is over: it is 2026-12 there"), "{ended:?}");
    let report = desk.report("plan").await;
    assert!(report.charged >= 20 && report.left > 0, "{report:?}");
    assert_eq!(report.charged + report.left, COUNT);
    assert_orders_are_those_of(&report, &api).await;
    assert!(api.ledger().await.iter().all(|attempt| attempt.billing_month == "2026-11-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_in_its_month_is_settled_after_it() {
    let api = Api::start().await;
    subscriptions(&api, 40).await;
    api.set_clock("timestamptz '2026-11-30 23:59:59Z'").await;
    let front = Front::start(&api, 4).await;
    let desk = Desk::new();
    desk.plan(&front.url, "plan").await;
    api.platform.behave(Behaviour::status(500));
    let ended = desk.run(&["apply", "plan", "--yes", "--max-failures", "3", "--concurrency", "2"]).await;
    assert_eq!(ended.status, Some(5), "{ended:?}");
    let sent = api.ledger().await.len();

    api.platform.behave(Behaviour::default());
    api.set_clock("timestamptz '2026-12-01 00:00:00Z'").await;
    let ended = desk.run(&["apply", "plan", "--yes"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let report = desk.report("plan").await;
    assert_eq!((report.charged + report.already_charged, report.left), (sent, 40 - sent), "{report:?}");
    assert_orders_are_those_of(&report, &api).await;
    assert!(api.ledger().await.iter().all(|attempt| attempt.billing_month == "2026-11-01"));

    // The next month has its own plan.
    desk.plan(&front.url, "december").await;
    let ended = desk.run(&["apply", "december", "--yes"]).await;
    assert_eq!((ended.status, desk.report("december").await.charged), (Some(0), 40), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_without_its_last_bytes_goes_on() {
    let api = Api::start().await;
    let ids = subscriptions(&api, 30).await;
    let front = Front::start(&api, 2).await;
    let desk = Desk::new();
    desk.plan(&front.url, "plan").await;
    assert_eq!(desk.run(&["apply", "plan", "--yes"]).await.status, Some(0));

    let path = desk.path("plan.journal");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let torn = desk.report("plan").await;
    assert_eq!((torn.charged, torn.left), (29, 1));
    assert_eq!(desk.run(&["apply", "plan", "--yes"]).await.status, Some(0));
    let healed = desk.report("plan").await;
    assert_eq!((healed.charged, healed.already_charged), (29, 1));
    assert_eq!(api.platform.received().len(), ids.len());

    // In the middle it is not torn, but damaged: a person looks at it.
    let damaged: Vec<u8> = whole.iter().map(|byte| if *byte == b'{' { b'?' } else { *byte }).collect();
    fs::write(&path, damaged).unwrap();
    assert_eq!(desk.run(&["apply", "plan", "--yes"]).await.status, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_kind_are_charged() {
    let api = Api::start().await;
    let club = api.club().await;
    let ids = ["a b", "é", "a/b", "a%2Fb", "?month=2020-01", "#", "🍺", "..x", "A.b_c~d-E"];
    for id in ids {
        api.run(&format!(
            "insert into subscription (id, club_id, customer_store_id) values ('{id}', {club}, 'c');
             insert into subscription_status_history (id, subscription_id, status_id, effect_date)
                 values ('{id}', '{id}', 1, '2020-01-01')"
        ))
        .await;
    }
    let front = Front::start(&api, 2).await;
    let desk = Desk::new();
    desk.plan(&front.url, "plan").await;
    let ended = desk.run(&["apply", "plan", "--yes"]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let report = desk.report("plan").await;
    assert_eq!(report.charged, ids.len(), "{report:?}");
    assert_eq!(report.line("A.b_c~d-E").request_id, format!("{}.A.b_c~d-E", report.month));
    let numbers: BTreeSet<String> = api.platform.received().into_iter().map(|order| order.request_id).collect();
    assert_eq!(numbers, report.subscriptions.iter().map(|line| line.request_id.clone()).collect());
    assert!(ended.stdout.starts_with("9 planned = 9 charged"), "{ended:?}");
    tokio::time::timeout(Duration::from_secs(60), desk.run(&["status", "plan"])).await.unwrap();
}
