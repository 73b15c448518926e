//! The calls that all environments make at the same time, and the effects that they must have.

use std::{
    collections::{BTreeMap, HashSet},
    iter::repeat_n,
    sync::Mutex,
    time::Duration,
};

use bench::{Samples, invoke};
use ecommerce_stub::Platform;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use harness::{Answer, Call, Environment};
use serde_json::json;
use sqlx::PgConnection;
use tokio::sync::watch;
use uuid::Uuid;

use crate::sessions::connect;

pub const FUNCTIONS: [&str; 4] = ["subscribe", "status", "eligible", "charge"];
/// The environments that subscribe the same customer, or charge the same subscription, at the same moment.
const CALLERS: usize = 3;
/// The customers or subscriptions that each of those groups meets, and the statuses that an environment records.
const ROUNDS: usize = 10;
/// The times that an environment reads the whole list.
const WALKS: usize = 2;
const PAGE: usize = 200;
/// The last of the three statuses.
const PAUSE: usize = 3;

/// The results of the calls.
#[derive(Default)]
pub struct Record {
    progress: watch::Sender<Progress>,
    times: Mutex<BTreeMap<&'static str, Samples>>,
    /// Answers that ask the caller to repeat the call, by their number.
    repeats: Mutex<BTreeMap<String, usize>>,
    /// By their number.
    problems: Mutex<BTreeMap<String, usize>>,
}

#[derive(Clone, Copy, Default)]
pub struct Progress {
    pub answers: usize,
    pub ended: bool,
}

impl Record {
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
    }

    fn answer(&self, function: &'static str, time: Duration) {
        self.times.lock().expect("unpoisoned").entry(function).or_default().push(time);
        self.progress.send_modify(|progress| progress.answers += 1);
    }

    pub fn problem(&self, problem: String) {
        *self.problems.lock().expect("unpoisoned").entry(problem).or_default() += 1;
    }

    fn repeat(&self, answer: &Answer) {
        let answer = format!("{} {}", answer.status, answer.text("code"));
        *self.repeats.lock().expect("unpoisoned").entry(answer).or_default() += 1;
    }

    pub fn check(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.problem(otherwise());
        }
    }

    pub fn into_problems(self) -> BTreeMap<String, usize> {
        self.problems.into_inner().expect("unpoisoned")
    }

    pub fn repeats(&self) -> BTreeMap<String, usize> {
        self.repeats.lock().expect("unpoisoned").clone()
    }

    /// The number of answers, p50 and p99 in milliseconds.
    pub fn summary(&self, function: &str) -> [String; 3] {
        let times = self.times.lock().expect("unpoisoned");
        times.get(function).map_or_else(Default::default, |samples| {
            [samples.count().to_string(), format!("{:.0}", samples.p50()), format!("{:.0}", samples.p99())]
        })
    }
}

/// The rows before the load, and the customers whom the load will subscribe.
pub struct World {
    club: i32,
    to_charge: Vec<String>,
    to_change: Vec<String>,
    customers: Vec<String>,
}

impl World {
    /// Enough for environments of these functions.
    pub async fn create(url: &str, functions: &[&str]) -> Self {
        let mut connection = connect(url).await;
        let club = club(&mut connection).await;
        let count = |name| functions.iter().filter(|function| **function == name).count();
        let meetings = |name| count(name) / CALLERS * ROUNDS;
        Self {
            club,
            to_charge: subscriptions(&mut connection, club, meetings("charge")).await,
            to_change: subscriptions(&mut connection, club, count("status")).await,
            customers: (0..meetings("subscribe")).map(|_| Uuid::new_v4().to_string()).collect(),
        }
    }
}

/// A new club, ACTIVE from now; its id.
pub async fn club(connection: &mut PgConnection) -> i32 {
    let query = "
        with opened as (insert into club (name, store_sku) values ('Lager', 4711) returning id)
        insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
        select gen_random_uuid()::text, id, 1, utc_now(), utc_now() from opened
        returning club_id";
    sqlx::query_scalar(query).fetch_one(connection).await.expect("a club")
}

/// New subscriptions, ACTIVE from now; their ids.
pub async fn subscriptions(connection: &mut PgConnection, club: i32, count: usize) -> Vec<String> {
    let query = "
        with created as (
            insert into subscription (id, club_id, customer_store_id, create_date)
            select gen_random_uuid()::text, $1, gen_random_uuid()::text, utc_now()
            from generate_series(1, $2)
            returning id, create_date
        )
        insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
        select gen_random_uuid()::text, id, 1, create_date, create_date from created
        returning subscription_id";
    let count = i32::try_from(count).expect("a count");
    sqlx::query_scalar(query).bind(club).bind(count).fetch_all(connection).await.expect("subscriptions")
}

/// The environments, by what they do together.
pub struct Crowd {
    subscribe: Vec<Vec<Environment>>,
    charge: Vec<Vec<Environment>>,
    status: Vec<Environment>,
    eligible: Vec<Environment>,
}

