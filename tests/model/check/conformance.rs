//! Executes what the model explored against the real functions, and compares everything.
//!
//! Each transition has its own subscription, request_ids and attempts, so thousands of them are in the database at the same
//! time. A statement that changes rows of another transition is found too.

use std::collections::BTreeMap;

use charge_model::{
    Transition, Variant, Verdict,
    database::{Attempt, ChargeState, Claim, Condition, Database, Token},
    protocol::Function,
};
use harness::Api;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

const BATCH: usize = 2000;
/// Seconds, like all times here, from the moment of the call.
const NEW_DEADLINE: i64 = 19;
const DEADLINE: i64 = 15;
const LONG_AGO: i64 = -1800;

const CLUBS: &str = "
    insert into club (id, name, store_sku) values (1, 'active', 22), (2, 'closed', 22), (3, 'inactive', 22), (4, 'active', null);
    insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
        select 'of-' || id, id, case id when 4 then 1 else id end, '2020-01-01', '2020-01-01' from club;
    create function try_to_resolve(attempt_id uuid, state text) returns text language plpgsql as $$
    begin
        return (resolve_charge(attempt_id, state, 'found out', 'somebody')).state;
    exception when check_violation then
        return null;
    end
    $$";

/// The differences between the model and the functions, of the first batch that has any.
pub async fn differences(api: &Api, transitions: impl IntoIterator<Item = Transition>) -> Vec<String> {
    api.run(CLUBS).await;
    let (now, later): (Vec<_>, Vec<_>) = transitions.into_iter().partition(|transition| transition.before.month == 0);
    for (moment, transitions) in [("2026-11-15T12:00Z", now), ("2026-12-15T12:00Z", later)] {
        api.set_clock(&format!("timestamptz '{moment}'")).await;
        for batch in transitions.chunks(BATCH) {
            let different = differences_in(api, batch).await;
            if !different.is_empty() {
                return different;
            }
        }
    }
    Vec::new()
}

async fn differences_in(api: &Api, transitions: &[Transition]) -> Vec<String> {
    let trials: Vec<Trial> =
        (1..).zip(transitions).map(|(number, transition)| Trial::new(number, *transition)).collect();
    api.run("truncate subscription_status_history, subscription, charge_attempt").await;
    let rows = |rows: &dyn Fn(&Trial) -> Vec<Value>| Value::Array(trials.iter().flat_map(rows).collect());
    execute(api, SUBSCRIPTIONS, rows(&|trial| trial.subscriptions())).await;
    execute(api, ENTRIES, rows(&|trial| trial.entries())).await;
    execute(api, ATTEMPTS, rows(&|trial| trial.attempts.clone())).await;
    execute(api, ORPHANS, rows(&|trial| trial.attempts.clone())).await;

    let mut answers = BTreeMap::new();
    for (function, call) in [("claim", CLAIM), ("settle", SETTLE), ("resolve", RESOLVE), ("delete", DELETE)] {
        let arguments = trials.iter().map(Trial::arguments).filter(|arguments| arguments["function"] == function);
        answers.extend(execute(api, call, arguments.collect()).await);
    }
    let mut ledger: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for (number, row) in execute(api, LEDGER, json!([])).await {
        ledger.entry(number).or_default().push(row);
    }

    let mut found = Vec::new();
    for trial in trials {
        let (expected_answer, expected_rows) = trial.expected();
        let mut rows = ledger.remove(&trial.number).unwrap_or_default();
        for (row, expected) in rows.iter_mut().zip(&expected_rows) {
            // A decision makes a token that no call has.
            if expected["token"].is_null() && row["token"] != trial.token && row["token"] != row["former_token"] {
                row["token"] = Value::Null;
            }
        }
        for row in &mut rows {
            row.as_object_mut().unwrap().remove("former_token");
        }
        let answer = &answers[&trial.number];
        if *answer != expected_answer || rows != expected_rows {
            found.push(format!(
                "{:?}\nthe model says {expected_answer} {expected_rows:#?}\nthe function says {answer} {rows:#?}",
                trial.transition
            ));
        }
    }
    found.extend(ledger.into_iter().map(|(number, rows)| format!("unexpected rows of transition {number} {rows:?}")));
    found
}

