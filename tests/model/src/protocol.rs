//! The steps of the protocol, and what must hold. The bounds are in the description of the crate.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use stateright::{Model, Property};

use crate::database::{Attempt, CALLS, ChargeState, Claim, Condition, Database, FRESH, Look, Token, Verdict};

pub const REQUESTS: u8 = 2;
/// A claim's facts: the subscription, whether there is time to call out, the month it is for,
/// whether what is charged was charged more than a day ago.
const FOUND: [(Condition, bool, Option<u8>, bool); 10] = [
    (Condition::Active, true, None, false),
    (Condition::Active, true, Some(0), false),
    (Condition::Active, true, Some(1), false),
    (Condition::Active, false, None, false),
    (Condition::Cancelled, true, None, false),
    (Condition::Nameless, true, None, false),
    (Condition::Absent, true, None, false),
    (Condition::Absent, true, Some(1), false),
    (Condition::Active, true, None, true),
    (Condition::Active, true, Some(0), true),
];

/// The protocol, or a broken variant of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    AsItIs,
    /// Any call can settle an attempt in flight.
    UnfencedSettle,
    /// The order first, then the claim.
    ClaimAfterCallOut,
    /// The outcome of a repeat counts for the first sending too.
    RepeatReopens,
    /// The same, for a refusal only.
    RefusalEndsARepeat,
    /// A take-over does not record that the attempt was possibly sent.
    ForgetfulTakeOver,
    /// An unknown attempt does not keep another request_id from its month.
    SecondRequestWhileUnknown,
    /// A take-over does not test the row that it updates.
    UntestedTakeOver,
    /// The month is the current one, not that of the request_id's first use.
    MonthOfTheCall,
    /// A success after a decision is noted, and does not hold its month.
    ForgottenLateOrder,
    /// A success after a decision never holds its month once another attempt held it.
    LateOrderNeverHolds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claims {
    AtOnce,
    /// A take-over is a look, which locks the subscription's row, and an update; other steps come between.
    InTwoSteps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sending {
    /// The look at the clock and the sending are one step.
    AtOnce,
    /// A process can be stopped between the two.
    MayStop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Idle,
    /// Its claim has no answer yet.
    Claiming,
    /// Only with [`Claims::InTwoSteps`]: it has locked the subscription's row and is about to update this attempt.
    TakingOver(u8),
    Claimed,
    /// Only with [`Sending::MayStop`]: it has seen that there is time to send.
    Looked,
    /// It knows the outcome, and settles.
    Answered(ChargeState),
    Over,
}

/// A statement that is under way to the database, after its call has given up on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Late {
    Claim,
    Settle(ChargeState),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub step: Step,
    pub subscription: u8,
    pub request: u8,
    pub attempt: Option<u8>,
    /// Its time to send is over.
    pub overdue: bool,
}

pub(crate) const IDLE: Call = Call { step: Step::Idle, subscription: 0, request: 0, attempt: None, overdue: false };

/// The state of an attempt's orders, which have one request_id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    None,
    /// It can still arrive.
    UnderWay,
    Taken,
}

/// The one statement that reaches the database late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LateStatement {
    NotYet,
    UnderWay { call: u8, statement: Late },
    Executed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub database: Database,
    pub calls: [Call; CALLS],
    pub late: LateStatement,
    /// Of each attempt.
    pub orders: [Order; CALLS],
    /// An order was sent without an attempt.
    pub unrecorded: bool,
    /// The state in which each attempt first ended.
    pub ends: [Option<ChargeState>; CALLS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    Takes,
    Refuses,
    /// Its answer is lost, or there is none. The order is under way.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A claim and its answer.
    Claim(Claim),
    /// The claim has no answer; it may be executed later, or never.
    LoseClaim {
        call: u8,
        subscription: u8,
        request: u8,
    },
    /// The second of two steps.
    TakeOver {
        call: u8,
    },
    /// Nothing of the order left this process, or the platform throttles it, which has the same effect.
    CannotSend {
        call: u8,
    },
    LookAtClock {
        call: u8,
    },
    /// An order, and its answer. A slow order is the same as a slow call: meanwhile only decisions depend on the order, and
    /// here they can be made earlier than in reality.
    Send {
        call: u8,
        subscription: u8,
        request: u8,
        reply: Reply,
    },
    /// An order that had no answer arrives, or never will.
    Arrive {
        attempt: u8,
        taken: bool,
    },
    Settle {
        call: u8,
    },
    /// The outcome has no answer; it may be recorded later, or never.
    LoseSettle {
        call: u8,
    },
    /// The database executes what was lost.
    ExecuteLate,
    DeadlinePasses {
        attempt: u8,
    },
    MonthEnds,
    Decide {
        attempt: u8,
        outcome: ChargeState,
    },
    Delete {
        subscription: u8,
    },
}

