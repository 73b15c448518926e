//! The billing month, in the billing time zone.

use std::time::Duration;

use api_tests::{Api, Call};
use serde_json::json;

/// A subscription that has been active since 2000.
async fn old_subscription(api: &Api) -> String {
    let subscription = api.subscription().await;
    api.run(
        "update subscription_status_history set effect_date = '2000-01-01', create_date = '2000-01-01';
         update club_status_history set effect_date = '2000-01-01', create_date = '2000-01-01'",
    )
    .await;
    subscription
}

#[tokio::test]
async fn months_end_to_the_millisecond_in_their_zone() {
    for (zone, moments) in [
        ("UTC", &[("2026-11-30T23:59:59.999Z", "2026-11"), ("2026-12-01T00:00:00Z", "2026-12")][..]),
        ("UTC", &[("2028-02-29T23:59:59.999Z", "2028-02"), ("2028-03-01T00:00:00Z", "2028-03")]),
        ("UTC", &[("2026-12-31T23:59:59.999Z", "2026-12"), ("2027-01-01T00:00:00Z", "2027-01")]),
        ("America/Sao_Paulo", &[("2026-12-01T02:59:59.999Z", "2026-11"), ("2026-12-01T03:00:00Z", "2026-12")]),
        ("America/Sao_Paulo", &[("2028-03-01T02:59:59.999Z", "2028-02"), ("2028-03-01T03:00:00Z", "2028-03")]),
        // Clocks went back in the night of the first, after the month had begun at midnight of daylight saving time.
        (
            "America/New_York",
            &[
                ("2026-11-01T03:59:59.999Z", "2026-10"),
                ("2026-11-01T04:00:00Z", "2026-11"),
                ("2026-11-01T06:30:00Z", "2026-11"),
            ],
        ),
        // Clocks go forward on the last day of the month, so it ends an hour earlier than it began.
        ("Europe/London", &[("2024-03-31T22:59:59.999Z", "2024-03"), ("2024-03-31T23:00:00Z", "2024-04")]),
        // The first of the month has no midnight: clocks went from 00:00 to 01:00.
        ("America/Asuncion", &[("2017-10-01T03:59:59.999Z", "2017-09"), ("2017-10-01T04:00:00Z", "2017-10")]),
        ("Pacific/Kiritimati", &[("2026-11-30T09:59:59.999Z", "2026-11"), ("2026-11-30T10:00:00Z", "2026-12")]),
        ("Asia/Kathmandu", &[("2026-11-30T18:14:59.999Z", "2026-11"), ("2026-11-30T18:15:00Z", "2026-12")]),
    ] {
        let api = Api::with(&[("BILLING_TIMEZONE", zone)]).await;
        let subscription = old_subscription(&api).await;
        let mut charged = Vec::new();
        for (moment, month) in moments {
            api.set_clock(&format!("'{moment}'::timestamptz")).await;
            let answer = api.charge(&subscription, &format!("o-{month}")).await;
            assert_eq!((answer.status, answer.text("month")), (200, *month), "{zone} {moment}: {answer:?}");
            assert_eq!(answer.body["already_charged"], json!(charged.contains(month)), "{zone} {moment}");
            charged.push(month);
        }
    }
}

#[tokio::test]
async fn a_status_changes_to_the_millisecond() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    api.status(&subscription, json!({ "status_id": 3, "interval": 1, "effect_date": "2028-02-29T12:00:00Z" })).await;
    for (moment, eligible) in [
        ("2028-02-29T11:59:59.999Z", true),
        ("2028-02-29T12:00:00Z", false),
        ("2028-03-01T11:59:59.999Z", false),
        ("2028-03-01T12:00:00Z", true),
    ] {
        api.set_clock(&format!("'{moment}'::timestamptz")).await;
        assert_eq!(!api.eligible().await.is_empty(), eligible, "{moment}");
    }
}

/// The functions' clocks decide no month. Here the database's clock is years ahead of them.
#[tokio::test]
async fn environments_whose_clocks_differ_agree_on_the_month() {
    let api = Api::start().await;
    let subscription = old_subscription(&api).await;
    api.set_clock("'2031-05-31T23:59:59.999Z'::timestamptz").await;
    let (early, late) = (api.environment("charge").await, api.environment("charge").await);
    let charge = |number: &str| Call::charge(&subscription, number).event();
    let (one, two) = tokio::join!(
        early.invoke(charge("one"), Duration::from_secs(28)),
        late.invoke(charge("two"), Duration::from_secs(30)),
    );
    assert_eq!(api.platform.received().len(), 1);
    for answer in [one, two] {
        assert!(answer.text("month") == "2031-05" || answer.text("code") == "charge_in_progress", "{answer:?}");
    }
}