/// Rows of a number and a value.
async fn execute(api: &Api, statement: &str, rows: Value) -> Vec<(i64, Value)> {
    let found: Vec<(i64, String)> = sqlx::query_as(AssertSqlSafe(statement.to_owned()))
        .bind(rows.to_string())
        .fetch_all(&api.sql)
        .await
        .unwrap_or_else(|error| panic!("{error}: {statement}"));
    found.into_iter().map(|(number, value)| (number, serde_json::from_str(&value).unwrap())).collect()
}

const SUBSCRIPTIONS: &str = "
    insert into subscription (id, club_id, customer_store_id)
    select id, club_id, customer_store_id
    from jsonb_to_recordset($1::jsonb) as given(id text, club_id integer, customer_store_id text)
    returning 0::bigint, 'null'";

const ENTRIES: &str = "
    insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
    select subscription_id, subscription_id, status_id, '2026-01-01', '2026-01-01'
    from jsonb_to_recordset($1::jsonb) as given(subscription_id text, status_id integer)
    returning 0::bigint, 'null'";

const ORPHANS: &str = "
    insert into orphan_note
    select id from jsonb_to_recordset($1::jsonb) as given(id uuid, orphaned boolean) where orphaned
    returning 0::bigint, 'null'";

const ATTEMPTS: &str = r#"
    insert into charge_attempt (
        id, subscription_id, billing_month, request_id, customer_id, sku_id, state, possibly_sent, token,
        claimed_at, deadline, settled_at, upstream_status, "order", upstream_answer, late_order_at, orphaned_at
    )
    select id, subscription_id, billing_month, request_id, customer_id, sku_id, state, possibly_sent, token,
        billing_now() + make_interval(secs => claimed_at), billing_now() + make_interval(secs => deadline),
        billing_now() + make_interval(secs => settled_at), upstream_status, "order", upstream_answer,
        billing_now() + make_interval(secs => late_order_at), billing_now() + make_interval(secs => orphaned_at)
    from jsonb_to_recordset($1::jsonb) as given(
        id uuid, subscription_id text, billing_month date, request_id text, customer_id text, sku_id integer,
        state text, possibly_sent boolean, token uuid, claimed_at integer, deadline integer, settled_at integer,
        upstream_status smallint, "order" text, upstream_answer text, late_order_at integer, orphaned_at integer
    )
    returning 0::bigint, 'null'"#;

const CLAIM: &str = r#"
    select number, jsonb_build_object(
        'verdict', verdict, 'live_attempt_id', live_attempt_id, 'live_request_id', live_request_id,
        'billing_month', billing_month, 'customer_id', customer_id, 'sku_id', sku_id,
        'charged_at', extract(epoch from charged_at - billing_now())::integer,
        'order', "order", 'retry_after', retry_after
    )::text
    from jsonb_to_recordset($1::jsonb) as call(
        number bigint, subscription_id text, request_id text, attempt_id uuid, token uuid, may_call_out boolean,
        expected_month date
    ),
    lateral claim_charge(
        call.subscription_id, call.request_id, call.attempt_id, call.token, 'UTC', 19, call.may_call_out, call.expected_month,
        60
    )"#;

const SETTLE: &str = r#"
    select number, jsonb_build_object(
        'state', settled.state, 'own', own, 'billing_month', billing_month,
        'charged_at', extract(epoch from charged_at - billing_now())::integer, 'order', settled."order",
        'orphaned', orphaned
    )::text
    from jsonb_to_recordset($1::jsonb) as call(
        number bigint, attempt_id uuid, token uuid, state text, upstream_status smallint, "order" text,
        upstream_answer text
    ),
    lateral settle_charge(
        call.attempt_id, call.token, call.state, call.upstream_status, call."order", call.upstream_answer
    ) settled"#;

const RESOLVE: &str = "
    select number, to_jsonb(resolved)::text
    from jsonb_to_recordset($1::jsonb) as call(number bigint, attempt_id uuid, state text),
    lateral coalesce(try_to_resolve(call.attempt_id, call.state), 'refused') resolved";

const DELETE: &str = "
    with gone as (
        delete from subscription
        using jsonb_to_recordset($1::jsonb) as call(number bigint, subscription_id text)
        where id = call.subscription_id
        returning number
    )
    select number, to_jsonb('deleted'::text)::text from gone";

