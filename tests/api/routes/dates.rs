//! Days and months in `POST /subscription/{id}/status`: `until`, `skip` and dates without a time.

use chrono::{DateTime, Duration, Months, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use harness::{Api, Call, pause};
use serde_json::{Value, json};

/// Starts at this moment, with a subscription that has been active for years.
async fn at(zone: &str, moment: &str) -> (Api, String) {
    let api = Api::with(&[("BILLING_TIMEZONE", zone)]).await;
    api.set_clock("'2020-01-01Z'::timestamptz").await;
    let subscription = api.subscription().await;
    clock(&api, moment).await;
    (api, subscription)
}

async fn clock(api: &Api, moment: &str) {
    api.set_clock(&format!("'{moment}'::timestamptz")).await;
}

async fn accepted(api: &Api, subscription: &str, body: Value) -> Value {
    let answer = api.status(subscription, body.clone()).await;
    assert_eq!(answer.status, 200, "{body}: {answer:?}");
    answer.body
}

/// The status at each of these moments.
async fn shows(api: &Api, subscription: &str, expected: &[(&str, i32)]) {
    for (moment, status) in expected {
        clock(api, moment).await;
        let answer = api.call(Call::get(format!("/subscription/{subscription}"))).await;
        assert_eq!(answer.body["status_id"], *status, "{moment}: {answer:?}");
        assert_eq!(api.eligible().await.is_empty(), *status != 1, "{moment}");
    }
}

fn skip(month: &str) -> Value {
    json!({ "status_id": 3, "skip": month })
}

async fn history(api: &Api) -> String {
    api.ask(
        "select string_agg(concat_ws(' ', status_id, effect_date, details), '; '
             order by effect_date, create_date, id collate \"C\")
         from subscription_status_history where effect_date > '2020-01-01'",
    )
    .await
}

#[tokio::test]
async fn a_day_is_its_first_moment_in_the_billing_time_zone() {
    for (zone, day, moment) in [
        ("UTC", "2030-01-01", "2030-01-01T00:00:00Z"),
        ("America/Sao_Paulo", "2030-01-01", "2030-01-01T03:00:00Z"),
        ("Asia/Tokyo", "20300101", "2029-12-31T15:00:00Z"),
        // No midnight, and two.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00Z"),
        // A time without an offset is UTC in every zone.
        ("America/Sao_Paulo", "2030-01-01T00:00", "2030-01-01T00:00:00Z"),
    ] {
        let (api, subscription) = at(zone, "2026-11-20T14:05Z").await;
        let answer = accepted(&api, &subscription, json!({ "status_id": 2, "effect_date": day })).await;
        assert_eq!(answer["effect_date"], moment, "{zone} {day}");
        let until = json!({ "status_id": 3, "effect_date": "2018-01-01", "until": day });
        assert_eq!(accepted(&api, &subscription, until).await["automatic_return"], moment, "{zone} {day}");
    }
}

#[tokio::test]
async fn a_pause_until_a_day_ends_with_the_day_before() {
    let (api, subscription) = at("America/Sao_Paulo", "2026-11-20T14:05:00-03:00").await;
    let answer = accepted(&api, &subscription, json!({ "status_id": 3, "until": "2026-12-01" })).await;
    assert_eq!(
        (&answer["effect_date"], &answer["automatic_return"]),
        (&json!("2026-11-20T17:05:00Z"), &json!("2026-12-01T03:00:00Z"))
    );
    assert_eq!(
        history(&api).await,
        "3 2026-11-20 17:05:00; 1 2026-12-01 03:00:00 Automatic return schedule",
        "as with an interval"
    );
    let november = [("2026-12-01T02:59:59Z", 3), ("2026-12-01T03:00:00Z", 1), ("2026-12-01T06:00:00Z", 1)];
    shows(&api, &subscription, &november).await;
}

#[tokio::test]
async fn a_skip_pauses_its_month_and_no_other() {
    let (api, subscription) = at("UTC", "2027-01-31T12:00Z").await;
    let answer = accepted(&api, &subscription, skip("2027-02")).await;
    assert_eq!(
        answer,
        json!({
            "subscription_id": subscription, "status_id": 3, "details": null,
            "effect_date": "2027-02-01T00:00:00Z", "automatic_return": "2027-03-01T00:00:00Z"
        })
    );
    assert_eq!(history(&api).await, "3 2027-02-01 00:00:00; 1 2027-03-01 00:00:00 Automatic return schedule");
    let moments = [
        ("2027-01-31T23:59:59Z", 1),
        ("2027-02-01T00:00:00Z", 3),
        ("2027-02-28T23:59:59Z", 3),
        ("2027-03-01T00:00:00Z", 1),
    ];
    shows(&api, &subscription, &moments).await;
}

#[tokio::test]
async fn a_month_that_has_begun_is_skipped_from_now_on() {
    let (api, subscription) = at("Asia/Tokyo", "2026-11-30T15:00Z").await;
    let answer = accepted(&api, &subscription, skip("2026-12")).await;
    assert_eq!(answer["effect_date"], "2026-11-30T15:00:00Z");
    clock(&api, "2026-12-31T14:59:59Z").await;
    api.status(&subscription, skip("2026-12")).await.refuses(409, "nothing_to_skip");
    accepted(&api, &subscription, json!({ "status_id": 1 })).await;
    assert_eq!(accepted(&api, &subscription, skip("2026-12")).await["effect_date"], "2026-12-31T14:59:59Z");
    shows(&api, &subscription, &[("2026-12-31T14:59:59Z", 3), ("2026-12-31T15:00:00Z", 1)]).await;
}

#[tokio::test]
async fn a_month_without_an_active_moment_is_nothing_to_skip() {
    for (before, month) in [
        (json!({ "status_id": 2 }), "2026-12"),
        (json!({ "status_id": 3 }), "2026-11"),
        (json!({ "status_id": 3, "until": "2027-01-01" }), "2026-12"),
        (json!({ "status_id": 2, "effect_date": "2026-12-01" }), "2026-12"),
        (skip("2026-12"), "2026-12"),
    ] {
        let (api, subscription) = at("America/New_York", "2026-11-08T12:00Z").await;
        accepted(&api, &subscription, before.clone()).await;
        let rows = history(&api).await;
        api.status(&subscription, skip(month)).await.refuses(409, "nothing_to_skip");
        assert_eq!(history(&api).await, rows, "{before}");
    }
}

#[tokio::test]
async fn a_skip_ends_no_cancellation_and_no_other_skip() {
    let (api, subscription) = at("UTC", "2026-11-08T12:00Z").await;
    accepted(&api, &subscription, json!({ "status_id": 2, "effect_date": "2027-01-15" })).await;
    let january = accepted(&api, &subscription, skip("2027-01")).await;
    assert_eq!(january["automatic_return"], json!(null), "it would not be active then");
    let december = accepted(&api, &subscription, skip("2026-12")).await;
    assert_eq!(december["automatic_return"], json!(null), "January is skipped, too");
    assert_eq!(
        history(&api).await,
        "3 2026-12-01 00:00:00; 3 2027-01-01 00:00:00; 2 2027-01-15 00:00:00",
        "no return, and nothing else"
    );
    let moments = [("2026-11-30T23:59:59Z", 1), ("2026-12-01Z", 3), ("2027-01-01Z", 3), ("2027-02-01Z", 2)];
    shows(&api, &subscription, &moments).await;
}

#[tokio::test]
async fn a_pause_inside_a_skipped_month_replaces_the_rest_of_it() {
    let (api, subscription) = at("UTC", "2026-11-08T12:00Z").await;
    accepted(&api, &subscription, json!({ "status_id": 2, "effect_date": "2027-01-15" })).await;
    accepted(&api, &subscription, skip("2027-01")).await;
    let inside = json!({ "status_id": 3, "effect_date": "2027-01-05", "until": "2027-01-10" });
    accepted(&api, &subscription, inside).await;
    let moments = [("2027-01-01Z", 3), ("2027-01-09Z", 3), ("2027-01-10Z", 1), ("2027-01-15Z", 2), ("2027-02-01Z", 2)];
    shows(&api, &subscription, &moments).await;
}

#[tokio::test]
async fn an_open_pause_lasts_through_the_end_of_a_skip() {
    let (api, subscription) = at("UTC", "2026-11-20T14:05Z").await;
    accepted(&api, &subscription, skip("2027-01")).await;
    accepted(&api, &subscription, json!({ "status_id": 3 })).await;
    assert_eq!(
        history(&api).await,
        "3 2026-11-20 14:05:00; 3 2027-01-01 00:00:00; 1 2027-02-01 00:00:00 Automatic return schedule; \
         3 2027-02-01 00:00:00"
    );
    shows(&api, &subscription, &[("2027-01-31Z", 3), ("2027-02-01Z", 3), ("2028-01-01Z", 3)]).await;

    // January is still skipped when the customer resumes before, and February is not.
    clock(&api, "2026-12-15T12:00Z").await;
    accepted(&api, &subscription, json!({ "status_id": 1 })).await;
    let moments = [("2026-12-31Z", 1), ("2027-01-01Z", 3), ("2027-01-31Z", 3), ("2027-02-01Z", 1), ("2028-01-01Z", 1)];
    shows(&api, &subscription, &moments).await;
}

#[tokio::test]
async fn no_pause_ends_a_cancellation() {
    let (api, subscription) = at("UTC", "2026-11-08T12:00Z").await;
    accepted(&api, &subscription, json!({ "status_id": 2, "effect_date": "2026-11-30" })).await;
    accepted(&api, &subscription, pause(30)).await;
    shows(&api, &subscription, &[("2026-11-29Z", 3), ("2026-11-30Z", 2), ("2026-12-08T12:00Z", 2)]).await;
    // Nor one that begins after it.
    accepted(&api, &subscription, pause(30)).await;
    accepted(&api, &subscription, json!({ "status_id": 3, "until": "2027-03-01" })).await;
    shows(&api, &subscription, &[("2026-12-08T12:00Z", 2), ("2027-02-01Z", 2), ("2027-03-01Z", 2)]).await;
}

#[tokio::test]
async fn what_a_page_undoes_is_undone() {
    for scheduled in [skip("2026-12"), json!({ "status_id": 2, "effect_date": "2026-12-31" })] {
        let (api, subscription) = at("Europe/Berlin", "2026-11-08T12:00Z").await;
        accepted(&api, &subscription, skip("2027-02")).await;
        accepted(&api, &subscription, scheduled).await;
        let shown = api.call(Call::get(format!("/subscription/{subscription}"))).await;
        let undo = json!({ "status_id": 1, "effect_date": shown.body["next"]["effect_date"] });
        accepted(&api, &subscription, undo).await;
        let moments = [
            ("2026-12-15Z", 1),
            ("2027-01-31T22:59:59Z", 1),
            ("2027-01-31T23:00:00Z", 3),
            ("2027-02-28T22:59:59Z", 3),
            ("2027-02-28T23:00:00Z", 1),
        ];
        shows(&api, &subscription, &moments).await;
    }
}

#[tokio::test]
async fn rows_by_hand_keep_their_meaning() {
    let (api, subscription) = at("UTC", "2026-11-20T14:05Z").await;
    let insert = |rows: &str| format!("insert into subscription_status_history select r.* from (values {rows}) r");
    api.run(
        &insert(
            "('a', 's', 3, timestamp '2027-01-01', timestamp '2026-11-01', null),
             ('b', 's', 1, '2027-02-01', '2026-11-01', 'Automatic return schedule'),
             ('c', 's', 3, '2026-11-10', '2026-11-10', null)",
        )
        .replace("'s'", &format!("'{subscription}'")),
    )
    .await;
    let moments = [("2026-11-11Z", 3), ("2027-01-15Z", 3), ("2027-02-01Z", 1), ("2028-01-01Z", 1)];
    shows(&api, &subscription, &moments).await;
    clock(&api, "2026-11-20T14:05Z").await;
    accepted(&api, &subscription, json!({ "status_id": 2, "effect_date": "2027-12-01" })).await;
    let moments = [("2027-01-15Z", 3), ("2027-02-01Z", 1), ("2027-12-01Z", 2)];
    shows(&api, &subscription, &moments).await;
}

#[tokio::test]
async fn days_and_months_that_cannot_be_meant_are_refused_and_change_nothing() {
    let (api, subscription) = at("America/New_York", "2026-11-20T14:05Z").await;
    for (body, field) in [
        (json!({ "status_id": 3, "until": "2026-11-20" }), "until"),
        (json!({ "status_id": 3, "until": "2026-11-20T14:05Z" }), "until"),
        (json!({ "status_id": 3, "until": "2026-12-01", "effect_date": "2026-12-01" }), "until"),
        (json!({ "status_id": 3, "until": "2026-12-01", "effect_date": "2026-12-02" }), "until"),
        (json!({ "status_id": 3, "until": "soon" }), "until"),
        (json!({ "status_id": 3, "until": 20261201 }), "until"),
        (json!({ "status_id": 3, "until": "" }), "until"),
        (json!({ "status_id": 3, "until": "10000-01-01" }), "until"),
        (json!({ "status_id": 3, "until": "2026-12-01", "interval": 5 }), "until"),
        (json!({ "status_id": 3, "skip": "2026-12", "interval": 5 }), "skip"),
        (json!({ "status_id": 3, "skip": "2026-12", "until": "2026-12-05" }), "skip"),
        (json!({ "status_id": 3, "skip": "2026-12", "until": "2026-12-05", "interval": 5 }), "skip"),
        (json!({ "status_id": 3, "skip": "2026-12", "effect_date": "2026-12-01" }), "skip"),
        (json!({ "status_id": 1, "skip": "2026-12" }), "skip"),
        (json!({ "status_id": 2, "until": "2026-12-05" }), "until"),
        (json!({ "status_id": 2, "until": "never" }), "until"),
        (skip("2026-10"), "skip"),
        (skip("2020-12"), "skip"),
        (skip("0000-01"), "skip"),
        (skip("9999-12"), "skip"),
        (skip("10000-01"), "skip"),
        (skip("2026-13"), "skip"),
        (skip("2026-12-01"), "skip"),
        (skip("December"), "skip"),
        (skip(""), "skip"),
        (json!({ "status_id": 3, "skip": 202612 }), "skip"),
        (json!({ "status_id": 3, "interval": 1, "effect_date": "9999-12-31" }), "interval"),
    ] {
        let answer = api.status(&subscription, body.clone()).await;
        assert!(answer.refuses(400, "invalid_request").text("detail").contains(field), "{body}: {answer:?}");
    }
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 1);
    for (body, moment) in [
        (skip("9999-11"), "9999-12-01T05:00:00Z"),
        (json!({ "status_id": 3, "until": "9999-12-31" }), "9999-12-31T05:00:00Z"),
        (json!({ "status_id": 3, "until": null, "skip": null, "interval": 1 }), "2026-11-21T14:05:00Z"),
    ] {
        assert_eq!(accepted(&api, &subscription, body).await["automatic_return"], moment);
    }
}

