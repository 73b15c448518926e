//! The time zones that the deployment, the functions and the database know, and the first moment of a day, as the database
//! computes it.

use std::{collections::BTreeSet, fs};

use chrono_tz::TZ_VARIANTS;
use harness::{Api, Call, eventually, report};
use serde_json::json;

#[test]
fn a_deployment_takes_the_zones_that_the_functions_know() {
    let known: BTreeSet<_> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
    let text = serde_json::to_string_pretty(&known).unwrap() + "\n";
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/time-zones.json");
    fs::write(file, &text).unwrap();
    assert!(include_str!("../../../deploy/time-zones.json") == text, "copy {file} to deploy/");
}

#[tokio::test]
async fn a_zone_that_the_server_does_not_know_is_named_in_the_log() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    // The tests' server knows each zone of the functions, so it is asked for another one.
    api.run(
        "create or replace function current_billing_month(billing_timezone text) returns date language sql stable
            return date_trunc('month', billing_now() at time zone ('Mars/' || billing_timezone))::date;
         create or replace function first_moment(day date, billing_timezone text) returns timestamp language sql stable
            return day::timestamp at time zone ('Mars/' || billing_timezone) at time zone 'UTC'",
    )
    .await;
    for (function, call) in [
        ("eligible", Call::get("/subscription/eligible")),
        ("lookup", Call::get("/charge")),
        ("charge", Call::charge(&subscription, "o")),
        (
            "status",
            Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 3, "skip": "2099-01" })),
        ),
    ] {
        let environment = api.environment_with(function, &[("BILLING_TIMEZONE", "America/Sao_Paulo")]).await;
        environment.call(&call).await.refuses(500, "internal_error");
        eventually("it logs", async || environment.log().contains("failed")).await;
        let log = environment.log();
        assert!(log.contains("BILLING_TIMEZONE") && log.contains("Mars/America/Sao_Paulo"), "{log}");
    }
}

#[tokio::test]
async fn in_every_zone_a_month_begins_at_its_first_moment() {
    let api = Api::start().await;
    let names: Vec<_> = TZ_VARIANTS.iter().map(|zone| zone.name().to_owned()).collect();
    // Alembic refuses a zone that the server does not know.
    let known: Vec<String> = sqlx::query_scalar("select name from pg_timezone_names where name = any($1)")
        .bind(&names)
        .fetch_all(&api.sql)
        .await
        .unwrap();
    report(&format!("time zones: {} of {} are known to the server", known.len(), names.len()));
    assert!(known.len() > 500);
    let wrong: Vec<String> = sqlx::query_scalar(
        "with boundary as (
            select zone, month::date as month, first_moment(month::date, zone) as first
            from unnest($1) zone
            cross join generate_series(timestamp '2026-01-01', '2028-01-01', '1 month') month
         ),
         edge as (
            select *, date_trunc('month', first at time zone 'UTC' at time zone zone)::date as at_first,
                date_trunc('month', (first - interval '1 microsecond') at time zone 'UTC' at time zone zone)::date as before
            from boundary
         )
         select concat_ws(' ', zone, month, first) from edge
         where at_first <> month or before <> month - interval '1 month'",
    )
    .bind(&known)
    .fetch_all(&api.sql)
    .await
    .unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn a_day_without_a_midnight_or_with_two_begins_at_its_first_moment() {
    let api = Api::start().await;
    for (zone, day, first) in [
        // Clocks go from 00:00 to 01:00.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04 03:00:00"),
        ("Africa/Cairo", "2026-04-24", "2026-04-23 22:00:00"),
        ("Asia/Beirut", "2026-03-29", "2026-03-28 22:00:00"),
        // From 00:00 to 23:00 on the day before, so there is one midnight.
        ("Africa/Cairo", "2026-10-30", "2026-10-29 22:00:00"),
        ("Asia/Beirut", "2026-10-25", "2026-10-24 22:00:00"),
        // From 01:00 to 00:00.
        ("America/Havana", "2026-11-01", "2026-11-01 04:00:00"),
        // From 00:01 to 23:01 on the day before.
        ("America/St_Johns", "2009-11-01", "2009-11-01 02:30:00"),
        // From 23:30 to 00:00.
        ("Asia/Pyongyang", "2018-05-05", "2018-05-04 15:00:00"),
        // A day that never was.
        ("Pacific/Apia", "2011-12-30", "2011-12-30 10:00:00"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30 10:00:00"),
        ("UTC", "9999-12-31", "9999-12-31 00:00:00"),
    ] {
        let found: String = api.ask(&format!("select first_moment('{day}', '{zone}')::text")).await;
        assert_eq!(found, first, "{zone} {day}");
    }
}