/// The ledger with its times in seconds from now. The number is part of every id.
const LEDGER: &str = r#"
    select split_part(id::text, '-', 5)::bigint, jsonb_build_object(
        'id', id, 'subscription_id', subscription_id, 'billing_month', billing_month, 'request_id', request_id,
        'customer_id', customer_id, 'sku_id', sku_id, 'state', attempt.state, 'stands', ledger.state,
        'possibly_sent', attempt.possibly_sent, 'token', attempt.token, 'former_token', overlay(id::text placing 'b' from 1),
        'claimed_at', extract(epoch from attempt.claimed_at - billing_now())::integer,
        'deadline', extract(epoch from attempt.deadline - billing_now())::integer,
        'settled_at', extract(epoch from attempt.settled_at - billing_now())::integer,
        'upstream_status', attempt.upstream_status, 'order', attempt."order",
        'upstream_answer', attempt.upstream_answer,
        'late_order_at', extract(epoch from attempt.late_order_at - billing_now())::integer,
        'orphaned', ledger.orphaned, 'orphaned_at', extract(epoch from attempt.orphaned_at - billing_now())::integer,
        'decided_by', attempt.decided_by, 'decided_because', attempt.decided_because,
        'decided_at', extract(epoch from attempt.decided_at - billing_now())::integer
    )::text
    from charge_attempt attempt
    join charge_ledger ledger using (
        id, subscription_id, billing_month, request_id, customer_id, sku_id
    )
    where $1::text is not null
    order by id"#;

/// A transition with names that only it uses.
struct Trial {
    number: i64,
    transition: Transition,
    /// The token of the call that is tried.
    token: String,
    attempts: Vec<Value>,
}

fn attempt_id(number: i64, place: u8) -> String {
    format!("a000000{place}-0000-4000-8000-{number:012}")
}

fn month(month: u8) -> &'static str {
    ["2026-11-01", "2026-12-01"][usize::from(month)]
}

impl Trial {
    fn new(number: i64, transition: Transition) -> Self {
        let mut trial =
            Self { number, transition, token: format!("c0000000-0000-4000-8000-{number:012}"), attempts: Vec::new() };
        trial.attempts = transition.before.attempts().map(|(id, attempt)| trial.row(id, attempt)).collect();
        trial
    }

    fn subscription(&self, subscription: u8) -> String {
        format!("s-{}-{subscription}", self.number)
    }

    fn request(&self, request: u8) -> String {
        format!("r-{}-{request}", self.number)
    }

    /// A row before the call. It sends another customer and sku than a new attempt would.
    fn row(&self, id: u8, attempt: &Attempt) -> Value {
        let in_flight = attempt.state == ChargeState::InFlight;
        let deadline = match (in_flight, attempt.past_deadline) {
            (true, false) => DEADLINE,
            (true, true) => -1,
            (false, _) => LONG_AGO,
        };
        let upstream_status = match attempt.state {
            ChargeState::InFlight | ChargeState::NotSent => None,
            ChargeState::Charged => Some(201),
            ChargeState::Rejected => Some(422),
            ChargeState::Unknown => Some(500),
        };
        let order = attempt.state == ChargeState::Charged && self.number % 2 == 0;
        let own = attempt.token == Token::Call(0);
        json!({
            "id": attempt_id(self.number, id),
            "subscription_id": self.subscription(attempt.subscription),
            "billing_month": month(attempt.month),
            "request_id": self.request(attempt.request),
            "customer_id": "stored",
            "sku_id": 11,
            "state": attempt.state.word(),
            "stands": if attempt.is_unknown() { "unknown" } else { attempt.state.word() },
            "possibly_sent": attempt.possibly_sent,
            "token": if own { self.token.clone() } else { attempt_id(self.number, id).replacen('a', "b", 1) },
            "claimed_at": -3600,
            "deadline": deadline,
            "settled_at": if in_flight { None } else { Some(self.settled_at()) },
            "upstream_status": upstream_status,
            "order": if order { Some("{\"stored\":1}") } else { None },
            "upstream_answer": (attempt.state == ChargeState::Rejected).then_some("\"stored\""),
            "late_order_at": if attempt.late_order { Some(-300) } else { None },
            "orphaned": attempt.orphaned,
            "orphaned_at": if attempt.released { Some(-60) } else { None },
            "decided_by": null,
            "decided_because": null,
            "decided_at": null,
        })
    }

