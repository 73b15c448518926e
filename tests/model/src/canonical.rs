//! One state, and one transition, for all whose futures do not differ.

use crate::{
    database::{Attempt, CALLS, ChargeState, Claim, Database, Token},
    protocol::{Call, Function, IDLE, LateStatement, Order, State, Step, Transition},
};

impl State {
    /// Forgets what makes no difference to the future.
    pub(crate) fn tidy(&mut self) {
        for (end, attempt) in self.ends.iter_mut().zip(&self.database.attempts) {
            let state = attempt.map(|attempt| attempt.state);
            *end = end.or(state.filter(|state| !matches!(state, ChargeState::InFlight | ChargeState::Unknown)));
        }
        let late = self.late;
        let is_late = |id| matches!(late, LateStatement::UnderWay { call, .. } if call == id);
        for (id, call) in (0..).zip(&mut self.calls) {
            call.overdue &= matches!(call.step, Step::Claiming | Step::Claimed);
            if call.step == Step::Over && !is_late(id) {
                *call = Call { step: Step::Over, ..IDLE };
                // No call will use its token.
                for attempt in self.database.attempts.iter_mut().flatten() {
                    if attempt.token == Token::Call(id) {
                        attempt.token = Token::Person;
                    }
                }
            }
        }
        let calls = self.calls;
        for (id, slot) in (0..).zip(&mut self.database.attempts) {
            let Some(attempt) = slot else { continue };
            let is_held =
                is_late(id) || calls.iter().any(|call| call.attempt == Some(id) || call.step == Step::TakingOver(id));
            let ended = !matches!(attempt.state, ChargeState::InFlight | ChargeState::Unknown);
            if ended {
                attempt.possibly_sent = false;
            }
            let forgotten = attempt.orphaned && (attempt.released || !attempt.is_live());
            if forgotten
                && !is_held
                && self.orders[usize::from(id)] == Order::None
                && calls[usize::from(id)].step == Step::Over
            {
                *slot = None;
                self.ends[usize::from(id)] = None;
            }
        }
    }

    /// The same state with its calls in another order, the same one for as many such states as possible.
    pub(crate) fn sort(&mut self) {
        let mut order: [u8; CALLS] = std::array::from_fn(|id| id as u8);
        order.sort_by_key(|id| {
            let Call { step, subscription, request, overdue, .. } = self.calls[usize::from(*id)];
            let attempt =
                self.database.attempts[usize::from(*id)].map(|attempt| Attempt { token: Token::Person, ..attempt });
            let late = matches!(self.late, LateStatement::UnderWay { call, .. } if call == *id);
            (step == Step::Idle, attempt, self.orders[usize::from(*id)], step, request, subscription, overdue, late)
        });
        let before = *self;
        let renamed = |old: u8| order.iter().position(|id| *id == old).map_or(old, |new| new as u8);
        for (new, old) in order.into_iter().map(usize::from).enumerate() {
            let call = before.calls[old];
            let step = if let Step::TakingOver(id) = call.step { Step::TakingOver(renamed(id)) } else { call.step };
            self.calls[new] = Call { step, attempt: call.attempt.map(renamed), ..call };
            self.orders[new] = before.orders[old];
            self.ends[new] = before.ends[old];
            self.database.attempts[new] = before.database.attempts[old].map(|attempt| match attempt.token {
                Token::Call(holder) => Attempt { token: Token::Call(renamed(holder)), ..attempt },
                Token::Person => attempt,
            });
        }
        if let LateStatement::UnderWay { call, .. } = &mut self.late {
            *call = renamed(*call);
        }
    }
}

impl Transition {
    /// The same call of the same function, with everything named by its part in it: the call that makes it is 0, and so are its
    /// subscription and request_id. What the function cannot see is left out.
    pub fn renamed(self) -> Self {
        let Self { before: Database { month, attempts }, function } = self;
        match function {
            Function::Claim(claim) => {
                let rename = |attempt: Attempt| Attempt {
                    subscription: u8::from(attempt.subscription != claim.subscription),
                    request: u8::from(attempt.request != claim.request),
                    token: if attempt.token == Token::Call(claim.call) { Token::Call(0) } else { Token::Person },
                    ..attempt
                };
                let own = usize::from(claim.call);
                let mut others: Vec<_> =
                    (0..).zip(attempts).filter(|(id, _)| *id != own).filter_map(|(_, it)| it).map(rename).collect();
                others.retain(|other| other.subscription == 0 || other.request == 0);
                others.sort();
                let mut renamed = [None; CALLS + 1];
                renamed[0] = attempts[own].map(rename);
                for (place, other) in renamed[1..].iter_mut().zip(others) {
                    *place = Some(other);
                }
                let claim = Claim { call: 0, subscription: 0, request: 0, ..claim };
                Self { before: Database { month, attempts: renamed }, function: Function::Claim(claim) }
            }
            Function::Settle { attempt, call, outcome } => {
                let has_ended = attempts[usize::from(attempt)].is_some_and(|settled| !settled.is_live());
                let may_be_late = outcome == ChargeState::Charged && has_ended;
                let function = Function::Settle { attempt: 0, call: 0, outcome };
                Self { before: self.before.around(attempt, Some(call), may_be_late), function }
            }
            Function::Resolve { attempt, outcome } => {
                let function = Function::Resolve { attempt: 0, outcome };
                Self { before: self.before.around(attempt, None, false), function }
            }
            Function::Delete { subscription } => {
                let mut of_it: Vec<_> = attempts.into_iter().flatten().collect();
                of_it.retain(|attempt| attempt.subscription == subscription);
                let of_it = of_it.into_iter().map(|it| Attempt { subscription: 0, token: Token::Person, ..it });
                let mut renamed: [Option<Attempt>; CALLS + 1] = [None; CALLS + 1];
                for (place, attempt) in renamed.iter_mut().zip(of_it) {
                    *place = Some(attempt);
                }
                renamed.sort();
                Self { before: Database { month, attempts: renamed }, function: Function::Delete { subscription: 0 } }
            }
        }
    }
}

impl Database {
    /// This attempt, and those that share its subscription or its request_id, where they can matter: to a success that may be
    /// late, and if one of them has a late order.
    fn around(self, attempt: u8, call: Option<u8>, may_be_late: bool) -> Self {
        let mut around = Self { month: self.month, attempts: [None; CALLS + 1] };
        let Some(one) = self.attempts[usize::from(attempt)] else { return around };
        let own = call.is_some_and(|call| one.token == Token::Call(call));
        let token = if own { Token::Call(0) } else { Token::Person };
        around.attempts[0] = Some(Attempt { subscription: 0, request: 0, token, ..one });
        let rename = |other: Attempt| Attempt {
            subscription: u8::from(other.subscription != one.subscription),
            request: u8::from(other.request != one.request),
            token: Token::Person,
            ..other
        };
        let others = (0..).zip(self.attempts).filter(|(id, _)| *id != attempt).filter_map(|(_, other)| other);
        let mut others: Vec<_> = others.map(rename).collect();
        others.retain(|other| other.subscription == 0 || other.request == 0);
        others.sort();
        if may_be_late || others.iter().any(|other| other.late_order) {
            for (place, other) in around.attempts[1..].iter_mut().zip(others) {
                *place = Some(other);
            }
        }
        around
    }
}