impl Crowd {
    /// The function of each environment: a tenth reads the list, the others are shared out evenly.
    pub fn functions(environments: usize) -> Vec<&'static str> {
        let eligible = environments / 10;
        let groups = environments / 10;
        let status = environments - eligible - 2 * groups * CALLERS;
        let counts = [groups * CALLERS, status, eligible, groups * CALLERS];
        FUNCTIONS.into_iter().zip(counts).flat_map(|(function, count)| repeat_n(function, count)).collect()
    }

    pub fn of(environments: Vec<(&'static str, Environment)>) -> Self {
        let mut by_function: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (function, environment) in environments {
            by_function.entry(function).or_default().push(environment);
        }
        let mut all_of = |function| by_function.remove(function).unwrap_or_default();
        Self {
            subscribe: groups(all_of("subscribe")),
            charge: groups(all_of("charge")),
            status: all_of("status"),
            eligible: all_of("eligible"),
        }
    }
}

fn groups(environments: Vec<Environment>) -> Vec<Vec<Environment>> {
    let mut groups = Vec::new();
    let mut rest = environments.into_iter().peekable();
    while rest.peek().is_some() {
        groups.push(rest.by_ref().take(CALLERS).collect());
    }
    groups
}

/// Makes all calls at once.
pub async fn run(crowd: Crowd, world: &World, record: &Record) {
    let charged: HashSet<&str> = world.to_charge.iter().map(String::as_str).collect();
    let mut work: Vec<BoxFuture<()>> = Vec::new();
    for (group, customers) in crowd.subscribe.iter().zip(world.customers.chunks(ROUNDS)) {
        work.push(subscribe(group, world.club, customers, record).boxed());
    }
    for (group, subscriptions) in crowd.charge.iter().zip(world.to_charge.chunks(ROUNDS)) {
        work.push(charge(group, subscriptions, record).boxed());
    }
    for (place, environment) in crowd.status.iter().enumerate() {
        work.push(status(environment, place, &world.to_change, record).boxed());
    }
    for environment in &crowd.eligible {
        work.push(eligible(environment, &charged, record).boxed());
    }
    join_all(work).await;
}

/// The answer must be one of these: a status, and the code if it is a refusal.
pub async fn call(environment: &Environment, call: &Call, may_be: &[(u64, &str)], record: &Record) -> Answer {
    let invoked = invoke(environment, &call.event()).await;
    record.answer(call.function(), invoked.time());
    // The functions never fail an invocation.
    let payload = invoked.payload.unwrap_or_else(|error| panic!("{} fails: {error:?}", call.function()));
    let answer = Answer::of(serde_json::from_slice(&payload).expect("an answer"));
    let (status, code) = (answer.status, answer.text("code"));
    record.check(may_be.contains(&(status, code)), || format!("{} answers {status} {code}", call.function()));
    answer
}

/// Each customer by all of the group at the same moment.
async fn subscribe(group: &[Environment], club: i32, customers: &[String], record: &Record) {
    let may_be = [(201, ""), (409, "already_subscribed")];
    for customer in customers {
        let of_customer = Call::subscribe(club, customer);
        let calls = group.iter().map(|environment| call(environment, &of_customer, &may_be, record));
        let created = join_all(calls).await.iter().filter(|answer| answer.status == 201).count();
        record.check(created == 1, || format!("{created} calls of the same moment create a subscription"));
    }
}

/// Each subscription by all of the group at the same moment, each call under another request_id, until all have the order.
async fn charge(group: &[Environment], subscriptions: &[String], record: &Record) {
    // The caller repeats each of these refusals. On a busy machine the platform may not be reached in time.
    let may_be = [
        (200, ""),
        (409, "charge_in_progress"),
        (409, "charge_outcome_unknown"),
        (503, "ecommerce_unavailable"),
        (504, "charge_outcome_unknown"),
    ];
    for subscription in subscriptions {
        let mut waiting: Vec<(&Environment, Call)> = group
            .iter()
            .map(|environment| (environment, Call::charge(subscription, &Uuid::new_v4().to_string())))
            .collect();
        let (mut charges, mut request_ids) = (0, HashSet::new());
        while !waiting.is_empty() {
            let calls = waiting.iter().map(|(environment, charge)| call(environment, charge, &may_be, record));
            let answers = join_all(calls).await;
            for answer in answers.iter().filter(|answer| answer.status == 200) {
                charges += usize::from(answer.body["already_charged"] == false);
                request_ids.insert(answer.text("request_id").to_owned());
            }
            // One of the answered calls has charged. The repeats of the others find its order.
            waiting = waiting
                .into_iter()
                .zip(&answers)
                .filter_map(|(waiting, answer)| {
                    let repeats = may_be[1..].contains(&(answer.status, answer.text("code")));
                    repeats.then(|| {
                        record.repeat(answer);
                        waiting
                    })
                })
                .collect();
        }
        // The answer of the call that charges may be lost. Then a repeat finds the order.
        record.check(charges <= 1, || format!("{charges} calls say that they charged"));
        record.check(request_ids.len() == 1, || format!("{} request_ids charged a subscription", request_ids.len()));
    }
}

/// ACTIVE, CANCELLED and PAUSED by turns.
fn status_of(round: usize) -> usize {
    round % PAUSE + 1
}