    fn settled_at(&self) -> i64 {
        match self.transition.function {
            Function::Claim(Claim { long_ago: true, .. }) => -86_401,
            // A day to the second is not more than a day.
            Function::Claim(_) => -86_400,
            Function::Settle { .. } | Function::Resolve { .. } | Function::Delete { .. } => -1200,
        }
    }

    fn condition(&self) -> Condition {
        match self.transition.function {
            Function::Claim(claim) => claim.condition,
            Function::Settle { .. } | Function::Resolve { .. } | Function::Delete { .. } => Condition::Active,
        }
    }

    /// Rows for this condition. There are several ways to it, which take turns.
    fn subscriptions(&self) -> Vec<Value> {
        let (club, customer) = match (self.condition(), self.number % 3) {
            (Condition::Absent, _) => return Vec::new(),
            (Condition::Active, 0) => (2, Some("current")),
            (Condition::Cancelled, 0) => (3, Some("current")),
            (Condition::Active | Condition::Cancelled, _) => (1, Some("current")),
            (Condition::Nameless, 0) => (4, Some("current")),
            (Condition::Nameless, 1) => (1, None),
            (Condition::Nameless, _) => (1, Some("")),
        };
        vec![json!({ "id": self.subscription(0), "club_id": club, "customer_store_id": customer })]
    }

    fn entries(&self) -> Vec<Value> {
        // A subscription that the call deletes has no entries.
        if matches!(self.transition.function, Function::Delete { .. }) {
            return Vec::new();
        }
        let status = match (self.condition(), self.number % 3) {
            // A subscription without entries is active.
            (Condition::Absent, _) | (Condition::Active, 1) => return Vec::new(),
            (Condition::Cancelled, 1) => 2,
            (Condition::Cancelled, 2) => 3,
            (Condition::Active | Condition::Nameless | Condition::Cancelled, _) => 1,
        };
        vec![json!({ "subscription_id": self.subscription(0), "status_id": status })]
    }

    fn arguments(&self) -> Value {
        match self.transition.function {
            Function::Claim(Claim { may_call_out, expected_month, .. }) => json!({
                "function": "claim",
                "number": self.number,
                "subscription_id": self.subscription(0),
                "request_id": self.request(0),
                "attempt_id": attempt_id(self.number, 0),
                "token": self.token,
                "may_call_out": may_call_out,
                "expected_month": expected_month.map(month),
            }),
            Function::Settle { outcome, .. } => json!({
                "function": "settle",
                "number": self.number,
                "attempt_id": attempt_id(self.number, 0),
                "token": self.token,
                "state": outcome.word(),
                "upstream_status": status_of(outcome),
                "order": (outcome == ChargeState::Charged).then_some(NEW_ORDER),
                "upstream_answer": (outcome == ChargeState::Rejected).then_some(NEW_ANSWER),
            }),
            Function::Resolve { outcome, .. } => json!({
                "function": "resolve",
                "number": self.number,
                "attempt_id": attempt_id(self.number, 0),
                "state": outcome.word(),
            }),
            Function::Delete { .. } => json!({
                "function": "delete",
                "number": self.number,
                "subscription_id": self.subscription(0),
            }),
        }
    }

