//! Explores the charge protocol, and executes what was explored against the real functions.
//!
//! The bounds are in the description of `charge_model`; docs/charging.md shows how to read a counterexample.

// A failed unwrap is a failed test, in a helper as well.
#![allow(clippy::unwrap_used)]

mod conformance;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Instant,
};

use charge_model::{
    Bounds, Claims, Counterexample, Explored, Rules, Sending, Transition, Variant, Verdict,
    database::ChargeState,
    explore,
    protocol::{FOR_GOOD, Function, LATE_HOLDS, ONE_ORDER, ONE_OWNER, RECORDED},
    shortest_counterexample,
};
use harness::{Api, eventually, report};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const BOUNDS: [Bounds; 4] = [
    Bounds { subscriptions: 1, calls: 2, disturbances: 2 },
    Bounds { subscriptions: 1, calls: 3, disturbances: 1 },
    Bounds { subscriptions: 2, calls: 2, disturbances: 2 },
    Bounds { subscriptions: 2, calls: 3, disturbances: 1 },
];
/// Enough to find each way in which the protocol can be broken.
const SMALL: Bounds = Bounds { subscriptions: 1, calls: 3, disturbances: 0 };

static EXPLORED: LazyLock<Vec<Explored>> =
    LazyLock::new(|| BOUNDS.into_iter().map(|bounds| explore(Rules::new(bounds))).collect());
/// Here a decision can be untrue, so a success can come after it.
static WITH_STOPS: LazyLock<Explored> = LazyLock::new(|| explore(STOPPING));
const STOPPING: Rules = Rules { sending: Sending::MayStop, ..Rules::new(SMALL) };

fn print(what: &str, counterexample: &Counterexample) {
    report(&format!("{what}: violates \"{}\" in {} steps", counterexample.property, counterexample.steps.len()));
    for (place, (step, ledger)) in (1..).zip(&counterexample.steps) {
        report(&format!("  {place}. {step}\n       {ledger}"));
    }
}

#[track_caller]
fn assert_holds(what: &str, explored: &Explored) {
    for counterexample in &explored.violated {
        print(what, counterexample);
    }
    assert!(explored.violated.is_empty(), "{what} does not hold");
}

#[test]
fn the_protocol_holds_in_every_order_of_its_steps() {
    let mut verdicts = BTreeSet::new();
    for (bounds, explored) in BOUNDS.iter().zip(&*EXPLORED) {
        report(&format!(
            "model: {} subscriptions, {} calls, {} disturbances: {} states, {} steps, {} deep, {} properties hold, {:.1?}",
            bounds.subscriptions,
            bounds.calls,
            bounds.disturbances,
            explored.states,
            explored.steps,
            explored.depth,
            explored.holds.len(),
            explored.time
        ));
        assert_holds("the protocol", explored);
        assert_eq!(explored.unreached, Vec::<&str>::new());
        verdicts.extend(&explored.verdicts);
    }
    for property in &EXPLORED[0].holds {
        report(&format!("model: always: {property}"));
    }
    assert_eq!(verdicts, BTreeSet::from(Verdict::ALL), "a verdict is never reached");
}

#[test]
fn only_a_decision_during_a_stop_before_the_sending_makes_a_second_order() {
    let known = shortest_counterexample(STOPPING, ONE_ORDER).expect("the known exception");
    print("a stop between the last look at the clock and the sending", &known);
    assert!(known.steps.iter().any(|(step, _)| step.contains("a person decides")));

    assert_holds("a stop without a decision", &explore(Rules { decisions: false, ..STOPPING }));
}

#[test]
fn a_success_after_a_decision_holds_its_month() {
    report(&format!("model: with stops and decisions: {} states, {:.1?}", WITH_STOPS.states, WITH_STOPS.time));
    for property in [LATE_HOLDS, FOR_GOOD, ONE_OWNER, RECORDED] {
        assert!(WITH_STOPS.holds.contains(&property), "{property}");
    }
    for (variant, what) in [
        (Variant::ForgottenLateOrder, "a success after a decision that is only noted"),
        (
            Variant::LateOrderNeverHolds,
            "a success after a decision that does not hold the month that another gives back",
        ),
    ] {
        let found = shortest_counterexample(Rules { variant, ..STOPPING }, LATE_HOLDS);
        print(what, &found.expect("a success that holds nothing"));
    }
}