/// A call of a database function, and the state it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transition {
    pub before: Database,
    pub function: Function,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    Claim(Claim),
    Settle { attempt: u8, call: u8, outcome: ChargeState },
    Resolve { attempt: u8, outcome: ChargeState },
    Delete { subscription: u8 },
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub subscriptions: u8,
    pub calls: u8,
    /// The most events of one history: a statement that arrives late, a subscription that is deleted.
    pub disturbances: usize,
}

/// Which protocol is explored, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub variant: Variant,
    pub claims: Claims,
    pub sending: Sending,
    /// Persons decide.
    pub decisions: bool,
    pub bounds: Bounds,
    /// States that differ only in the order of their calls are one. It makes a counterexample hard to read.
    pub sorted: bool,
}

impl Rules {
    pub const fn new(bounds: Bounds) -> Self {
        let (claims, sending) = (Claims::AtOnce, Sending::AtOnce);
        Self { variant: Variant::AsItIs, claims, sending, decisions: true, bounds, sorted: true }
    }
}

/// The model, and a record of its exploration.
pub(crate) struct Protocol {
    rules: Rules,
    pub transitions: Mutex<HashSet<Transition>>,
    pub verdicts: Mutex<BTreeSet<Verdict>>,
    /// True if there is a way forward from here.
    ways_forward: Mutex<HashMap<Database, bool>>,
}

impl Protocol {
    pub fn new(rules: Rules) -> Self {
        Self { rules, transitions: Mutex::default(), verdicts: Mutex::default(), ways_forward: Mutex::default() }
    }

    fn record(&self, before: Database, function: Function) {
        lock(&self.transitions).insert(Transition { before, function });
    }

    /// A claim's verdict, and its call's next step.
    fn claim(&self, state: &mut State, claim: Claim) {
        let call = claim.call;
        let step = state.calls[usize::from(call)].step;
        if self.rules.claims == Claims::InTwoSteps
            && let (Look::TakeOver(id), ..) = state.database.look(claim, self.rules.variant)
        {
            state.calls[usize::from(call)].step = Step::TakingOver(id);
            return;
        }
        self.record(state.database, Function::Claim(claim));
        let claimed = state.database.claim(claim, self.rules.variant);
        lock(&self.verdicts).insert(claimed.verdict);
        let holder = &mut state.calls[usize::from(call)];
        if claimed.verdict == Verdict::Claimed {
            holder.attempt = claimed.live;
            // If the order was sent first, the call settles next.
            if !matches!(step, Step::Answered(_)) {
                holder.step = Step::Claimed;
            }
        } else {
            holder.step = Step::Over;
        }
    }

    fn settle(&self, state: &mut State, call: u8, outcome: ChargeState) {
        if let Some(attempt) = state.calls[usize::from(call)].attempt {
            self.record(state.database, Function::Settle { attempt, call, outcome });
            state.database.settle(attempt, call, outcome, self.rules.variant);
        }
    }

    /// No claim and no deletion passes the lock on the subscription's row that a take-over holds.
    fn is_locked(&self, state: &State, subscription: u8) -> bool {
        let takes_over = |call: &Call| matches!(call.step, Step::TakingOver(_)) && call.subscription == subscription;
        state.calls.iter().any(takes_over)
    }