    /// The model's word: the answer, and the ledger.
    fn expected(&self) -> (Value, Vec<Value>) {
        let before = self.transition.before;
        let mut after = before;
        match self.transition.function {
            Function::Claim(claim) => {
                let claimed = after.claim(claim, Variant::AsItIs);
                let rows = self.rows_after(&after, |row, now, then| match then {
                    None => {
                        row["customer_id"] = json!("current");
                        row["sku_id"] = json!(22);
                        row["claimed_at"] = json!(0);
                        row["deadline"] = json!(NEW_DEADLINE);
                    }
                    Some(then) if now.released != then.released => row["orphaned_at"] = json!(0),
                    Some(_) => {
                        row["deadline"] = json!(NEW_DEADLINE);
                        row["settled_at"] = Value::Null;
                    }
                });
                let live = claimed.live.map(|live| json!(attempt_id(self.number, live)));
                let row = live.and_then(|live| rows.iter().find(|row| row["id"] == live)).unwrap_or(&Value::Null);
                // An order would name these.
                let named = match (row, self.subscriptions().first()) {
                    (Value::Null, Some(subscription)) => json!({
                        "customer_id": subscription["customer_store_id"].as_str().filter(|id| !id.is_empty()),
                        "sku_id": (subscription["club_id"] != 4).then_some(22),
                    }),
                    _ => row.clone(),
                };
                let answer = json!({
                    "verdict": claimed.verdict.word(),
                    "live_attempt_id": row["id"],
                    "live_request_id": row["request_id"],
                    "billing_month": claimed.month.map(month),
                    "customer_id": named["customer_id"],
                    "sku_id": named["sku_id"],
                    "charged_at": row["settled_at"],
                    "order": row["order"],
                    "retry_after": row["deadline"].as_i64().unwrap_or(1).max(1),
                });
                assert!(claimed.verdict != Verdict::Claimed || row["token"] == self.token.as_str());
                (answer, rows)
            }
            Function::Settle { outcome, .. } => {
                let settled = after.settle(0, 0, outcome, Variant::AsItIs);
                let then = *before.attempt(0);
                let mut rows = self.rows_after(&after, holds_late);
                let row = &mut rows[0];
                if outcome == ChargeState::Charged {
                    match (then.state, settled.state) {
                        (ChargeState::Charged, _) => {}
                        (_, ChargeState::Charged) => {
                            row["settled_at"] = json!(0);
                            row["upstream_status"] = json!(status_of(outcome));
                            row["upstream_answer"] = Value::Null;
                        }
                        _ => {
                            row["upstream_status"] = json!(status_of(outcome));
                            if !then.late_order {
                                row["late_order_at"] = json!(0);
                            }
                        }
                    }
                    if row["order"].is_null() {
                        row["order"] = json!(NEW_ORDER);
                    }
                } else if then.state == ChargeState::InFlight && then.token == Token::Call(0) {
                    row["settled_at"] = json!(0);
                    row["upstream_status"] = json!(status_of(outcome));
                    row["upstream_answer"] = json!((outcome == ChargeState::Rejected).then_some(NEW_ANSWER));
                }
                let answer = json!({
                    "state": settled.state.word(),
                    "own": settled.own,
                    "billing_month": month(settled.month),
                    "charged_at": row["settled_at"],
                    "order": row["order"],
                    "orphaned": settled.orphaned,
                });
                (answer, rows)
            }
            Function::Resolve { outcome, .. } => {
                let resolved = after.resolve(0, outcome, Variant::AsItIs);
                let mut rows = self.rows_after(&after, holds_late);
                if resolved {
                    rows[0]["token"] = Value::Null;
                    rows[0]["settled_at"] = json!(0);
                    rows[0]["decided_at"] = json!(0);
                    rows[0]["decided_by"] = json!("somebody");
                    rows[0]["decided_because"] = json!("found out");
                }
                (json!(if resolved { outcome.word() } else { "refused" }), rows)
            }
            Function::Delete { .. } => {
                after.delete(0);
                (json!("deleted"), self.rows_after(&after, |_, _, _| {}))
            }
        }
    }

    /// The rows after the call, as the model has them. Where the model's row changed, `change` adds what the model lacks.
    fn rows_after(&self, after: &Database, change: impl Fn(&mut Value, &Attempt, Option<&Attempt>)) -> Vec<Value> {
        let before = &self.transition.before;
        after
            .attempts()
            .map(|(id, now)| {
                let then = before.attempts[usize::from(id)].as_ref();
                // The row before, with the columns that the model has as they are now.
                let mut row = self.row(id, then.unwrap_or(now));
                let told = self.row(id, now);
                for column in ["state", "stands", "possibly_sent", "token", "orphaned"] {
                    row[column] = told[column].clone();
                }
                if then != Some(now) {
                    change(&mut row, now, then);
                }
                row
            })
            .collect()
    }
}

/// The success of this row came late. It holds the month from now on.
fn holds_late(row: &mut Value, now: &Attempt, then: Option<&Attempt>) {
    if now.state == ChargeState::Charged && then.is_some_and(|then| then.late_order && !then.is_live()) {
        row["settled_at"] = row["late_order_at"].clone();
        row["upstream_answer"] = Value::Null;
    }
}

const NEW_ORDER: &str = "{\"new\":1}";
const NEW_ANSWER: &str = "\"new\"";

fn status_of(outcome: ChargeState) -> Option<u16> {
    match outcome {
        ChargeState::Charged => Some(202),
        ChargeState::Rejected => Some(404),
        ChargeState::Unknown => Some(503),
        ChargeState::NotSent | ChargeState::InFlight => None,
    }
}