#[test]
fn a_take_over_that_tests_the_row_that_it_updates_is_safe_and_one_that_does_not_is_not() {
    let in_two_steps = |variant| Rules { claims: Claims::InTwoSteps, variant, ..Rules::new(SMALL) };
    let tested = explore(in_two_steps(Variant::AsItIs));
    report(&format!("model: with take-overs in two steps: {} states, {:.1?}", tested.states, tested.time));
    assert_holds("a take-over in two steps", &tested);
    let found = shortest_counterexample(in_two_steps(Variant::UntestedTakeOver), FOR_GOOD);
    print("a take-over that does not test the row that it updates", &found.expect("a charge that is forgotten"));
}

#[test]
fn every_broken_protocol_is_caught() {
    for (variant, what, property) in [
        (Variant::UnfencedSettle, "a settlement without its fence", ONE_ORDER),
        (Variant::ClaimAfterCallOut, "a claim after the call-out", RECORDED),
        (Variant::RepeatReopens, "a repeat that opens the month", ONE_ORDER),
        (Variant::RefusalEndsARepeat, "a refusal after a possible sending, recorded as rejected", ONE_ORDER),
        (Variant::ForgetfulTakeOver, "a take-over that forgets a possible sending", ONE_ORDER),
        (Variant::SecondRequestWhileUnknown, "a second request_id while one is unknown", ONE_ORDER),
        (Variant::MonthOfTheCall, "the month of the call in place of the first use", ONE_OWNER),
    ] {
        let found = shortest_counterexample(Rules { variant, ..Rules::new(SMALL) }, property);
        print(what, &found.unwrap_or_else(|| panic!("{what} is not caught")));
    }
}

/// Everything that the model asks of the database, and decisions that are refused.
fn transitions() -> BTreeSet<Transition> {
    let explored = EXPLORED.iter().chain([&*WITH_STOPS]);
    let mut all: BTreeSet<Transition> = explored.flat_map(|explored| &explored.transitions).copied().collect();
    let settled: Vec<_> = all
        .iter()
        .filter(|it| matches!(it.function, Function::Settle { .. } | Function::Resolve { .. }))
        .copied()
        .collect();
    for transition in settled {
        for outcome in [ChargeState::Charged, ChargeState::Rejected, ChargeState::NotSent] {
            all.insert(Transition { function: Function::Resolve { attempt: 0, outcome }, ..transition }.renamed());
        }
    }
    all
}

#[tokio::test]
async fn the_real_functions_do_what_the_model_says() {
    let api = Api::start().await;
    let transitions = transitions();
    let mut of_each: BTreeMap<&str, usize> = BTreeMap::new();
    for transition in &transitions {
        *of_each.entry(name(transition.function)).or_default() += 1;
    }
    let (count, began) = (transitions.len(), Instant::now());
    let different = conformance::differences(&api, transitions).await;
    report(&format!(
        "conformance: {count} transitions {of_each:?} executed in {:.1?}, {} differences",
        began.elapsed(),
        different.len()
    ));
    assert!(different.is_empty(), "{}", different[0]);
}

fn name(function: Function) -> &'static str {
    match function {
        Function::Claim(_) => "claim_charge",
        Function::Settle { .. } => "settle_charge",
        Function::Resolve { .. } => "resolve_charge",
        Function::Delete { .. } => "delete",
    }
}

/// Replaces parts of a function. Where the function changes, the parts change here.
async fn break_function(api: &Api, function: &str, parts: &[(&str, &str)]) {
    let mut source: String = api.ask(&format!("select pg_get_functiondef('{function}'::regproc)")).await;
    for (part, by) in parts {
        assert!(source.contains(part), "{part}\nis not in migrations/sql/{function}.sql: correct it in {}", file!());
        source = source.replace(part, by);
    }
    api.run(&source).await;
}

const UNTESTED: (&str, &str) =
    ("and (attempt.state = 'unknown' or attempt.state = 'in_flight' and is_past_deadline(claimed_at, deadline))", "");