    fn has_way_forward(&self, state: &State) -> bool {
        *lock(&self.ways_forward).entry(state.database).or_insert_with(|| self.find_way_forward(state.database))
    }

    /// True if a new call can resolve every attempt and charge, once every call is dead and every deadline is past.
    fn find_way_forward(&self, mut database: Database) -> bool {
        for attempt in database.attempts.iter_mut().flatten() {
            attempt.past_deadline |= attempt.state == ChargeState::InFlight;
        }
        // A person can decide about every unknown attempt.
        let mut decided = database;
        let unknown: Vec<u8> =
            database.attempts().filter(|(_, attempt)| attempt.is_unknown()).map(|(id, _)| id).collect();
        unknown.into_iter().all(|id| decided.resolve(id, ChargeState::NotSent, self.rules.variant))
            // After that the subscription can be charged, and without a person too.
            && (0..self.rules.bounds.subscriptions)
                .all(|subscription| self.can_charge(decided, subscription) && self.can_charge(database, subscription))
    }

    /// True if repeating what is unknown, then charging, ends with the month charged.
    fn can_charge(&self, mut database: Database, subscription: u8) -> bool {
        let unknown: Vec<u8> = database
            .attempts()
            .filter(|(_, attempt)| attempt.subscription == subscription && attempt.is_unknown() && !attempt.orphaned)
            .map(|(_, attempt)| attempt.request)
            .collect();
        let mut charge = |request| {
            let claim = Claim::new(FRESH, subscription, request);
            let claimed = database.claim(claim, self.rules.variant);
            match (claimed.verdict, claimed.live) {
                (Verdict::Claimed, Some(live)) => {
                    database.settle(live, FRESH, ChargeState::Charged, self.rules.variant).state == ChargeState::Charged
                }
                (verdict, _) => verdict == Verdict::AlreadyCharged,
            }
        };
        unknown.into_iter().all(&mut charge) && charge(REQUESTS)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            database: Database { month: 0, attempts: [None; CALLS + 1] },
            calls: [IDLE; CALLS],
            late: LateStatement::NotYet,
            orders: [Order::None; CALLS],
            unrecorded: false,
            ends: [None; CALLS],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let begun = state.calls.iter().filter(|call| call.step != Step::Idle).count();
        let used = || {
            let calls = state.calls.iter().filter(|call| !matches!(call.step, Step::Idle | Step::Over));
            let attempts = state.database.attempts().map(|(_, attempt)| (attempt.subscription, attempt.request));
            calls.map(|call| (call.subscription, call.request)).chain(attempts)
        };
        let subscriptions = used().map(|(subscription, _)| subscription + 1).max().unwrap_or(0) + 1;
        let requests = used().map(|(_, request)| request + 1).max().unwrap_or(0) + 1;
        let (subscriptions, requests) = (subscriptions.min(self.rules.bounds.subscriptions), requests.min(REQUESTS));
        let is_late = state.late != LateStatement::NotYet;
        let is_deleted = state.database.attempts().any(|(_, attempt)| attempt.orphaned);
        let may_be_disturbed = usize::from(is_late) + usize::from(is_deleted) < self.rules.bounds.disturbances;
        let (may_be_late, may_be_deleted) = (may_be_disturbed && !is_late, may_be_disturbed && !is_deleted);
        for (call, one) in (0..).zip(&state.calls) {
            let Call { step, subscription, request, .. } = *one;
            match step {
                // Calls begin in order.
                Step::Idle if usize::from(call) > begun || call >= self.rules.bounds.calls => {}
                Step::Idle => {
                    for subscription in (0..subscriptions).filter(|it| !self.is_locked(state, *it)) {
                        for request in 0..requests {
                            if self.rules.variant == Variant::ClaimAfterCallOut {
                                sends(call, subscription, request, actions);
                                continue;
                            }
                            for (condition, may_call_out, expected_month, long_ago) in FOUND {
                                let claim = Claim::new(call, subscription, request);
                                let claim = Claim { condition, may_call_out, expected_month, long_ago, ..claim };
                                actions.push(Action::Claim(claim));
                            }
                            if may_be_late {
                                actions.push(Action::LoseClaim { call, subscription, request });
                            }
                        }
                    }
                }
                Step::Claiming if self.is_locked(state, subscription) => {}
                Step::Claiming => {
                    for condition in Condition::ALL {
                        actions.push(Action::Claim(Claim { condition, ..Claim::new(call, subscription, request) }));
                    }
                }
                Step::TakingOver(_) => actions.push(Action::TakeOver { call }),
                Step::Claimed => {
                    actions.push(Action::CannotSend { call });
                    match self.rules.sending {
                        _ if one.overdue => {}
                        Sending::AtOnce => sends(call, subscription, request, actions),
                        Sending::MayStop => actions.push(Action::LookAtClock { call }),
                    }
                }
                Step::Looked => sends(call, subscription, request, actions),
                Step::Answered(_) if one.attempt.is_none() => {
                    actions.push(Action::Claim(Claim::new(call, subscription, request)));
                }
                Step::Answered(_) => {
                    actions.push(Action::Settle { call });
                    if may_be_late {
                        actions.push(Action::LoseSettle { call });
                    }
                }
                Step::Over => {}
            }
        }
        if let LateStatement::UnderWay { call, .. } = state.late
            && !self.is_locked(state, state.calls[usize::from(call)].subscription)
        {
            actions.push(Action::ExecuteLate);
        }
        for (attempt, order) in (0..).zip(state.orders) {
            if order == Order::UnderWay {
                actions.extend([true, false].map(|taken| Action::Arrive { attempt, taken }));
            }
        }
        for (id, attempt) in state.database.attempts() {
            // Nothing depends on the deadline of an orphan.
            if attempt.state == ChargeState::InFlight && !attempt.past_deadline && !attempt.orphaned {
                actions.push(Action::DeadlinePasses { attempt: id });
            }
            if self.rules.decisions && attempt.is_unknown() && !attempt.orphaned {
                match state.order_of(attempt.request) {
                    Order::Taken => actions.push(Action::Decide { attempt: id, outcome: ChargeState::Charged }),
                    Order::UnderWay => {}
                    Order::None => actions.push(Action::Decide { attempt: id, outcome: ChargeState::NotSent }),
                }
            }
        }
        if state.database.month == 0 {
            actions.push(Action::MonthEnds);
        }
        for subscription in
            (0..self.rules.bounds.subscriptions).filter(|it| may_be_deleted && !self.is_locked(state, *it))
        {
            if state.database.attempts().any(|(_, attempt)| attempt.subscription == subscription) {
                actions.push(Action::Delete { subscription });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Claim(claim) => {
                let one = &mut state.calls[usize::from(claim.call)];
                let begins = one.step == Step::Idle;
                (one.subscription, one.request) = (claim.subscription, claim.request);
                self.claim(&mut state, claim);
                // A claim that is refused at once leaves no trace; the call can be used for another one.
                if begins && state.calls[usize::from(claim.call)].step == Step::Over {
                    return None;
                }
            }
            Action::LoseClaim { call, subscription, request } => {
                let one = &mut state.calls[usize::from(call)];
                (one.subscription, one.request) = (subscription, request);
                one.step = Step::Claiming;
                state.late = LateStatement::UnderWay { call, statement: Late::Claim };
            }
            Action::TakeOver { call } => {
                let Step::TakingOver(id) = state.calls[usize::from(call)].step else { return None };
                state.database.take_over(id, call, self.rules.variant);
                let Call { subscription, request, .. } = state.calls[usize::from(call)];
                let claim = Claim::new(call, subscription, request);
                let claimed = state.database.claim(claim, self.rules.variant);
                let one = &mut state.calls[usize::from(call)];
                one.attempt = claimed.live;
                one.step = if claimed.verdict == Verdict::Claimed { Step::Claimed } else { Step::Over };
            }
            Action::CannotSend { call } => {
                state.calls[usize::from(call)].step = Step::Answered(ChargeState::NotSent);
            }
            Action::LookAtClock { call } => state.calls[usize::from(call)].step = Step::Looked,
            Action::Send { call, subscription, request, reply } => {
                let one = &mut state.calls[usize::from(call)];
                (one.subscription, one.request) = (subscription, request);
                one.step = Step::Answered(match reply {
                    Reply::Takes => ChargeState::Charged,
                    Reply::Refuses => ChargeState::Rejected,
                    Reply::Nothing => ChargeState::Unknown,
                });
                let order = match reply {
                    Reply::Takes => Order::Taken,
                    Reply::Refuses => Order::None,
                    Reply::Nothing => Order::UnderWay,
                };
                match one.attempt {
                    Some(attempt) => {
                        let orders = &mut state.orders[usize::from(attempt)];
                        *orders = order.max(*orders);
                    }
                    None => state.unrecorded = true,
                }
            }
            Action::Arrive { attempt, taken } => {
                state.orders[usize::from(attempt)] = if taken { Order::Taken } else { Order::None };
            }
            Action::Settle { call } => {
                let Step::Answered(outcome) = state.calls[usize::from(call)].step else { return None };
                self.settle(&mut state, call, outcome);
                state.calls[usize::from(call)].step = Step::Over;
            }
            Action::LoseSettle { call } => {
                let Step::Answered(outcome) = state.calls[usize::from(call)].step else { return None };
                state.late = LateStatement::UnderWay { call, statement: Late::Settle(outcome) };
            }
            Action::ExecuteLate => {
                let LateStatement::UnderWay { call, statement } = state.late else { return None };
                // Nobody hears the answer. If the subscription is not active, or the month is another one, this writes nothing.
                let unaware = state.calls[usize::from(call)];
                match statement {
                    Late::Claim => {
                        self.claim(&mut state, Claim::new(call, unaware.subscription, unaware.request));
                    }
                    Late::Settle(outcome) => self.settle(&mut state, call, outcome),
                }
                state.calls[usize::from(call)] = unaware;
                state.late = LateStatement::Executed;
            }
            Action::DeadlinePasses { attempt } => {
                let row = state.database.attempts[usize::from(attempt)].as_mut()?;
                row.past_deadline = true;
                if let Token::Call(holder) = row.token {
                    // Its time to send ended earlier.
                    state.calls[usize::from(holder)].overdue = true;
                }
            }
            Action::MonthEnds => state.database.month = 1,
            Action::Decide { attempt, outcome } => {
                self.record(state.database, Function::Resolve { attempt, outcome });
                state.database.resolve(attempt, outcome, self.rules.variant);
            }
            Action::Delete { subscription } => {
                self.record(state.database, Function::Delete { subscription });
                state.database.delete(subscription);
            }
        }
        state.tidy();
        if self.rules.sorted {
            state.sort();
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ORDER, |_, state: &State| {
                let taken = || state.taken().filter(|attempt| !attempt.orphaned);
                let month = |attempt: &Attempt| (attempt.subscription, attempt.month);
                taken().all(|one| taken().all(|other| month(one) != month(other) || one.request == other.request))
            }),
            Property::always(ONE_OWNER, |_, state: &State| {
                let counted = || state.database.attempts().filter(|(_, attempt)| !attempt.orphaned);
                counted().all(|(id, one)| {
                    counted().all(|(other_id, other)| {
                        let owner = |attempt: &Attempt| (attempt.subscription, attempt.month);
                        let both_live = id != other_id && one.is_live() && other.is_live();
                        match (one.request == other.request, owner(one) == owner(other)) {
                            (false, false) => true,
                            (true, false) => false,
                            (_, true) => !both_live,
                        }
                    })
                })
            }),
            Property::always(RECORDED, |_, state: &State| !state.unrecorded),
            Property::always(FOR_GOOD, |model: &Self, state: &State| {
                let stays = |id, end| {
                    let attempt = state.database.attempt(id);
                    // Only a stop before the sending makes a decision untrue, and only an order corrects it.
                    attempt.state == end
                        || model.rules.sending == Sending::MayStop
                            && attempt.state == ChargeState::Charged
                            && state.orders[usize::from(id)] == Order::Taken
                };
                (0..).zip(state.ends).all(|(id, end)| end.is_none_or(|end| stays(id, end)))
            }),
            Property::always(LATE_HOLDS, |_, state: &State| {
                state.database.attempts().filter(|(_, attempt)| attempt.late_order && !attempt.orphaned).all(
                    |(_, late)| {
                        state.database.attempts().any(|(_, holder)| {
                            let owner = |attempt: &Attempt| (attempt.subscription, attempt.month);
                            let holds = owner(holder) == owner(late) || holder.request == late.request;
                            holds && holder.is_live() && !holder.released
                        })
                    },
                )
            }),
            Property::always(CHARGED_IS_ORDERED, |_, state: &State| {
                let charged = state.database.attempts().filter(|(_, attempt)| attempt.state == ChargeState::Charged);
                charged.into_iter().all(|(_, attempt)| state.order_of(attempt.request) == Order::Taken)
            }),
            Property::always(OPEN_IS_OPEN, |_, state: &State| {
                state.taken().all(|attempt| attempt.is_live() || attempt.orphaned)
            }),
            Property::always(WAY_FORWARD, |model: &Self, state| model.has_way_forward(state)),
            Property::sometimes("an attempt is in flight", |_, state: &State| state.has(ChargeState::InFlight)),
            Property::sometimes("an attempt is charged", |_, state: &State| state.has(ChargeState::Charged)),
            Property::sometimes("an attempt is rejected", |_, state: &State| state.has(ChargeState::Rejected)),
            Property::sometimes("an attempt is not sent", |_, state: &State| state.has(ChargeState::NotSent)),
            Property::sometimes("an attempt is unknown", |_, state: &State| state.has(ChargeState::Unknown)),
            Property::sometimes("an orphan releases its month", |_, state: &State| {
                state.database.attempts().any(|(_, attempt)| attempt.released)
            }),
            Property::sometimes("an order is taken for a subscription that was deleted", |_, state: &State| {
                state.taken().any(|attempt| attempt.orphaned && attempt.state == ChargeState::Charged)
            }),
        ]
    }
}