#[tokio::test]
async fn the_first_day_of_the_year_1_may_begin_in_the_year_0() {
    let (api, subscription) = at("Asia/Tokyo", "2026-11-20T14:05Z").await;
    let answer = api.status(&subscription, json!({ "status_id": 1, "effect_date": "0001-01-01" })).await;
    assert!(answer.refuses(400, "invalid_request").text("detail").contains("effect_date"), "{answer:?}");
    assert_eq!(
        accepted(&api, &subscription, json!({ "status_id": 1, "effect_date": "0001-01-02" })).await["status_id"],
        1
    );
}

#[tokio::test]
async fn nobody_skips_for_an_unknown_subscription() {
    let api = Api::start().await;
    api.status("nobody", skip("2999-12")).await.refuses(404, "subscription_not_found");
    api.status("nobody", json!({ "status_id": 3, "until": "2999-12-31" })).await.refuses(404, "subscription_not_found");
}

#[tokio::test]
async fn a_change_that_waits_for_another_builds_on_it() {
    for first in [json!({ "status_id": 3 }), json!({ "status_id": 2 })] {
        let (api, subscription) = at("UTC", "2026-11-20T14:05Z").await;
        let (one, two) = (api.environment("status").await, api.environment("status").await);
        let call = |body: &Value| Call::post(format!("/subscription/{subscription}/status"), body.clone());
        let mut lock = api.sql.begin().await.unwrap();
        sqlx::query("select from subscription for no key update").execute(&mut *lock).await.unwrap();
        let (skip, first) = (call(&skip("2027-01")), call(&first));
        let (skipped, changed, ()) = tokio::join!(one.call(&skip), two.call(&first), async {
            harness::eventually("both wait", async || {
                let waiting = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'";
                api.ask::<i64>(waiting).await == 2
            })
            .await;
            lock.rollback().await.unwrap();
        });
        assert_eq!(changed.status, 200, "{changed:?}");
        assert!([200, 409].contains(&skipped.status), "{skipped:?}");
        // Whichever was first: the base is what the other call says, and it lasts.
        let status = changed.body["status_id"].as_i64().unwrap() as i32;
        shows(&api, &subscription, &[("2026-12-31Z", status), ("2027-01-15Z", status), ("2027-02-01Z", status)]).await;
    }
}

