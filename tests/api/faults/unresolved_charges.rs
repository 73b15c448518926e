//! Charges that need a person: how they are found, and how they are resolved.

use std::time::Duration;

use ecommerce_stub::Behaviour;
use harness::{Api, Call, Environment, eventually};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

/// A subscription whose charge of this month, `o`, has an unknown outcome.
async fn unknown(api: &Api) -> String {
    let subscription = api.subscription().await;
    api.charge_into_the_unknown(&subscription, "o").await;
    subscription
}

/// An environment of charge that stops with the platform's answer to `o`, before it settles.
async fn sleeper(api: &Api) -> Environment {
    api.environment_with("charge", &[("FAILPOINTS", "answered=return(STOP)")]).await
}

/// Until a statement waits for a lock.
async fn somebody_waits(api: &Api, what: &str) {
    let waiting = "select count(*) from pg_locks join pg_stat_activity using (pid)
        where not granted and datname = current_database()";
    eventually(what, async || api.ask::<i64>(waiting).await > 0).await;
}

/// Claims the month under `p`, and sends nothing.
async fn claim_another(api: &Api, subscription: &str) {
    let claim =
        "select verdict from claim_charge($1, 'p', gen_random_uuid(), gen_random_uuid(), 'UTC', 19, true, null, 60)";
    let verdict: String = sqlx::query_scalar(claim).bind(subscription).fetch_one(&api.sql).await.unwrap();
    assert_eq!(verdict, "claimed");
}

async fn resolve(api: &Api, outcome: &str) -> Result<(), String> {
    sqlx::query(
        "select resolve_charge(id, $1, 'the shop has (no) such order') from charge_attempt where request_id = 'o'",
    )
    .bind(outcome)
    .execute(&api.sql)
    .await
    .map(drop)
    .map_err(|error| error.to_string())
}

#[tokio::test]
async fn unresolved_charges_are_listed_with_the_minutes_since() {
    let api = Api::start().await;
    let subscription = unknown(&api).await;
    let doomed = api.environment_with("charge", &[("FAILPOINTS", "claimed=return(KILL)")]).await;
    let dead = api.subscription().await;
    assert!(doomed.try_call(&Call::charge(&dead, "p")).await.is_none());
    assert_eq!(api.ask::<i64>("select count(*) from unresolved_charges").await, 1, "in flight before its deadline");

    api.set_clock("statement_timestamp() + interval '10 minutes'").await;
    let listed: String = api
        .ask("select string_agg(concat_ws(' ', subscription_id, request_id, minutes), ',' order by request_id) from unresolved_charges")
        .await;
    assert_eq!(listed, format!("{subscription} o 10,{dead} p 9"));
    api.run("delete from subscription_status_history; delete from subscription").await;
    assert_eq!(api.ask::<i64>("select count(*) from unresolved_charges").await, 0, "an orphaned attempt needs nobody");
    resolve(&api, "charged").await.unwrap();
}

#[tokio::test]
async fn the_schedule_counts_the_unresolved_charges() {
    let api = Api::start().await;
    let function = api.environment("unresolved").await;
    for waiting in 0..2 {
        if waiting == 1 {
            unknown(&api).await;
        }
        assert_eq!(function.invoke_raw(scheduled(), Duration::from_secs(20)).await, Ok(json!(waiting)));
        // The metric is made of this line.
        let line = format!("\"unresolved_charges\":{waiting}");
        eventually("it is logged", async || function.log().contains(&line)).await;
    }
}

#[tokio::test]
async fn a_count_that_fails_fails_the_invocation_and_says_why_in_the_log_alone() {
    let api = Api::start().await;
    let function = api.environment("unresolved").await;
    api.run("drop function count_unresolved_charges").await;
    let error = function.invoke_raw(scheduled(), Duration::from_secs(20)).await.unwrap_err();
    assert!(error.contains("Something went wrong here.") && !error.contains("unresolved_charges"), "{error}");
    let logged = async || function.log().contains("function count_unresolved_charges() does not exist");
    eventually("the log says why", logged).await;
}

/// As EventBridge sends it.
fn scheduled() -> Value {
    json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-11-08T16:53:06Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/unresolved"],
        "detail": {}
    })
}