pub const ONE_ORDER: &str = "never two orders for one subscription and month under different request_ids";
pub const ONE_OWNER: &str =
    "a request_id has one subscription and month, and each request_id and month has one live attempt";
pub const RECORDED: &str = "an order that is sent has its attempt";
pub const FOR_GOOD: &str = "what is charged, rejected or not sent stays so, so what an answer said stays true";
pub const LATE_HOLDS: &str = "a success that comes after a decision holds its month, or another attempt does";
pub const CHARGED_IS_ORDERED: &str = "what is charged was ordered";
pub const OPEN_IS_OPEN: &str = "an attempt that opened its month has no order";
pub const WAY_FORWARD: &str = "a repeat or a decision ends what is unknown, and the month can be charged";

impl State {
    /// The attempts whose order the platform has taken.
    fn taken(&self) -> impl Iterator<Item = &Attempt> {
        (0..).zip(&self.orders).filter(|(_, order)| **order == Order::Taken).map(|(id, _)| self.database.attempt(id))
    }

    /// The platform's record of a request_id, now or later.
    fn order_of(&self, request: u8) -> Order {
        let orders = self.database.attempts().filter(|(_, attempt)| attempt.request == request);
        orders.map(|(id, _)| self.orders[usize::from(id)]).max().unwrap_or(Order::None)
    }

    fn has(&self, wanted: ChargeState) -> bool {
        self.database.attempts().any(|(_, attempt)| attempt.state == wanted)
    }
}

fn sends(call: u8, subscription: u8, request: u8, actions: &mut Vec<Action>) {
    for reply in [Reply::Takes, Reply::Refuses, Reply::Nothing] {
        actions.push(Action::Send { call, subscription, request, reply });
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
