//! The ledger, and the database functions of the protocol: what migrations/sql says, as functions on a small value.
//!
//! Each function here is one step. In PostgreSQL, `claim_charge()` is several statements. That is the same, because:
//!
//! - A replay or a refusal is decided by one statement, which sees one moment, and nothing is written.
//! - To open or to take over, it locks the subscription's row and looks again. From this look to the commit, no other claim
//!   for the subscription and no DELETE or TRUNCATE comes between. A claim for another subscription can only collide on the
//!   request_id, and there the unique index decides: the later one inserts nothing and looks again.
//! - `settle_charge()` and `resolve_charge()` do not take that lock. They can come between the second look and a take-over,
//!   so the take-over tests the row that it updates. [`Claims::InTwoSteps`](crate::protocol::Claims::InTwoSteps)
//!   shows that this is needed, and that it is enough.

use crate::protocol::Variant;

/// The number of calls, and the most attempts: each call opens at most one.
pub const CALLS: usize = 3;
/// The call that shows a way forward.
pub const FRESH: u8 = CALLS as u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChargeState {
    InFlight,
    Charged,
    Rejected,
    NotSent,
    Unknown,
}

impl ChargeState {
    /// The database's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Charged => "charged",
            Self::Rejected => "rejected",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        }
    }
}

/// The holder of an attempt. A call keeps its token when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Token {
    Call(u8),
    /// A decision's. No call has it.
    Person,
}

/// A row of the ledger. Its id is that of the call that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub subscription: u8,
    pub month: u8,
    pub request: u8,
    /// As stored: in flight past the deadline is still `InFlight` here.
    pub state: ChargeState,
    pub possibly_sent: bool,
    pub token: Token,
    /// Only of an attempt in flight.
    pub past_deadline: bool,
    /// The platform's success arrived after the attempt had ended otherwise and another one held its month.
    pub late_order: bool,
    /// Its subscription was deleted.
    pub orphaned: bool,
    /// The orphan holds its month and its request_id no more.
    pub released: bool,
}

impl Attempt {
    /// True if it holds its month and its request_id.
    pub fn is_live(&self) -> bool {
        matches!(self.state, ChargeState::InFlight | ChargeState::Unknown | ChargeState::Charged)
    }

    /// True if its outcome is unknown, as the view `charge_ledger` has it.
    pub fn is_unknown(&self) -> bool {
        self.state == ChargeState::Unknown || self.state == ChargeState::InFlight && self.past_deadline
    }
}

/// A claim's view of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    Active,
    /// Or paused, or its club is inactive.
    Cancelled,
    /// Active, without a customer to send.
    Nameless,
    Absent,
}

impl Condition {
    pub const ALL: [Self; 4] = [Self::Active, Self::Cancelled, Self::Nameless, Self::Absent];
}

/// The database at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Database {
    pub month: u8,
    pub attempts: [Option<Attempt>; CALLS + 1],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Claimed,
    AlreadyCharged,
    InProgress,
    OutcomeUnknown,
    Undecidable,
    NotChargeable,
    NoTime,
    MonthMismatch,
    RequestIdReused,
    SubscriptionNotFound,
}

impl Verdict {
    pub const ALL: [Self; 10] = [
        Self::Claimed,
        Self::AlreadyCharged,
        Self::InProgress,
        Self::OutcomeUnknown,
        Self::Undecidable,
        Self::NotChargeable,
        Self::NoTime,
        Self::MonthMismatch,
        Self::RequestIdReused,
        Self::SubscriptionNotFound,
    ];

    /// The database's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::AlreadyCharged => "already_charged",
            Self::InProgress => "in_progress",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Undecidable => "undecidable",
            Self::NotChargeable => "not_chargeable",
            Self::NoTime => "no_time",
            Self::MonthMismatch => "month_mismatch",
            Self::RequestIdReused => "request_id_reused",
            Self::SubscriptionNotFound => "subscription_not_found",
        }
    }
}

/// A call of `claim_charge()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub call: u8,
    pub subscription: u8,
    pub request: u8,
    pub condition: Condition,
    pub may_call_out: bool,
    /// The month that the caller means.
    pub expected_month: Option<u8>,
    /// The month was charged more than a day ago.
    pub long_ago: bool,
}

