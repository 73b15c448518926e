//! The histories that the definition of current status names, with dates in the past.

use harness::{Api, pause};
use serde_json::json;

const ACTIVE: i32 = 1;
const CANCELLED: i32 = 2;
const PAUSED: i32 = 3;
const RETURN: &str = "Automatic return schedule";

/// Status, day of effect, day of record, details. Day 0 is 2020-01-01.
type Entry<'a> = (i32, f64, Option<f64>, &'a str);

/// The status on each of these days, after this history.
async fn on_days(api: &Api, history: &[Entry<'_>], days: &[f64]) -> Vec<Option<i32>> {
    api.run("truncate subscription_status_history, subscription; insert into subscription values ('s')").await;
    for (index, (status, effect, recorded, details)) in history.iter().enumerate().rev() {
        let day = |day: f64| format!("timestamp '2020-01-01' + {day} * interval '1 day'");
        let recorded = recorded.map_or("null".to_owned(), day);
        api.run(&format!(
            "insert into subscription_status_history values
             ('{index}', 's', {status}, {}, {recorded}, nullif('{details}', ''))",
            day(*effect)
        ))
        .await;
    }
    let mut found = Vec::new();
    for day in days {
        api.set_clock(&format!("timestamptz '2020-01-01Z' + {day} * interval '1 day'")).await;
        found.push(api.ask("select status_id from subscription_current_status").await);
    }
    found
}

#[tokio::test]
async fn each_named_history_has_its_status() {
    let api = Api::start().await;
    let subscribed = (ACTIVE, -9.0, Some(-9.0), "");

    for (name, rest, days, expected) in [
        (
            "pause for 30 days",
            &[(PAUSED, 0.0, Some(0.0), ""), (ACTIVE, 30.0, Some(0.0), RETURN)][..],
            &[-1.0, 0.0, 29.9, 30.0, 99.0][..],
            &[ACTIVE, PAUSED, PAUSED, ACTIVE, ACTIVE][..],
        ),
        (
            "pause for 30 days and cancel on day 5",
            &[(PAUSED, 0.0, Some(0.0), ""), (ACTIVE, 30.0, Some(0.0), RETURN), (CANCELLED, 5.0, Some(5.0), "")],
            &[4.0, 5.0, 31.0],
            &[PAUSED, CANCELLED, CANCELLED],
        ),
        (
            "pause again for 60 days",
            &[
                (PAUSED, 0.0, Some(0.0), ""),
                (ACTIVE, 30.0, Some(0.0), RETURN),
                (PAUSED, 10.0, Some(10.0), ""),
                (ACTIVE, 70.0, Some(10.0), RETURN),
            ],
            &[31.0, 69.0, 70.0],
            &[PAUSED, PAUSED, ACTIVE],
        ),
        (
            "click pause twice and cancel",
            &[
                (PAUSED, 0.0, Some(0.0), ""),
                (ACTIVE, 30.0, Some(0.0), RETURN),
                (PAUSED, 0.00001, Some(0.00001), ""),
                (ACTIVE, 30.00001, Some(0.00001), RETURN),
                (CANCELLED, 5.0, Some(5.0), ""),
            ],
            &[4.0, 5.0, 31.0, 99.0],
            &[PAUSED, CANCELLED, CANCELLED, CANCELLED],
        ),
        (
            "schedule a pause for days 30 to 60 and cancel today",
            &[(PAUSED, 30.0, Some(0.0), ""), (ACTIVE, 60.0, Some(0.0), RETURN), (CANCELLED, 0.1, Some(0.1), "")],
            &[0.2, 31.0, 61.0],
            &[CANCELLED, PAUSED, PAUSED],
        ),
        (
            "schedule a cancellation for day 10 and then pause from day 5 to 20",
            &[(CANCELLED, 10.0, Some(0.0), ""), (PAUSED, 5.0, Some(1.0), ""), (ACTIVE, 20.0, Some(1.0), RETURN)],
            &[4.0, 6.0, 11.0, 21.0],
            &[ACTIVE, PAUSED, CANCELLED, CANCELLED],
        ),
        (
            "cancel on day 10, activate on day 12, and pause from day 5 to 20 after that",
            &[
                (CANCELLED, 10.0, Some(0.0), ""),
                (ACTIVE, 12.0, Some(0.5), ""),
                (PAUSED, 5.0, Some(1.0), ""),
                (ACTIVE, 20.0, Some(1.0), RETURN),
            ],
            &[6.0, 11.0, 13.0, 21.0],
            &[PAUSED, CANCELLED, ACTIVE, ACTIVE],
        ),
        (
            "schedule it and activate today",
            &[(PAUSED, 30.0, Some(0.0), ""), (ACTIVE, 60.0, Some(0.0), RETURN), (ACTIVE, 0.1, Some(0.1), "")],
            &[0.2, 31.0, 61.0],
            &[ACTIVE, PAUSED, ACTIVE],
        ),
        (
            "a return without a create_date is never void",
            &[(PAUSED, 0.0, None, ""), (ACTIVE, 30.0, None, RETURN), (CANCELLED, 5.0, Some(5.0), "")],
            &[6.0, 31.0],
            &[CANCELLED, ACTIVE],
        ),
        (
            "a cancellation without a create_date was recorded when it took effect",
            &[(PAUSED, 0.0, Some(0.0), ""), (ACTIVE, 30.0, Some(0.0), RETURN), (CANCELLED, 5.0, None, "")],
            &[6.0, 31.0],
            &[CANCELLED, CANCELLED],
        ),
        (
            "an ordinary scheduled activation is never void",
            &[(PAUSED, 0.0, Some(0.0), ""), (ACTIVE, 30.0, Some(0.0), "planned"), (CANCELLED, 5.0, Some(5.0), "")],
            &[6.0, 31.0],
            &[CANCELLED, ACTIVE],
        ),
        (
            "a cancellation with the details of a return is none",
            &[(CANCELLED, 5.0, Some(0.0), RETURN), (ACTIVE, 1.0, Some(1.0), "")],
            &[2.0, 6.0],
            &[ACTIVE, CANCELLED],
        ),
        (
            "of the same effect_date the latest record counts, and one without is the earliest",
            &[(CANCELLED, 0.0, None, ""), (PAUSED, 0.0, Some(0.2), ""), (ACTIVE, 0.0, Some(0.1), "")],
            &[0.5],
            &[PAUSED],
        ),
        (
            "of the same dates the greatest id counts",
            &[(CANCELLED, 0.0, Some(0.0), ""), (PAUSED, 0.0, Some(0.0), ""), (ACTIVE, 0.0, Some(0.0), "")],
            &[0.5],
            &[ACTIVE],
        ),
    ] {
        let history = [&[subscribed], rest].concat();
        let expected: Vec<_> = expected.iter().copied().map(Some).collect();
        assert_eq!(on_days(&api, &history, days).await, expected, "{name}");
    }
    assert_eq!(on_days(&api, &[(ACTIVE, 1.0, Some(0.0), "")], &[0.5]).await, [None], "all in the future");
    assert_eq!(on_days(&api, &[], &[0.5]).await, [None], "none");
}

#[tokio::test]
async fn of_the_same_dates_the_greatest_id_by_bytes_counts() {
    let api = Api::start().await;
    api.run("insert into subscription values ('s')").await;
    for (id, status) in [("a", 3), ("B", 1), ("é", 2), ("z", 1)] {
        api.run(&format!("insert into subscription_status_history values ('{id}', 's', {status}, '2020-01-01')")).await;
    }
    assert_eq!(api.ask::<i32>("select status_id from subscription_current_status").await, CANCELLED);
}

#[tokio::test]
async fn entries_of_the_api_have_the_status_of_the_definition() {
    let api = Api::start().await;
    let kept = api.subscription().await;
    let cancelled = api.subscription().await;
    for subscription in [&kept, &cancelled] {
        assert_eq!(api.status(subscription, pause(30)).await.status, 200);
        assert_eq!(api.status(subscription, pause("30")).await.status, 200);
    }
    assert!(api.eligible().await.is_empty());
    assert_eq!(api.status(&cancelled, json!({ "status_id": 2 })).await.status, 200);

    // As if days had passed. The acceptance system, too, changes only the dates of effect.
    api.run("update subscription_status_history set effect_date = effect_date - interval '31 days'").await;
    assert_eq!(api.eligible().await, [kept]);
}

#[tokio::test]
async fn a_clubs_latest_entry_in_effect_is_its_status() {
    let api = Api::start().await;
    let club: i32 = api.ask("insert into club (name) values ('Kölsch') returning id").await;
    api.run(&format!(
        "insert into club_status_history values
         ('1', {club}, 1, '2020-01-01', null), ('2', {club}, 3, '2020-01-01', '2020-01-01'),
         ('3', {club}, 2, '2021-01-01', null), ('4', {club}, 1, '2999-01-01', null), ('5', {club}, 1, null, null)"
    ))
    .await;
    for (moment, status) in
        [("2020-06-01", Some(3)), ("2022-01-01", Some(2)), ("2999-01-01", Some(1)), ("2019-01-01", None)]
    {
        api.set_clock(&format!("'{moment}Z'::timestamptz")).await;
        assert_eq!(api.ask::<Option<i32>>("select club_status_id from club_current_status").await, status, "{moment}");
    }
}