#[tokio::test]
async fn the_limit_counts_a_call_once_whatever_it_records() {
    let (api, subscription) = at("UTC", "2026-11-20T14:05Z").await;
    accepted(&api, &subscription, skip("2027-01")).await;
    accepted(&api, &subscription, json!({ "status_id": 3 })).await;
    assert_eq!(api.ask::<i64>("select count(*) from subscription_status_history").await, 1 + 2 + 2);
    for (limit, verdict) in [(3, "recorded"), (3, "too_many_changes"), (4, "recorded"), (4, "too_many_changes")] {
        let answer: String = api
            .ask(&format!(
                "select verdict from record_status('{subscription}', null, 2, null, null, null, null, null, null, null,
                    'UTC', gen_random_uuid()::text, {limit}, 60)"
            ))
            .await;
        assert_eq!(answer, verdict, "{limit}");
    }
}

#[tokio::test]
async fn a_repeated_call_finds_its_own_rows() {
    let (api, subscription) = at("UTC", "2026-11-20T14:05Z").await;
    accepted(&api, &subscription, skip("2027-01")).await;
    for (id, parameters) in [
        ("00000001-0000-4000-8000-000000000000", "null, null, null, '2027-03-01'"),
        ("00000002-0000-4000-8000-000000000000", "null, null, null, null"),
        ("00000003-0000-4000-8000-000000000000", "30, null, null, null"),
    ] {
        let mut answers = Vec::new();
        // The repeat comes later, when the limit is reached.
        for (moment, limit) in [("2026-11-20T14:05Z", "null"), ("2026-11-20T14:06Z", "1")] {
            clock(&api, moment).await;
            let call = format!(
                "select record_status('{subscription}', null, 3, null, null, null, {parameters}, 'UTC', '{id}', {limit}, 60)::text"
            );
            answers.push(api.ask::<String>(&call).await);
        }
        assert!(answers[0].starts_with("(recorded,") && answers[0] == answers[1], "{answers:?}");
    }
}