impl Claim {
    /// For an active subscription and any month, with the time to call out.
    pub fn new(call: u8, subscription: u8, request: u8) -> Self {
        let condition = Condition::Active;
        Self { call, subscription, request, condition, may_call_out: true, expected_month: None, long_ago: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub verdict: Verdict,
    /// None if the request_id is only another subscription's.
    pub month: Option<u8>,
    /// The month's live attempt.
    pub live: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub state: ChargeState,
    pub own: bool,
    pub month: u8,
    pub orphaned: bool,
}

/// The result of a look: a verdict, or something to write.
pub enum Look {
    Decided(Verdict),
    /// For this month.
    Open(u8),
    TakeOver(u8),
}

/// The times that `claim_charge()` writes and looks again.
const WRITES: usize = 5;

impl Database {
    pub fn attempts(&self) -> impl Iterator<Item = (u8, &Attempt)> {
        (0..).zip(&self.attempts).filter_map(|(id, attempt)| Some((id, attempt.as_ref()?)))
    }

    pub fn attempt(&self, id: u8) -> &Attempt {
        self.attempts[usize::from(id)].as_ref().expect("a call holds an attempt that exists")
    }

    fn attempt_mut(&mut self, id: u8) -> &mut Attempt {
        self.attempts[usize::from(id)].as_mut().expect("a call holds an attempt that exists")
    }

    /// migrations/sql/claim_charge.sql
    pub fn claim(&mut self, claim: Claim, variant: Variant) -> Claimed {
        for _ in 0..WRITES {
            let (look, month, live) = self.look(claim, variant);
            match look {
                Look::Decided(verdict) => return Claimed { verdict, month, live },
                Look::TakeOver(id) => self.take_over(id, claim.call, variant),
                Look::Open(month) => self.open(claim, month, variant),
            }
        }
        let (look, month, live) = self.look(claim, variant);
        match look {
            Look::Decided(verdict) => Claimed { verdict, month, live },
            Look::Open(_) | Look::TakeOver(_) => Claimed { verdict: Verdict::InProgress, month, live },
        }
    }

    /// The result of a look, the call's month, and the month's live attempt.
    pub fn look(&self, claim: Claim, variant: Variant) -> (Look, Option<u8>, Option<u8>) {
        let used = || {
            let of_request = |attempt: &&Attempt| attempt.request == claim.request && !attempt.orphaned;
            self.attempts().map(|(_, attempt)| attempt).filter(of_request)
        };
        let own = || used().filter(|attempt| attempt.subscription == claim.subscription);
        let own_live = own().any(Attempt::is_live);
        let first_month = if variant == Variant::MonthOfTheCall { None } else { own().map(|own| own.month).min() };
        let month = first_month.unwrap_or(self.month);
        let holds = |attempt: &Attempt| {
            (attempt.subscription, attempt.month) == (claim.subscription, month)
                && attempt.is_live()
                && !attempt.orphaned
                && (variant != Variant::SecondRequestWhileUnknown
                    || !attempt.is_unknown()
                    || attempt.request == claim.request)
        };
        let live = self.attempts().find(|(_, attempt)| holds(attempt));

        let is_charged = live.is_some_and(|(_, live)| live.state == ChargeState::Charged);

        let by_another = used().any(|attempt| attempt.subscription != claim.subscription);
        let is_over = month < self.month;
        // A repeat across midnight is answered. A request_id that is used every month is refused.
        let every_month = is_over && is_charged && claim.long_ago && claim.expected_month.is_none();

        // The first line that fits decides.
        let decided = if claim.condition == Condition::Absent {
            Some(Verdict::SubscriptionNotFound)
        } else if claim.expected_month.is_some_and(|expected| expected != month) {
            Some(Verdict::MonthMismatch)
        } else if !own_live && (by_another || is_over) || every_month {
            Some(Verdict::RequestIdReused)
        } else if let Some((_, live)) = live {
            if live.state == ChargeState::Charged {
                Some(Verdict::AlreadyCharged)
            } else if !live.is_unknown() {
                let own = live.token == Token::Call(claim.call);
                Some(if own { Verdict::Claimed } else { Verdict::InProgress })
            } else if live.request != claim.request {
                Some(Verdict::OutcomeUnknown)
            } else if claim.condition == Condition::Cancelled {
                Some(Verdict::Undecidable)
            } else {
                None
            }
        } else if claim.condition != Condition::Active {
            Some(Verdict::NotChargeable)
        } else {
            None
        };
        let look = match (decided, live) {
            (Some(verdict), _) => Look::Decided(verdict),
            (None, _) if !claim.may_call_out => Look::Decided(Verdict::NoTime),
            (None, Some((id, _))) => Look::TakeOver(id),
            (None, None) => Look::Open(month),
        };
        let month =
            if decided == Some(Verdict::RequestIdReused) { own().map(|own| own.month).min() } else { Some(month) };
        (look, month, live.map(|(id, _)| id))
    }

    /// The update of a take-over, which tests the row that it updates.
    pub fn take_over(&mut self, id: u8, call: u8, variant: Variant) {
        let attempt = self.attempt_mut(id);
        if attempt.is_unknown() || variant == Variant::UntestedTakeOver {
            attempt.state = ChargeState::InFlight;
            attempt.possibly_sent = variant != Variant::ForgetfulTakeOver;
            attempt.token = Token::Call(call);
            attempt.past_deadline = false;
        }
    }

    /// The insert, which the primary key and the two unique indexes may refuse. Then orphans are released.
    fn open(&mut self, Claim { call, subscription, request, .. }: Claim, month: u8, variant: Variant) {
        let holds = |attempt: &Attempt| {
            let month_index = variant != Variant::SecondRequestWhileUnknown
                && (attempt.subscription, attempt.month) == (subscription, month);
            attempt.is_live() && !attempt.released && (month_index || attempt.request == request)
        };
        if self.attempts[usize::from(call)].is_none() && !self.attempts().any(|(_, attempt)| holds(attempt)) {
            self.attempts[usize::from(call)] = Some(Attempt {
                subscription,
                month,
                request,
                state: ChargeState::InFlight,
                possibly_sent: false,
                token: Token::Call(call),
                past_deadline: false,
                late_order: false,
                orphaned: false,
                released: false,
            });
        } else {
            for attempt in self.attempts.iter_mut().flatten() {
                let in_the_way = attempt.subscription == subscription || attempt.request == request;
                attempt.released |= attempt.orphaned && attempt.is_live() && in_the_way;
            }
        }
    }

    /// migrations/sql/settle_charge.sql
    pub fn settle(&mut self, id: u8, call: u8, outcome: ChargeState, variant: Variant) -> Settled {
        let month_is_taken = self.is_taken_from(id) || variant == Variant::ForgottenLateOrder;
        let attempt = self.attempt_mut(id);
        let own = attempt.token == Token::Call(call) || variant == Variant::UnfencedSettle;
        if outcome == ChargeState::Charged {
            match attempt.state {
                ChargeState::Charged => {}
                ChargeState::Rejected | ChargeState::NotSent if month_is_taken => attempt.late_order = true,
                ChargeState::InFlight | ChargeState::Unknown | ChargeState::Rejected | ChargeState::NotSent => {
                    attempt.state = ChargeState::Charged;
                    attempt.token = Token::Call(call);
                    attempt.past_deadline = false;
                }
            }
        } else if attempt.state == ChargeState::InFlight && own {
            let uncertain = match variant {
                Variant::UnfencedSettle => false,
                Variant::RepeatReopens => attempt.past_deadline,
                Variant::RefusalEndsARepeat if outcome == ChargeState::Rejected => attempt.past_deadline,
                _ => attempt.possibly_sent || attempt.past_deadline,
            };
            attempt.state = if uncertain { ChargeState::Unknown } else { outcome };
            attempt.past_deadline = false;
            self.hold_by_late_order(id, variant);
        }
        let Attempt { state, token, month, orphaned, .. } = *self.attempt(id);
        Settled { state, own: token == Token::Call(call), month, orphaned }
    }

    /// True if one of the two unique indexes refuses to make this attempt live again.
    fn is_taken_from(&self, id: u8) -> bool {
        let attempt = self.attempt(id);
        let takes = |(other_id, other): (u8, &Attempt)| {
            let owner = |attempt: &Attempt| (attempt.subscription, attempt.month);
            let shares = owner(other) == owner(attempt) || other.request == attempt.request;
            other_id != id && shares && other.is_live() && !other.released
        };
        !attempt.released && self.attempts().any(takes)
    }

    /// migrations/sql/resolve_charge.sql; false if it refuses.
    pub fn resolve(&mut self, id: u8, outcome: ChargeState, variant: Variant) -> bool {
        let attempt = self.attempt_mut(id);
        let resolvable = attempt.is_unknown();
        if resolvable {
            attempt.state = outcome;
            attempt.token = Token::Person;
            attempt.past_deadline = false;
            self.hold_by_late_order(id, variant);
        }
        resolvable
    }

    /// migrations/sql/hold_by_late_order.sql
    fn hold_by_late_order(&mut self, ended: u8, variant: Variant) {
        let ended = *self.attempt(ended);
        let owner = |attempt: &Attempt| (attempt.subscription, attempt.month);
        let holds = |(id, attempt): &(u8, &Attempt)| {
            let is_late = attempt.late_order && !attempt.is_live() && !attempt.released && !attempt.orphaned;
            is_late && owner(attempt) == owner(&ended) && !self.is_taken_from(*id)
        };
        let late = self.attempts().find(holds).map(|(id, _)| id);
        if let Some(id) = late.filter(|_| !ended.is_live() && variant != Variant::LateOrderNeverHolds) {
            self.attempt_mut(id).state = ChargeState::Charged;
        }
    }

    /// DELETE of a subscription, and the trigger in migrations/sql/orphan_note.sql.
    pub fn delete(&mut self, subscription: u8) {
        for attempt in self.attempts.iter_mut().flatten().filter(|attempt| attempt.subscription == subscription) {
            attempt.orphaned = true;
        }
    }
}