#[tokio::test]
async fn a_decision_is_recorded_and_opens_or_closes_the_month() {
    for (outcome, charged) in [("charged", true), ("rejected", false), ("not_sent", false)] {
        let api = Api::start().await;
        let subscription = unknown(&api).await;
        assert!(resolve(&api, "unknown").await.is_err());
        resolve(&api, outcome).await.unwrap();
        let kept: bool = api
            .ask(&format!(
                "select decided_by = session_user and decided_because like '%such order' and state = '{outcome}'
                    and decided_at between billing_now() - interval '1 minute' and billing_now()
                 from charge_attempt"
            ))
            .await;
        assert!(kept);
        assert!(resolve(&api, outcome).await.unwrap_err().contains("neither unknown nor in flight"), "once");

        let answer = api.charge(&subscription, "another").await;
        assert_eq!((answer.status, &answer.body["already_charged"]), (200, &json!(charged)), "{outcome}");
        assert_eq!(api.platform.received().len(), if charged { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_person_decides_only_about_unknown_outcomes() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.platform.behave_once(Behaviour { held: true, ..Behaviour::default() });
    let environment = api.environment("charge").await;
    let call = Call::charge(&subscription, "o");
    let (answer, ()) = tokio::join!(environment.call(&call), async {
        eventually("the order arrives", async || !api.platform.received().is_empty()).await;
        assert!(resolve(&api, "not_sent").await.unwrap_err().contains("neither unknown nor in flight"));
        assert_eq!(api.ledger().await[0].state, "in_flight");
        api.platform.release();
    });
    assert_eq!(answer.status, 200);
    assert!(resolve(&api, "not_sent").await.is_err(), "charged");
    let nobody = "select resolve_charge(gen_random_uuid(), 'charged', 'why')";
    assert!(sqlx::query(nobody).execute(&api.sql).await.is_err());
    let silent = "select resolve_charge(id, 'charged', ' ') from charge_attempt";
    assert!(sqlx::query(silent).execute(&api.sql).await.unwrap_err().to_string().contains("why"));
}

#[tokio::test]
async fn a_success_after_a_decision_holds_its_month() {
    for outcome in ["rejected", "not_sent"] {
        let api = Api::start().await;
        let subscription = api.subscription().await;
        let sleeper = sleeper(&api).await;
        let answer = api
            .charge_asleep(&sleeper, &subscription, "o", async || {
                api.set_clock("statement_timestamp() + interval '1 minute'").await;
                resolve(&api, outcome).await.unwrap();
            })
            .await;
        assert_eq!((answer.status, &answer.body["already_charged"]), (200, &json!(false)), "{outcome}");
        let kept: bool = api
            .ask(
                "select state = 'charged' and late_order_at is null and \"order\" is not null
                    and decided_by = session_user
                 from charge_attempt",
            )
            .await;
        assert!(kept, "{outcome}: the record says who decided");
        for request_id in ["o", "another"] {
            let again = api.charge(&subscription, request_id).await;
            assert_eq!((again.text("request_id"), &again.body["already_charged"]), ("o", &json!(true)), "{outcome}");
        }
        assert_eq!(api.platform.received().len(), 1);
        assert!(!sleeper.log().contains("ended otherwise"), "the customer is charged once");
    }
}

#[tokio::test]
async fn a_success_after_a_decision_and_another_charge_is_recorded_and_logged_as_an_error() {
    for request_id in ["o", "another"] {
        let api = Api::start().await;
        let subscription = api.subscription().await;
        let sleeper = sleeper(&api).await;
        let answer = api
            .charge_asleep(&sleeper, &subscription, "o", async || {
                api.set_clock("statement_timestamp() + interval '1 minute'").await;
                resolve(&api, "not_sent").await.unwrap();
                assert_eq!(api.charge(&subscription, request_id).await.status, 200);
            })
            .await;
        answer.refuses(504, "charge_outcome_unknown");
        let recorded: bool = api
            .ask(
                "select state = 'not_sent' and late_order_at is not null and \"order\" is not null
                 from charge_attempt where decided_by is not null",
            )
            .await;
        assert!(recorded);
        eventually("the error is logged", async || sleeper.log().contains("ended otherwise")).await;
        // The repeat that the answer asks for finds the month charged.
        let repeated = api.charge(&subscription, "o").await;
        assert_eq!((repeated.status, repeated.text("request_id")), (200, request_id));
    }
}

/// The other attempt ends without an order, by the platform's refusal or by a person, so the late order is the only one.
#[tokio::test]
async fn a_success_after_a_decision_holds_the_month_that_another_attempt_gives_back() {
    for refused in [true, false] {
        let api = Api::start().await;
        let subscription = unknown(&api).await;
        resolve(&api, "not_sent").await.unwrap();
        let settle = async |request_id: &str, outcome: &str| -> String {
            let call = format!(
                "select settle_charge(id, token, '{outcome}', null, null, null)::text
                 from charge_attempt where request_id = '{request_id}'"
            );
            api.ask(&call).await
        };
        claim_another(&api, &subscription).await;
        settle("o", "charged").await;
        if refused {
            settle("p", "rejected").await;
        } else {
            settle("p", "unknown").await;
            api.run(
                "select resolve_charge(id, 'rejected', 'no such order') from charge_attempt where request_id = 'p'",
            )
            .await;
        }
        let charge = api.charge(&subscription, "q").await;
        assert_eq!((charge.status, charge.text("request_id")), (200, "o"), "refused: {refused}");
        assert_eq!(charge.body["already_charged"], true);
    }
}

/// The late success and the other attempt's refusal are recorded at the same time. The second waits for the first.
#[tokio::test]
async fn a_success_after_a_decision_and_the_refusal_of_another_attempt_at_the_same_time_hold_the_month() {
    for late_is_first in [true, false] {
        let api = Api::start().await;
        let subscription = unknown(&api).await;
        resolve(&api, "not_sent").await.unwrap();
        claim_another(&api, &subscription).await;
        api.run("alter function settle_charge set lock_timeout = '20s'").await;
        let settle = |request_id: &str, outcome: &str| {
            format!(
                "select settle_charge(id, token, '{outcome}', null, null, null)::text
                 from charge_attempt where request_id = '{request_id}'"
            )
        };
        let (late, refused) = (settle("o", "charged"), settle("p", "rejected"));
        let (first, second) = if late_is_first { (late, refused) } else { (refused, late) };
        let mut transaction = api.sql.begin().await.unwrap();
        sqlx::query(AssertSqlSafe(first)).execute(&mut *transaction).await.unwrap();
        let (_, ()) = tokio::join!(api.ask::<String>(&second), async {
            somebody_waits(&api, "the second waits for the first").await;
            transaction.commit().await.unwrap();
        });
        let charge = api.charge(&subscription, "q").await;
        assert_eq!((charge.status, charge.text("request_id")), (200, "o"), "late first: {late_is_first}");
    }
}

/// Another charge takes the month while the success is being recorded: the unique index decides.
#[tokio::test]
async fn a_success_after_a_decision_and_a_claim_at_the_same_time_hold_the_month_once() {
    for (claim_commits, state) in [(true, "not_sent"), (false, "charged")] {
        let api = Api::start().await;
        let subscription = unknown(&api).await;
        resolve(&api, "not_sent").await.unwrap();
        let mut claim = api.sql.begin().await.unwrap();
        let claimed: String = sqlx::query_scalar(
            "select verdict from claim_charge($1, 'p', gen_random_uuid(), gen_random_uuid(), 'UTC', 19, true, null, 60)",
        )
        .bind(&subscription)
        .fetch_one(&mut *claim)
        .await
        .unwrap();
        assert_eq!(claimed, "claimed");
        api.run("alter function settle_charge set lock_timeout = '20s'").await;
        let settle = "select state from settle_charge(
                (select id from charge_attempt where request_id = 'o'), gen_random_uuid(), 'charged', 201::smallint, '{}', null
            )";
        let (settled, ()) = tokio::join!(api.ask::<String>(settle), async {
            somebody_waits(&api, "the settlement waits for the claim").await;
            if claim_commits { claim.commit().await.unwrap() } else { claim.rollback().await.unwrap() }
        });
        assert_eq!(settled, state);
        let late: bool = api.ask("select late_order_at is not null from charge_attempt where request_id = 'o'").await;
        assert_eq!(late, claim_commits);
    }
}

#[tokio::test]
async fn a_success_for_a_deleted_subscription_is_recorded_and_logged_as_an_error() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let sleeper = sleeper(&api).await;
    let answer = api
        .charge_asleep(&sleeper, &subscription, "o", async || {
            api.run("truncate subscription_status_history, subscription").await;
        })
        .await;
    assert_eq!(answer.status, 200, "money has moved");
    assert_eq!(api.ask::<String>("select state from charge_ledger where orphaned").await, "charged");
    eventually("the error is logged", async || sleeper.log().contains("was deleted")).await;
}

#[tokio::test]
async fn every_attempt_logs_its_state_once() {
    let api = Api::start().await;
    let environment = api.environment("charge").await;
    for (number, behaviour, outcome, level) in [
        ("a", Behaviour::default(), "charged", "INFO"),
        ("b", Behaviour::status(422), "rejected", "INFO"),
        ("c", Behaviour::status(429), "not_sent", "INFO"),
        ("d", Behaviour::status(500), "unknown", "INFO"),
    ] {
        let subscription = api.subscription().await;
        api.platform.behave_for(number, behaviour);
        environment.call(&Call::charge(&subscription, number)).await;
        let events = || -> Vec<serde_json::Value> {
            let log = environment.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.filter(|line| line["message"] == "charge settled" && line["charge.request_id"] == number).collect()
        };
        eventually("it is logged", async || !events().is_empty()).await;
        let events = events();
        assert_eq!(
            (events.len(), &events[0]["charge.state"], &events[0]["level"]),
            (1, &json!(outcome), &json!(level))
        );
        assert_eq!(environment.call(&Call::charge(&subscription, number)).await.status, 200);
    }
}
