//! Random calls over several months, each compared with a small model of the contract.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Utc};
use ecommerce_stub::{Answer as Reply, Behaviour};
use harness::{Answer, Api, Call, checker, random, report};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

const HISTORIES: u32 = 12;
const CLUBS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// The platform answers with this status.
    Status(u16),
    TakenAndReset,
    KilledAt(&'static str),
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        club: usize,
        customer: u8,
    },
    Club {
        club: usize,
        status: i32,
    },
    Status {
        subscription: Index,
        status: i32,
        from_hours: Option<i64>,
        interval: Option<i64>,
    },
    Charge {
        subscription: Index,
        number: u8,
        fault: Fault,
    },
    Wait {
        hours: i64,
    },
    /// By hand. `again` also inserts the subscription by hand, without a history.
    Delete {
        subscription: Index,
        again: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Status(422)),
        1 => Just(Fault::Status(429)),
        2 => Just(Fault::Status(500)),
        2 => Just(Fault::TakenAndReset),
        1 => Just(Fault::KilledAt("claimed")),
        1 => Just(Fault::KilledAt("answered")),
    ];
    prop_oneof![
        4 => (0..CLUBS, 0..4_u8).prop_map(|(club, customer)| Step::Subscribe { club, customer }),
        1 => (0..CLUBS, 1..=3).prop_map(|(club, status)| Step::Club { club, status }),
        4 => (any::<Index>(), 1..=3, option::of(-100..400_i64), option::of(1..40_i64))
            .prop_map(|(subscription, status, from_hours, interval)| Step::Status { subscription, status, from_hours, interval }),
        10 => (any::<Index>(), 0..5_u8, fault)
            .prop_map(|(subscription, number, fault)| Step::Charge { subscription, number, fault }),
        3 => (0..500_i64).prop_map(|hours| Step::Wait { hours }),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(subscription, again)| Step::Delete { subscription, again }),
    ]
}

type Moment = DateTime<Utc>;

#[derive(Clone)]
struct Entry {
    effect: Moment,
    created: Moment,
    status: i32,
    is_return: bool,
}

/// Of a subscription, in the order of the definition.
async fn entries(api: &Api, subscription: &str) -> Vec<Entry> {
    let rows = "
        select effect_date, create_date, status_id, coalesce(details = 'Automatic return schedule', false)
        from subscription_status_history where subscription_id = $1
        order by effect_date, create_date, id collate \"C\"";
    let rows: Vec<(NaiveDateTime, NaiveDateTime, i32, bool)> =
        sqlx::query_as(rows).bind(subscription).fetch_all(&api.sql).await.unwrap();
    rows.into_iter()
        .map(|(effect, created, status, is_return)| Entry {
            effect: effect.and_utc(),
            created: created.and_utc(),
            status,
            is_return,
        })
        .collect()
}

struct Subscription {
    id: String,
    club: usize,
    customer: u8,
    history: Vec<Entry>,
}

/// The definition of current status, word by word.
fn current_status(history: &[Entry], now: Moment) -> Option<i32> {
    let mut in_effect: Vec<_> = history.iter().filter(|entry| entry.effect <= now).collect();
    // Entries of one moment stay in the order of their ids.
    in_effect.sort_by_key(|entry| (entry.effect, entry.created));
    let void = |place: usize| {
        let entry = in_effect[place];
        let before: Vec<_> = in_effect[..place].iter().filter(|earlier| !earlier.is_return).collect();
        let recorded_after = |earlier: &&&&Entry| earlier.created > entry.created;
        entry.is_return
            && (before.last().is_some_and(|latest| latest.created > entry.created || latest.status == 2)
                || before.iter().rfind(recorded_after).is_some_and(|latest| latest.status == 2))
    };
    (0..in_effect.len()).rfind(|place| !void(*place)).map(|place| in_effect[place].status)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    InFlightUntil(Moment),
    Charged(Moment),
    Closed,
    Unknown,
}

struct Attempt {
    subscription: String,
    month: (i32, u32),
    number: String,
    state: State,
    possibly_sent: bool,
}

struct Model {
    now: Moment,
    clubs: Vec<i32>,
    subscriptions: Vec<Subscription>,
    /// Without those of deleted subscriptions.
    attempts: Vec<Attempt>,
    deletions: usize,
}