/// Records statuses of any subscription, each with different details. Every third is a pause that ends by itself.
async fn status(environment: &Environment, place: usize, subscriptions: &[String], record: &Record) {
    for round in 0..ROUNDS {
        let subscription = &subscriptions[(place * 7 + round * 31) % subscriptions.len()];
        let details = format!("{place}, {round}");
        let body = json!({ "status_id": status_of(round), "details": details, "interval": 30 });
        let change = Call::post(format!("/subscription/{subscription}/status"), body);
        call(environment, &change, &[(200, "")], record).await;
    }
}

/// Reads the whole list, page by page. It ascends, and has everything that stays eligible.
async fn eligible(environment: &Environment, always: &HashSet<&str>, record: &Record) {
    for _ in 0..WALKS {
        let (mut last, mut found) = (String::new(), 0);
        loop {
            let page = Call::get("/subscription/eligible").query("limit", &PAGE.to_string());
            let page = if last.is_empty() { page } else { page.query("after", &last) };
            let answer = call(environment, &page, &[(200, "")], record).await;
            let ids: Vec<String> = serde_json::from_value(answer.body).unwrap_or_default();
            for id in &ids {
                record.check(*id > last, || "a list does not ascend".to_owned());
                found += usize::from(always.contains(id.as_str()));
                last.clone_from(id);
            }
            if ids.len() < PAGE {
                break;
            }
        }
        record.check(found == always.len(), || "a list misses what was eligible all the while".to_owned());
    }
}

/// Every success is recorded once, and nothing else is.
pub async fn check_effects(url: &str, world: &World, platform: &Platform, record: &Record) {
    let mut connection = connect(url).await;
    let mut count = async |query: &'static str, ids: &[String]| {
        let count: i64 = sqlx::query_scalar(query).bind(ids).fetch_one(&mut connection).await.expect("a count");
        usize::try_from(count).expect("a count")
    };
    let equal = |what: &str, found: usize, expected: usize| {
        record.check(found == expected, || format!("{found} {what}, not {expected}"));
    };

    let customers = world.customers.len();
    let rows = "select count(*) from subscription where customer_store_id = any($1)";
    equal("subscriptions of new customers", count(rows, &world.customers).await, customers);
    let rows = "select count(distinct customer_store_id) from subscription where customer_store_id = any($1)";
    equal("new customers with a subscription", count(rows, &world.customers).await, customers);
    let rows = "
        select count(*) from subscription
        join subscription_status_history entry on entry.subscription_id = subscription.id
        where customer_store_id = any($1)";
    equal("entries of new subscriptions", count(rows, &world.customers).await, customers);

    // Each subscription began with one entry, and has one environment of status.
    let began = world.to_change.len();
    let changes = began * ROUNDS;
    let pauses = began * (0..ROUNDS).filter(|round| status_of(*round) == PAUSE).count();
    // Changes of one subscription at the same time need further entries, which have no details.
    let rows = "
        select count(*) from subscription_status_history
        where subscription_id = any($1) and details <> 'Automatic return schedule'";
    equal("changes", count(rows, &world.to_change).await, changes);
    let rows = "
        select count(distinct details) from subscription_status_history
        where subscription_id = any($1) and details <> 'Automatic return schedule'";
    equal("different changes", count(rows, &world.to_change).await, changes);
    let rows = "
        select count(*) from subscription_status_history pause
        where subscription_id = any($1) and status_id = 3 and details is not null
            and exists (
                select from subscription_status_history automatic_return
                where automatic_return.subscription_id = pause.subscription_id
                    and automatic_return.create_date = pause.create_date
                    and automatic_return.effect_date = pause.effect_date + interval '30 days'
                    and automatic_return.details = 'Automatic return schedule'
            )";
    equal("pauses with a return", count(rows, &world.to_change).await, pauses);

    // A load that runs into the next month may charge a subscription for both.
    let rows = "
        select count(distinct (subscription_id, billing_month)) from charge_attempt
        where subscription_id = any($1) and state = 'charged'";
    let charges = count(rows, &world.to_charge).await;
    let rows = "select count(*) from charge_attempt where subscription_id = any($1) and state = 'charged'";
    equal("charged attempts", count(rows, &world.to_charge).await, charges);
    let rows = "
        select count(*) from charge_attempt
        where subscription_id = any($1) and state in ('in_flight', 'unknown')";
    equal("charges without an outcome", count(rows, &world.to_charge).await, 0);
    let rows = "
        select count(distinct subscription_id) from charge_attempt
        where subscription_id = any($1) and state = 'charged'";
    equal("charged subscriptions", count(rows, &world.to_charge).await, world.to_charge.len());
    // An order whose answer was lost is sent again under its request_id. That is one order.
    let received = platform.received();
    let orders: HashSet<_> = received.iter().map(|order| (&order.customer_id, &order.request_id)).collect();
    equal("orders at the platform", orders.len(), charges);
    let ordering: HashSet<_> = received.iter().map(|order| &order.customer_id).collect();
    equal("customers with an order", ordering.len(), world.to_charge.len());
}