/// The first moment of a month, as chrono-tz has it.
fn first(zone: Tz, month: NaiveDate) -> DateTime<Utc> {
    let midnight = zone.from_local_datetime(&month.and_hms_opt(0, 0, 0).unwrap());
    midnight.earliest().unwrap_or_else(|| panic!("{month} has no midnight in {zone}")).to_utc()
}

#[tokio::test]
async fn a_skipped_month_is_not_chargeable_from_its_first_to_its_last_second() {
    for zone in [
        "America/Los_Angeles",
        "America/Sao_Paulo",
        "America/Havana",
        "Africa/Cairo",
        "Asia/Beirut",
        "Asia/Tokyo",
        "Australia/Lord_Howe",
        "Europe/Berlin",
    ] {
        let api = Api::with(&[("BILLING_TIMEZONE", zone)]).await;
        api.set_clock("'2020-01-01Z'::timestamptz").await;
        let zone: Tz = zone.parse().unwrap();
        let months: Vec<_> = (0..26).map(|n| NaiveDate::from_ymd_opt(2025, 12, 1).unwrap() + Months::new(n)).collect();
        let mut skippers = Vec::new();
        for _ in &months[1..25] {
            skippers.push(api.subscription().await);
        }
        clock(&api, "2025-12-20T12:00Z").await;
        for (skipper, month) in skippers.iter().zip(&months[1..]) {
            accepted(&api, skipper, skip(&month.format("%Y-%m").to_string())).await;
        }
        for (place, month) in months[..25].iter().enumerate() {
            let (begin, end) = (first(zone, *month), first(zone, months[place + 1]));
            let skipper = place.checked_sub(1).map(|place| &skippers[place]);
            let mut others: Vec<_> = skippers.iter().filter(|other| Some(*other) != skipper).cloned().collect();
            others.sort();
            let second = Duration::seconds(1);
            for moment in [begin, end - second].into_iter().filter(|moment| *moment > first(zone, months[0])) {
                clock(&api, &moment.to_rfc3339()).await;
                assert_eq!(api.eligible().await, others, "{zone} {moment}");
                if let Some(skipper) = skipper {
                    let charge = api.charge(skipper, &format!("skipped-{month}")).await;
                    charge.refuses(409, "not_chargeable");
                }
            }
            // A second before it began, it was; a second after its end, it is.
            if let Some(skipper) = skipper {
                for (moment, id) in [(begin - second, "before"), (end, "after")] {
                    clock(&api, &moment.to_rfc3339()).await;
                    let charge = api.charge(skipper, &format!("{id}-{month}")).await;
                    assert_eq!(charge.status, 200, "{zone} {moment} {charge:?}");
                }
            }
        }
    }
}