/// A charge's answer: none if the process dies.
type Expected = Option<(u64, &'static str)>;

impl Model {
    fn serves(&self, subscription: &Subscription) -> bool {
        let active = current_status(&subscription.history, self.now);
        (subscription.history.is_empty() || active == Some(1)) && self.clubs[subscription.club] != 3
    }

    fn eligible(&self) -> Vec<String> {
        let active = |subscription: &&Subscription| {
            current_status(&subscription.history, self.now) == Some(1) && self.clubs[subscription.club] != 3
        };
        let mut ids: Vec<_> = self.subscriptions.iter().filter(active).map(|found| found.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The rows of the contract's table, in order.
    fn charge(&mut self, subscription: usize, number: &str, fault: Fault) -> Expected {
        let now = self.now;
        let this_month = (now.year(), now.month());
        let serves = self.serves(&self.subscriptions[subscription]);
        let id = self.subscriptions[subscription].id.clone();
        let is_live = |attempt: &Attempt| attempt.state != State::Closed;

        let used: Vec<_> = self.attempts.iter().filter(|attempt| attempt.number == number).collect();
        if used.iter().any(|attempt| attempt.subscription != id) {
            return Some((422, "request_id_reused"));
        }
        let month = used.first().map_or(this_month, |attempt| attempt.month);
        if !used.is_empty() && !used.iter().any(|attempt| is_live(attempt)) && month < this_month {
            return Some((422, "request_id_reused"));
        }
        let of_month = |attempt: &Attempt| attempt.subscription == id && attempt.month == month && is_live(attempt);
        let live = self.attempts.iter().position(of_month);
        if let Some(attempt) = live.map(|place| &self.attempts[place]) {
            match attempt.state {
                State::Charged(at) if month < this_month && now - at > TimeDelta::days(1) => {
                    return Some((422, "request_id_reused"));
                }
                State::Charged(_) => return Some((200, "already")),
                // The time runs from before the claim, so the deadline comes a little earlier.
                State::InFlightUntil(deadline) if now < deadline => return Some((409, "charge_in_progress")),
                State::InFlightUntil(_) | State::Unknown if attempt.number != number || !serves => {
                    return Some((409, "charge_outcome_unknown"));
                }
                State::InFlightUntil(_) | State::Unknown | State::Closed => {}
            }
        } else if !serves {
            return Some((409, "not_chargeable"));
        }
        let place = live.unwrap_or_else(|| {
            let number = number.to_owned();
            self.attempts.push(Attempt { subscription: id, month, number, state: State::Closed, possibly_sent: false });
            self.attempts.len() - 1
        });
        let attempt = &mut self.attempts[place];
        attempt.possibly_sent = live.is_some();
        let (state, answer) = match fault {
            Fault::None => (State::Charged(now), Some((200, "charged"))),
            Fault::Status(_) | Fault::TakenAndReset if attempt.possibly_sent => {
                (State::Unknown, Some((504, "charge_outcome_unknown")))
            }
            Fault::Status(422) => (State::Closed, Some((502, "order_rejected"))),
            Fault::Status(429) => (State::Closed, Some((503, "ecommerce_unavailable"))),
            Fault::Status(_) | Fault::TakenAndReset => (State::Unknown, Some((504, "charge_outcome_unknown"))),
            Fault::KilledAt(_) => (State::InFlightUntil(now + TimeDelta::seconds(14)), None),
        };
        attempt.state = state;
        answer
    }
}

fn summary(answer: &Answer) -> (u64, &str) {
    match (answer.status, &answer.body["already_charged"]) {
        (200, already) if *already == json!(true) => (200, "already"),
        (200, _) => (200, "charged"),
        (status, _) => (status, answer.text("code")),
    }
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "10000"), ("RUST_LOG", "error")]).await;
    let mut model = Model {
        now: "2027-11-20T12:00:00Z".parse().unwrap(),
        clubs: vec![1; CLUBS],
        subscriptions: Vec::new(),
        attempts: Vec::new(),
        deletions: 0,
    };
    for club in 1..=CLUBS {
        api.run(&format!(
            "insert into club values ({club}, 'club', {club});
             insert into club_status_history values ('of-{club}', {club}, 1, '2020-01-01', '2020-01-01')"
        ))
        .await;
    }
    for step in steps {
        model.now += TimeDelta::seconds(1);
        if let Step::Wait { hours } = step {
            model.now += TimeDelta::hours(hours);
        }
        api.set_clock(&format!("'{}'::timestamptz", model.now.to_rfc3339())).await;
        let chosen = |index: &Index| (!model.subscriptions.is_empty()).then(|| index.index(model.subscriptions.len()));
        match &step {
            Step::Wait { .. } => {}
            Step::Subscribe { club, customer } => {
                let answer = api.subscribe(*club as i32 + 1, &format!("customer-{customer}")).await;
                let taken = model.subscriptions.iter().any(|s| (s.club, s.customer) == (*club, *customer));
                let expected = match (model.clubs[*club], taken) {
                    (1, false) => (201, ""),
                    (1, true) => (409, "already_subscribed"),
                    _ => (409, "club_not_active"),
                };
                prop_assert_eq!((answer.status, answer.text("code")), expected);
                if answer.status == 201 {
                    let (id, now) = (answer.text("id").to_owned(), model.now);
                    let history = vec![Entry { effect: now, created: now, status: 1, is_return: false }];
                    model.subscriptions.push(Subscription { id, club: *club, customer: *customer, history });
                }
            }
            Step::Club { club, status } => {
                api.club_status(*club as i32 + 1, *status).await;
                model.clubs[*club] = *status;
            }
            Step::Status { subscription, status, from_hours, interval } => {
                let Some(place) = chosen(subscription) else { continue };
                let found = &mut model.subscriptions[place];
                let effect = from_hours.map(|hours| model.now + TimeDelta::hours(hours));
                let body =
                    json!({ "status_id": status, "effect_date": effect.map(|e| e.to_rfc3339()), "interval": interval });
                prop_assert_eq!(api.status(&found.id, body).await.status, 200);
                // With the corrections that the change needed; random_changes.rs judges them.
                found.history = entries(&api, &found.id).await;
            }
            Step::Charge { subscription, number, fault } => {
                let Some(place) = chosen(subscription) else { continue };
                let number = format!("n-{}-{number}", model.deletions);
                let answer = match fault {
                    Fault::None | Fault::KilledAt(_) => Reply::Order,
                    Fault::Status(status) => {
                        Reply::Status { status: *status, headers: Default::default(), body: String::new() }
                    }
                    Fault::TakenAndReset => Reply::ResetAfterReading { take: true },
                };
                api.platform.behave(Behaviour { answer, ..Behaviour::default() });
                let id = model.subscriptions[place].id.clone();
                let answer = match fault {
                    Fault::KilledAt(failpoint) => {
                        let failpoints = format!("{failpoint}=return(KILL)");
                        let doomed = api.environment_with("charge", &[("FAILPOINTS", &failpoints)]).await;
                        doomed.try_call(&Call::charge(&id, &number)).await
                    }
                    _ => Some(api.charge(&id, &number).await),
                };
                let expected = model.charge(place, &number, *fault);
                prop_assert_eq!(answer.as_ref().map(summary), expected, "{:?} at {}", step, model.now);
            }
            Step::Delete { subscription, again } => {
                let Some(place) = chosen(subscription) else { continue };
                let mut gone = model.subscriptions.remove(place);
                api.run(&format!(
                    "delete from subscription_status_history where subscription_id = '{0}'; delete from subscription where id = '{0}'",
                    gone.id
                ))
                .await;
                model.attempts.retain(|attempt| attempt.subscription != gone.id);
                model.deletions += 1;
                if *again {
                    let (id, club, customer) = (&gone.id, gone.club + 1, gone.customer);
                    api.run(&format!("insert into subscription values ('{id}', {club}, 'customer-{customer}')")).await;
                    gone.history.clear();
                    model.subscriptions.push(gone);
                }
            }
        }
        prop_assert_eq!(api.eligible().await, model.eligible(), "after {:?} at {}", step, model.now);
    }
    api.set_clock(&format!("'{}'::timestamptz", (model.now + TimeDelta::days(1)).to_rfc3339())).await;
    let found = checker::violations(&api.platform.received(), &api.ledger().await);
    prop_assert!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn random_charges_are_answered_as_the_contract_says() {
    let (seed, random) = random("random charges");
    let config = Config { cases: HISTORIES, failure_persistence: None, max_shrink_iters: 150, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, random);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let steps = std::cell::Cell::new(0);
    let result = runner.run(&vec(step(), 30..70), |history| {
        steps.set(steps.get() + history.len());
        runtime.block_on(play(history))
    });
    report(&format!("random charges: {} steps", steps.get()));
    if let Err(failure) = result {
        panic!("SEED={seed} {failure}");
    }
}