#[tokio::test]
async fn every_broken_function_is_caught() {
    let transitions = transitions();
    for (what, function, parts, also) in [
        (
            "a settlement without its fence",
            "settle_charge",
            &[
                (
                    "and attempt.state = 'in_flight' and attempt.token = settle_charge.token",
                    "and attempt.state = 'in_flight'",
                ),
                ("and (possibly_sent or is_past_deadline(claimed_at, deadline))", "and false"),
            ][..],
            "",
        ),
        (
            "a repeat that opens the month",
            "settle_charge",
            &[("(possibly_sent or is_past_deadline(claimed_at, deadline))", "is_past_deadline(claimed_at, deadline)")],
            "",
        ),
        (
            "a refusal after a possible sending, recorded as rejected",
            "settle_charge",
            &[(
                "(possibly_sent or is_past_deadline(claimed_at, deadline))",
                "(possibly_sent and settle_charge.state = 'not_sent' or is_past_deadline(claimed_at, deadline))",
            )],
            "",
        ),
        (
            "a take-over that forgets a possible sending",
            "claim_charge",
            &[("possibly_sent = true", "possibly_sent = false")],
            "",
        ),
        (
            "a second request_id while one is unknown",
            "claim_charge",
            &[(
                "and live.live and",
                "and (live.state <> 'unknown' or live.request_id = claim_charge.request_id) and live.live and",
            )],
            "drop index charge_attempt_once_a_month",
        ),
        (
            "the month of the call in place of the first use",
            "claim_charge",
            &[("coalesce(used.own_month, this_month)", "this_month")],
            "",
        ),
        (
            "a month that the caller did not mean",
            "claim_charge",
            &[("facts.month <> expected_month", "this_month <> expected_month")],
            "",
        ),
        (
            "a charge that is answered in any later month",
            "claim_charge",
            &[("and facts.settled_at < moment - interval '1 day'", "and false")],
            "",
        ),
        ("a charge that is answered on its day only", "claim_charge", &[("and expected_month is null\n", "\n")], ""),
        (
            "a success after a decision that is only noted",
            "settle_charge",
            &[("set state = 'charged',", "set state = case when live then 'charged' else attempt.state end,")],
            "",
        ),
        (
            "a success after a decision that does not hold the month that another gives back",
            "settle_charge",
            &[("perform hold_by_late_order(settled)", "perform null")],
            "",
        ),
    ] {
        let api = Api::start().await;
        break_function(&api, function, parts).await;
        api.run(also).await;
        let of_function = transitions.iter().filter(|transition| name(transition.function) == function);
        let different = conformance::differences(&api, of_function.copied()).await;
        assert!(!different.is_empty(), "{what} is not caught");
        report(&format!("conformance: {what}: caught by {} transitions", different.len()));
    }
}

/// A success is recorded between a repeat's second look and its update. The verdict of the repeat, and the recorded state.
async fn repeat_during_a_settlement(api: &Api) -> (String, String) {
    const ATTEMPT: &str = "a0000000-0000-4000-8000-000000000001";
    const SLOW: &str = "c0000000-0000-4000-8000-000000000001";
    const REPEAT: &str = "c0000000-0000-4000-8000-000000000002";
    api.run(&format!(
        "alter function claim_charge set lock_timeout = '20s';
         insert into club (id, store_sku) values (1, 1);
         insert into subscription (id, club_id, customer_store_id) values ('s', 1, 'c');
         insert into charge_attempt (
             id, subscription_id, billing_month, request_id, customer_id, sku_id, state, token, claimed_at,
             deadline, settled_at
         )
         values ('{ATTEMPT}', 's', date_trunc('month', billing_now() at time zone 'UTC'), 'a', 'c', 1, 'unknown', '{SLOW}',
             billing_now(), billing_now(), billing_now())"
    ))
    .await;
    let mut slow = PgConnection::connect(api.database_url.as_str()).await.unwrap();
    slow.execute("begin").await.unwrap();
    slow.execute(AssertSqlSafe(format!(
        "select settle_charge('{ATTEMPT}', '{SLOW}', 'charged', 201::smallint, null, null)"
    )))
    .await
    .unwrap();
    let claim =
        format!("select verdict from claim_charge('s', 'a', gen_random_uuid(), '{REPEAT}', 'UTC', 19, true, null, 60)");
    let commit = async {
        eventually("the repeat waits for the attempt's row", async || {
            let waiting = "select count(*) from pg_locks join pg_stat_activity using (pid)
                where not granted and datname = current_database()";
            api.ask::<i64>(waiting).await > 0
        })
        .await;
        slow.execute("commit").await.unwrap();
    };
    let (verdict, ()) = tokio::join!(api.ask(&claim), commit);
    (verdict, api.ask("select state from charge_attempt").await)
}

#[tokio::test]
async fn a_real_take_over_tests_the_row_that_it_updates() {
    let expected = |verdict: &str, state: &str| (verdict.to_owned(), state.to_owned());
    let api = Api::start().await;
    assert_eq!(repeat_during_a_settlement(&api).await, expected("already_charged", "charged"));

    let api = Api::start().await;
    break_function(&api, "claim_charge", &[UNTESTED]).await;
    assert_eq!(repeat_during_a_settlement(&api).await, expected("claimed", "in_flight"));
    report("conformance: a take-over that does not test the row that it updates: caught by two sessions");
}
