//! Whole months, charged through the real functions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ecommerce_stub::{Answer, Behaviour};
use harness::{Api, Environment, checker, eventually, report};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{
    front::Front,
    tool::{Report, Tool, signal},
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

/// The order that charged each subscription: at most one each, and the same that the report says.
async fn assert_orders_are_those_of(report: &Report, api: &Api) {
    let (received, ledger) = (api.platform.received(), api.ledger().await);
    assert_eq!(checker::violations(&received, &ledger), Vec::<String>::new());
    let mut orders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for order in received.iter().filter(|order| order.taken) {
        orders.entry(&order.customer_id).or_default().insert(&order.request_id);
    }
    let charged: BTreeSet<&str> =
        ledger.iter().filter(|attempt| attempt.state == "charged").map(|attempt| &*attempt.subscription_id).collect();
    report.states();
    for line in &report.subscriptions {
        assert_eq!(charged.contains(&*line.subscription_id), line.state == "charged", "{line:?}");
    }
    assert_eq!(orders.len(), charged.len());
    assert!(orders.values().all(|request_ids| request_ids.len() == 1));
}

/// The fault that the first order of some of them meets.
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
async fn a_month_is_charged_once_though_runs_are_killed_twenty_times_and_the_platform_fails() {
    const COUNT: usize = 5000;
    const KILLS: usize = 20;
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "1000")]).await;
    let ids = subscriptions(&api, COUNT).await;
    let front = Front::start(&api, 8).await;
    let tool = Tool::on(&front.url);
    let month = tool.report(&[]).await.month;
    let mut refused = 0;
    for (place, id) in ids.iter().enumerate() {
        if let Some(fault) = fault(place) {
            refused += usize::from(fault == Behaviour::status(422));
            api.platform.behave_for(&format!("{month}.{id}"), fault);
        }
    }

    // At random moments, counted in orders: one in each twentieth.
    let seed = Uuid::new_v4().as_u128();
    let moments: Vec<usize> =
        (0..KILLS).map(|kill| kill * COUNT / KILLS + (seed >> kill) as usize % (COUNT / KILLS)).collect();
    report(&format!("bill run: killed at orders {moments:?}"));
    let settings = HashMap::from([("BILL_RUN_API".to_owned(), front.url.clone())]);
    for (place, moment) in moments.into_iter().enumerate() {
        let is_reached = || api.platform.received().len() >= moment;
        if place % 4 == 3 {
            let function = Environment::start("bill-run", &settings).await;
            let event = json!({ "month": month, "concurrency": 16 });
            tokio::select! {
                _ = function.invoke_raw(event, Duration::from_secs(300)) => {}
                () = eventually("the moment to kill it", async || is_reached()) => function.kill(),
            }
            continue;
        }
        // Every other time there are two.
        let mut runs: Vec<_> =
            (0..=place % 2).map(|_| tool.charging(&["--concurrency", "16"]).spawn().unwrap()).collect();
        eventually("the moment to kill it", async || {
            is_reached() || runs.iter_mut().all(|run| run.try_wait().unwrap().is_some())
        })
        .await;
        for mut run in runs {
            // It may have ended: what is left is less than one would think.
            if run.try_wait().unwrap().is_none() {
                signal(&run, Signal::KILL);
            }
            spawn_blocking(move || run.wait().unwrap()).await.unwrap();
        }
    }

    let ended = tool.charge(&["--concurrency", "16"]).await;
    assert_eq!(ended.status, Some(3), "{ended:?}");
    let whole = tool.report(&[]).await;
    assert_eq!((whole.eligible, whole.charged + whole.rejected), (COUNT, COUNT), "{ended:?}");
    // Of two runs, one may order again what was refused to the other. Then it is not refused.
    assert!((1..=refused).contains(&whole.rejected), "{ended:?}");
    assert_orders_are_those_of(&whole, &api).await;
    let orders = api.platform.received().len();
    report(&format!("bill run: {COUNT} subscriptions, {KILLS} kills, {orders} orders: {:?}", whole.states()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_charge_the_same_month_at_once_charge_it_once() {
    const COUNT: usize = 300;
    // A deadline soon after the answer: the other one waits until then.
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "1000")]).await;
    subscriptions(&api, COUNT).await;
    let front = Front::start(&api, 4).await;
    let tool = Tool::on(&front.url);
    let (ended, other) = tokio::join!(tool.charge(&["--concurrency", "4"]), tool.charge(&["--concurrency", "4"]));
    for ended in [ended, other] {
        assert_eq!(ended.line(), (Some(0), "300 = 300 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
    }
    assert_orders_are_those_of(&tool.report(&[]).await, &api).await;
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
    let tool = Tool::on(&front.url);
    let run = tool.charge(&["--rate", "40"]);
    let end_month = async {
        eventually("some are charged", async || api.platform.received().len() >= 20).await;
        api.set_clock("timestamptz '2026-12-01 00:00:00Z'").await;
    };
    let (ended, ()) = tokio::join!(run, end_month);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the month 2026-11 is over: it is 2026-12 at the API"), "{ended:?}");
    let report = tool.report(&["--month", "2026-11"]).await;
    assert!((20..COUNT).contains(&report.charged), "{report:?}");
    assert_orders_are_those_of(&report, &api).await;
    assert!(api.ledger().await.iter().all(|attempt| attempt.billing_month == "2026-11-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_in_its_month_is_settled_after_it() {
    let api = Api::start().await;
    subscriptions(&api, 40).await;
    api.set_clock("timestamptz '2026-11-30 23:59:59Z'").await;
    let front = Front::start(&api, 4).await;
    let tool = Tool::on(&front.url);
    api.platform.behave(Behaviour::status(500));
    let ended = tool.charge(&["--max-failures", "3", "--concurrency", "2"]).await;
    assert_eq!(ended.status, Some(5), "{ended:?}");
    let sent = api.ledger().await.len();

    api.platform.behave(Behaviour::default());
    api.set_clock("timestamptz '2026-12-01 00:00:00Z'").await;
    let ended = tool.charge(&["--month", "2026-11"]).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let report = tool.report(&["--month", "2026-11"]).await;
    assert_eq!((report.charged, report.eligible), (sent, sent), "{report:?}");
    assert_orders_are_those_of(&report, &api).await;
    assert!(api.ledger().await.iter().all(|attempt| attempt.billing_month == "2026-11-01"));
    let ended = tool.charge(&[]).await;
    assert_eq!(ended.line(), (Some(0), "40 = 40 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_platform_s_credentials_are_corrected_the_same_command_charges_all() {
    const CONCURRENCY: usize = 8;
    let api = Api::start().await;
    subscriptions(&api, 60).await;
    let front = Front::start(&api, CONCURRENCY).await;
    let tool = Tool::on(&front.url);
    api.platform.behave(Behaviour::status(401));
    let ended = tool.charge(&["--concurrency", &CONCURRENCY.to_string()]).await;
    assert_eq!(ended.status, Some(6), "{ended:?}");
    let orders = api.platform.received().len();
    assert!((3..=CONCURRENCY + 2).contains(&orders), "{orders}");
    api.platform.behave(Behaviour::default());
    let ended = tool.charge(&[]).await;
    assert_eq!(ended.line(), (Some(0), "60 = 60 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_is_tried_again_under_another_number_and_the_report_has_the_platform_s_words() {
    let api = Api::start().await;
    let ids = subscriptions(&api, 2).await;
    let front = Front::start(&api, 2).await;
    let tool = Tool::on(&front.url);
    let declined =
        Answer::Status { status: 402, headers: BTreeMap::new(), body: r#"{"message":"declined"}"#.to_owned() };
    api.platform.behave(Behaviour { answer: declined, ..Behaviour::default() });
    assert_eq!(tool.charge(&[]).await.line(), (Some(3), "2 = 0 charged + 2 rejected + 0 unknown + 0 left"));
    for line in tool.report(&[]).await.subscriptions {
        assert_eq!((line.upstream_status, line.reason), (Some(402), json!({ "message": "declined" })));
    }
    api.platform.behave(Behaviour::default());
    assert_eq!(tool.charge(&["--retry-rejected", "--new-number"]).await.status, Some(0));
    let report = tool.report(&[]).await;
    for id in &ids {
        assert_eq!(report.line(id).request_id, Some(format!("{}~2.{id}", report.month)));
    }
    assert_orders_are_those_of(&report, &api).await;
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
    let tool = Tool::on(&front.url);
    let ended = tool.charge(&[]).await;
    assert_eq!(ended.line(), (Some(0), "9 = 9 charged + 0 rejected + 0 unknown + 0 left"), "{ended:?}");
    let report = tool.report(&[]).await;
    assert_eq!(report.line("A.b_c~d-E").request_id, Some(format!("{}.A.b_c~d-E", report.month)));
    let numbers: BTreeSet<String> = api.platform.received().into_iter().map(|order| order.request_id).collect();
    assert_eq!(numbers, report.subscriptions.into_iter().filter_map(|line| line.request_id).collect());
}
