//! Every failpoint × everything that the platform can do. Then the caller does one of four things.
//!
//! This tests what a process does: signals, sockets, the gate before the sending, real time. The model explores all that
//! the ledger can answer, so each cell has one sequel only. The sequels take turns: each follows every fate and every
//! conduct of the platform.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ecommerce_stub::{Answer as Reply, Behaviour, Received};
use futures_util::{StreamExt, future::join_all, stream};
use harness::{Answer, Api, Call, Environment, checker, eventually, report};
use tokio::task::JoinHandle;

/// The end of the process that charges first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Lives,
    /// By SIGKILL, at this failpoint.
    KilledAt(&'static str),
    /// By SIGKILL, while the platform has the order and has not answered.
    KilledWaiting,
    /// By SIGSTOP at this failpoint, until its deadline is past and the sequel is over.
    FrozenAt(&'static str),
}

const TIME_TO_SEND: Duration = Duration::from_secs(3);
/// The cells of each sequel that are charged at the same time.
const AT_ONCE: usize = 4;

const FATES: [Fate; 10] = [
    Fate::Lives,
    Fate::KilledAt("before_claim"),
    Fate::KilledAt("claimed"),
    Fate::KilledAt("sending"),
    Fate::KilledWaiting,
    Fate::KilledAt("answered"),
    Fate::KilledAt("settled"),
    Fate::FrozenAt("claimed"),
    Fate::FrozenAt("sending"),
    Fate::FrozenAt("answered"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sequel {
    SameNumber,
    AnotherNumber,
    BothAtOnce,
    NextMonth,
}

const SEQUELS: [Sequel; 4] = [Sequel::SameNumber, Sequel::AnotherNumber, Sequel::BothAtOnce, Sequel::NextMonth];

/// The platform's answer to the first order that arrives.
#[derive(Clone)]
struct Conduct {
    name: &'static str,
    /// Replaces the platform's.
    base_url: Option<&'static str>,
    behaviour: Behaviour,
}

fn conducts() -> Vec<Conduct> {
    let answer =
        |name, answer| Conduct { name, base_url: None, behaviour: Behaviour { answer, ..Behaviour::default() } };
    let status = |name, status, header: &[(&str, &str)], body: &str| {
        let headers = header.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        answer(name, Reply::Status { status, headers, body: body.to_owned() })
    };
    let unreachable = |name, base_url| Conduct { base_url: Some(base_url), ..answer(name, Reply::Order) };
    let mut hang = answer("hangs", Reply::Order);
    hang.behaviour.delay_ms = 60_000;
    let mut all = vec![
        answer("201", Reply::Order),
        status("200 with garbage", 200, &[], "<html>"),
        answer("a cut body", Reply::CutBody),
        status("an oversized body", 200, &[], &"[".repeat(600 * 1024)),
        status("204", 204, &[], ""),
        status("301", 301, &[("location", "/order/elsewhere")], ""),
        status("429 with retry-after", 429, &[("retry-after", "9")], ""),
        hang,
        unreachable("refuses the connection", "http://127.0.0.1:1"),
        unreachable("has no name", "http://no-such-host.invalid"),
        answer("resets before reading", Reply::ResetBeforeReading),
        answer("resets after reading", Reply::ResetAfterReading { take: false }),
        answer("takes the order and resets", Reply::ResetAfterReading { take: true }),
    ];
    for (name, code) in [
        ("400", 400),
        ("401", 401),
        ("402", 402),
        ("404", 404),
        ("408", 408),
        ("409", 409),
        ("422", 422),
        ("429", 429),
        ("500", 500),
        ("503", 503),
    ] {
        all.push(status(name, code, &[], "{}"));
    }
    all
}

struct Cell {
    fate: Fate,
    conduct: Conduct,
    subscription: String,
    first: String,
    second: String,
}

/// A process that is stopped during its charge.
struct Sleeper {
    environment: Arc<Environment>,
    call: JoinHandle<Option<Answer>>,
    /// When it was seen stopped. Its time to send began earlier.
    stopped: Instant,
}

/// The first charge of a cell, and its fate.
async fn charge_first(api: &Api, cell: &Cell) -> Option<Sleeper> {
    let failpoints = match cell.fate {
        Fate::Lives | Fate::KilledWaiting => String::new(),
        Fate::KilledAt(place) => format!("{place}=1*return(KILL)"),
        Fate::FrozenAt(place) => format!("{place}=1*return(STOP)"),
    };
    let mut behaviour = cell.conduct.behaviour.clone();
    if cell.fate == Fate::KilledWaiting {
        behaviour.held = true;
    }
    api.platform.behave_for(&cell.first, behaviour);
    let mut settings = vec![("FAILPOINTS", failpoints.as_str())];
    settings.extend(cell.conduct.base_url.map(|base_url| ("ECOMMERCE_BASE_URL", base_url)));
    let environment = Arc::new(api.environment_with("charge", &settings).await);

    let call = tokio::spawn({
        let (environment, call) = (environment.clone(), Call::charge(&cell.subscription, &cell.first));
        async move { environment.try_call(&call).await }
    });
    match cell.fate {
        Fate::Lives => assert!(call.await.unwrap().is_some(), "{} {}", cell.subscription, environment.log()),
        Fate::KilledAt(place) => {
            let answered = call.await.unwrap().is_some();
            // A platform that cannot be reached is sent nothing.
            assert_eq!(answered, place == "sending" && cell.conduct.base_url.is_some(), "{}", environment.log());
        }
        Fate::KilledWaiting => {
            eventually("the order arrives, or never will", async || {
                let arrived = |order: &Received| order.request_id == cell.first;
                call.is_finished() || api.platform.received().iter().any(arrived)
            })
            .await;
            environment.kill();
            let _ = call.await.unwrap();
        }
        Fate::FrozenAt(place) => {
            eventually("it stops, or there was nothing to send", async || {
                call.is_finished() || environment.is_frozen()
            })
            .await;
            assert_eq!(call.is_finished(), place == "sending" && cell.conduct.base_url.is_some());
            return Some(Sleeper { environment, call, stopped: Instant::now() });
        }
    }
    None
}

/// The caller's next step.
async fn go_on(healthy: &Environment, other: &Environment, cell: &Cell, sequel: Sequel) {
    let (same, another) =
        (Call::charge(&cell.subscription, &cell.first), Call::charge(&cell.subscription, &cell.second));
    match sequel {
        Sequel::SameNumber => drop(healthy.call(&same).await),
        Sequel::AnotherNumber => drop(healthy.call(&another).await),
        Sequel::BothAtOnce => drop(tokio::join!(healthy.call(&same), other.call(&another))),
        // Last month's outcome does not matter to this month.
        Sequel::NextMonth => assert_eq!(healthy.call(&another).await.status, 200, "{}", cell.subscription),
    }
}

/// Thaws the process. It may record a success, and must change nothing else and send nothing.
async fn wake(api: &Api, cell: &Cell, sleeper: Sleeper) {
    let of_cell = async || -> (usize, Vec<String>) {
        let orders = api.platform.received().iter().filter(|order| order.request_id == cell.first).count();
        let states = api.ledger().await.into_iter().filter(|attempt| attempt.subscription_id == cell.subscription);
        (orders, states.map(|attempt| format!("{} {}", attempt.request_id, attempt.state)).collect())
    };
    // The ledger's clock was moved, the process's was not.
    eventually("its time to send is over", async || sleeper.stopped.elapsed() > TIME_TO_SEND).await;
    let before = of_cell().await;
    sleeper.environment.thaw();
    let answer = sleeper.call.await.unwrap().expect("an answer");
    let after = of_cell().await;
    assert_eq!(before.0, after.0, "{} sent after its deadline", cell.subscription);
    let charged = cell.fate == Fate::FrozenAt("answered") && answer.status == 200;
    assert!(charged || before.1 == after.1, "{:?} {}: {before:?} {after:?} {answer:?}", cell.fate, cell.conduct.name);
}

/// Every caller has a way forward: repeat what is unknown, then charge.
async fn resolve(api: &Api, healthy: &Environment, cell: &Cell) {
    let mut answers = Vec::new();
    for _ in 0..4 {
        let ledger = api.ledger().await;
        let stuck =
            ledger.iter().find(|attempt| attempt.subscription_id == cell.subscription && attempt.state == "unknown");
        let number = stuck.map_or_else(|| format!("{}-last", cell.subscription), |attempt| attempt.request_id.clone());
        let answer = healthy.call(&Call::charge(&cell.subscription, &number)).await;
        let done = stuck.is_none() && answer.status == 200;
        answers.push(answer);
        if done {
            return;
        }
    }
    panic!("{:?} {} has no way forward: {answers:#?}", cell.fate, cell.conduct.name);
}

/// The results of the cells with one sequel.
struct Outcome {
    cells: usize,
    faults: usize,
    orders: usize,
    /// Attempts by their state.
    states: BTreeMap<String, usize>,
    violations: Vec<String>,
}

async fn run(sequel: Sequel, cells: impl Iterator<Item = (Fate, Conduct)>) -> Outcome {
    let timeout = TIME_TO_SEND.as_millis().to_string();
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", &timeout), ("RUST_LOG", "warn")]).await;
    let cells: Vec<Cell> = cells
        .enumerate()
        .map(|(index, (fate, conduct))| Cell {
            fate,
            conduct,
            subscription: format!("cell-{index:03}"),
            first: format!("cell-{index:03}-first"),
            second: format!("cell-{index:03}-second"),
        })
        .collect();
    let club = api.club().await;
    for cell in &cells {
        api.run(&format!("insert into subscription values ('{0}', {club}, '{0}')", cell.subscription)).await;
    }

    let sleepers =
        stream::iter(&cells).map(|cell| charge_first(&api, cell)).buffered(AT_ONCE).collect::<Vec<_>>().await;

    let later = if sequel == Sequel::NextMonth { "1 month" } else { "1 minute" };
    api.set_clock(&format!("statement_timestamp() + interval '{later}'")).await;
    // They have the usual time to send, so that none of their orders is late on a busy machine.
    let healthy = join_all((0..4).map(|_| api.environment_with("charge", &[("ECOMMERCE_TIMEOUT_MS", "15000")]))).await;
    let pairs =
        cells.iter().enumerate().map(|(index, cell)| (&healthy[index % 2 * 2], &healthy[index % 2 * 2 + 1], cell));
    stream::iter(pairs).for_each_concurrent(AT_ONCE, |(one, other, cell)| go_on(one, other, cell, sequel)).await;
    let asleep = cells.iter().zip(sleepers).filter_map(|(cell, sleeper)| Some((cell, sleeper?)));
    stream::iter(asleep).for_each_concurrent(AT_ONCE, |(cell, sleeper)| wake(&api, cell, sleeper)).await;
    let each = cells.iter().enumerate();
    stream::iter(each).for_each_concurrent(AT_ONCE, |(index, cell)| resolve(&api, &healthy[index % 4], cell)).await;

    let (received, ledger) = (api.platform.received(), api.ledger().await);
    assert!(received.iter().all(|order| order.request_id != "elsewhere"), "a redirect was followed");
    let violations = checker::violations(&received, &ledger);
    let mut states = BTreeMap::new();
    for attempt in ledger {
        *states.entry(attempt.state).or_default() += 1;
    }
    let faults = |cell: &Cell| usize::from(cell.fate != Fate::Lives) + usize::from(cell.conduct.name != "201");
    Outcome { cells: cells.len(), faults: cells.iter().map(faults).sum(), orders: received.len(), states, violations }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_at_every_failpoint_has_a_way_forward_and_makes_one_order() {
    let cells: Vec<(Fate, Conduct, Sequel)> = (0..)
        .zip(FATES)
        .flat_map(|(row, fate)| (row..).zip(conducts()).map(move |(place, conduct)| (fate, conduct, place)))
        .map(|(fate, conduct, place)| (fate, conduct, SEQUELS[place % SEQUELS.len()]))
        .collect();
    for sequel in SEQUELS {
        for fate in FATES {
            assert!(cells.iter().any(|cell| (cell.0, cell.2) == (fate, sequel)), "{fate:?} without {sequel:?}");
        }
        for conduct in conducts() {
            let met = cells.iter().any(|cell| (cell.1.name, cell.2) == (conduct.name, sequel));
            assert!(met, "{} without {sequel:?}", conduct.name);
        }
    }
    // All sequels at the same time: most of the time is waiting for deadlines.
    let outcomes = join_all(SEQUELS.map(|sequel| {
        let of_sequel = cells.iter().filter(move |cell| cell.2 == sequel);
        run(sequel, of_sequel.map(|(fate, conduct, _)| (*fate, conduct.clone())))
    }))
    .await;

    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for (state, count) in outcomes.iter().flat_map(|outcome| &outcome.states) {
        *states.entry(state).or_default() += count;
    }
    let violations: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.violations).collect();
    report(&format!(
        "fault matrix: {} cells, {} faults injected, {} orders received, attempts {states:?}, {} violations",
        sum(|outcome| outcome.cells),
        sum(|outcome| outcome.faults),
        sum(|outcome| outcome.orders),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_charges_of_a_hundred_subscriptions_from_sixteen_environments() {
    let api = Api::with(&[("ECOMMERCE_TIMEOUT_MS", "2000"), ("RUST_LOG", "error")]).await;
    let club = api.club().await;
    api.run(&format!("insert into subscription select 's-' || n, {club}, 'c-' || n from generate_series(0, 99) n"))
        .await;
    // One fault for each order, in turn. Only every third hang is a real one.
    let conducts: Vec<_> = conducts().into_iter().filter(|conduct| conduct.base_url.is_none()).collect();
    for order in 0..1000 {
        let conduct = &conducts[order * 5 % conducts.len()];
        let hangs = conduct.name == "hangs" && order % 3 > 0;
        api.platform.behave_once(if hangs { Behaviour::default() } else { conduct.behaviour.clone() });
    }

    let environments = join_all((0..16).map(|_| api.environment("charge"))).await;
    let answers = join_all(environments.iter().enumerate().map(|(number, environment)| async move {
        let mut statuses = Vec::new();
        for call in (number..1000).step_by(16) {
            // Ten calls for each subscription, under four request_ids, from several environments at the same time.
            let (subscription, order) = (call / 10, call % 4);
            let charge = Call::charge(&format!("s-{subscription}"), &format!("s-{subscription}-{order}"));
            statuses.push(environment.call(&charge).await.status);
        }
        statuses
    }))
    .await;

    api.set_clock("statement_timestamp() + interval '1 minute'").await;
    let (received, ledger) = (api.platform.received(), api.ledger().await);
    let mut statuses: BTreeMap<u64, usize> = BTreeMap::new();
    for status in answers.into_iter().flatten() {
        *statuses.entry(status).or_default() += 1;
    }
    report(&format!("a thousand charges: answers {statuses:?}, {} orders received", received.len()));
    assert!(!statuses.contains_key(&500));
    assert_eq!(checker::violations(&received, &ledger), Vec::<String>::new());
    let mut numbers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for order in received.iter().filter(|order| !order.refused) {
        numbers.entry(&order.customer_id).or_default().insert(&order.request_id);
    }
    assert!(numbers.len() > 50 && numbers.values().all(|numbers| numbers.len() == 1), "{numbers:?}");
}
