//! The charge protocol as a model: every order in which its steps can happen, within these bounds.
//!
//! - At most three calls, each under one of two request_ids. One subscription; or two, which share the request_ids.
//! - Two months. The month ends at any moment, once.
//! - A call can stop after any step: forever, because its process died, or until anything else has happened, because it was
//!   frozen or is slow. This needs no step: in some history, each call takes its next step last, or never.
//! - An attempt's deadline passes at any moment. The call that holds it sends nothing from then on.
//! - An order can reach the platform late, even after its call gave up, or never. The platform takes it, refuses it,
//!   throttles it, or gives no answer, whether it took it or not. It may do so even if it knows the request_id.
//! - One statement of a history can reach the database late, after its call has repeated it, continued or died; or never. This
//!   covers a lost answer (the statement was executed) and a lost statement.
//! - A claim is for any month, or for one that its caller names. What is charged was charged within a day, or longer ago.
//! - A claim finds the subscription active, cancelled, without a customer, or absent. That can change at any moment and any
//!   number of times, so it is not part of the state. A deletion orphans the attempts; then the subscription is inserted
//!   again. A state has the orphans of one deletion at a time.
//! - With three calls, a history has a late statement or a deletion. With two calls it has both.
//! - A person decides about unresolved attempts, and tells the truth: that there is an order if the platform has one, or that
//!   there is none if none is under way either. With [`Sending::MayStop`], an order can still be sent after the decision.
//!
//! States whose futures do not differ are one state. Request_ids, subscriptions and calls are interchangeable, so states
//! that differ only in their names are one state too.
//!
//! [`database`] has the functions of migrations/sql, on a small value. [`protocol`] has the steps, and what must hold. The
//! test program in check/ executes what is explored here against the real functions.

mod canonical;
pub mod database;
pub mod protocol;
mod text;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

pub use database::Verdict;
use protocol::{Action, Protocol, State, lock};
pub use protocol::{Bounds, Claims, Rules, Sending, Transition, Variant};

/// The findings of an exploration of every state.
pub struct Explored {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    pub time: Duration,
    /// Properties that must always hold, and do.
    pub holds: Vec<&'static str>,
    /// Properties that must always hold, and do not.
    pub violated: Vec<Counterexample>,
    /// States that must be reachable, and are not.
    pub unreached: Vec<&'static str>,
    pub verdicts: Vec<Verdict>,
    /// Every distinct call of a database function.
    pub transitions: BTreeSet<Transition>,
}

/// The steps to a state that violates a property.
pub struct Counterexample {
    pub property: &'static str,
    /// Each step, and the ledger after it.
    pub steps: Vec<(String, String)>,
}

/// Explores every state.
pub fn explore(rules: Rules) -> Explored {
    let began = Instant::now();
    let checker = Protocol::new(rules).checker().threads(2).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let (mut holds, mut violated, mut unreached) = (Vec::new(), Vec::new(), Vec::new());
    for property in checker.model().properties() {
        let found = discoveries.remove(property.name);
        match (property.expectation, found) {
            (Expectation::Always | Expectation::Eventually, None) => holds.push(property.name),
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                violated.push(Counterexample::new(property.name, path));
            }
            (Expectation::Sometimes, None) => unreached.push(property.name),
            (Expectation::Sometimes, Some(_)) => {}
        }
    }
    let transitions = lock(&checker.model().transitions).iter().map(|transition| transition.renamed()).collect();
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        time: began.elapsed(),
        holds,
        violated,
        unreached,
        verdicts: lock(&checker.model().verdicts).iter().copied().collect(),
        transitions,
    }
}

/// The shortest way to violate this property, if there is one.
pub fn shortest_counterexample(rules: Rules, property: &'static str) -> Option<Counterexample> {
    // The checker looks at whole blocks of states, so its first path may not be the shortest. The search is repeated below
    // that depth. Sorted states would rename the calls at every step.
    let mut shortest: Option<Path<State, Action>> = None;
    loop {
        let mut checker = Protocol::new(Rules { sorted: false, ..rules })
            .checker()
            .finish_when(HasDiscoveries::AnyOf([property].into()));
        if let Some(path) = &shortest {
            checker = checker.target_max_depth(path.clone().into_states().len());
        }
        match checker.spawn_bfs().join().discovery(property) {
            Some(path) => shortest = Some(path),
            None => return shortest.map(|path| Counterexample::new(property, path)),
        }
    }
}

impl Counterexample {
    fn new(property: &'static str, path: Path<State, Action>) -> Self {
        let (states, actions): (Vec<_>, Vec<_>) = path.into_vec().into_iter().unzip();
        let after = states.iter().skip(1).map(State::to_string);
        let steps = actions.into_iter().flatten().map(|action| action.to_string()).zip(after).collect();
        Self { property, steps }
    }
}
