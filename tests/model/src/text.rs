//! A counterexample in words.

use std::fmt;

use crate::{
    database::Claim,
    protocol::{Action, Order, Reply, State},
};

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |request: u8| char::from(b'a' + request);
        let number = |id: u8| id + 1;
        match *self {
            Self::Claim(Claim { call, subscription, request, condition, may_call_out, expected_month, long_ago }) => {
                let (call, subscription, request) = (number(call), number(subscription), letter(request));
                write!(out, "call {call} claims for subscription {subscription} ({condition:?}) under {request}")?;
                if let Some(month) = expected_month {
                    write!(out, ", for month {}", number(month))?;
                }
                if long_ago {
                    write!(out, ", more than a day later")?;
                }
                if may_call_out { Ok(()) } else { write!(out, ", without the time to send") }
            }
            Self::LoseClaim { call, subscription, request } => {
                let (call, subscription, request) = (number(call), number(subscription), letter(request));
                write!(
                    out,
                    "call {call} claims for subscription {subscription} under {request}, and nothing comes back"
                )
            }
            Self::TakeOver { call } => write!(out, "call {} updates the attempt that it saw unknown", number(call)),
            Self::CannotSend { call } => write!(out, "call {} cannot send, or is throttled", number(call)),
            Self::LookAtClock { call } => write!(out, "call {} sees that there is time to send", number(call)),
            Self::Send { call, request, reply, .. } => {
                let reply = match reply {
                    Reply::Takes => "the platform takes it",
                    Reply::Refuses => "the platform refuses it",
                    Reply::Nothing => "no answer comes",
                };
                write!(out, "call {} sends {}; {reply}", number(call), letter(request))
            }
            Self::Arrive { attempt, taken: true } => {
                write!(out, "the platform takes the order of attempt {}", number(attempt))
            }
            Self::Arrive { attempt, taken: false } => write!(out, "the order of attempt {} is lost", number(attempt)),
            Self::Settle { call } => write!(out, "call {} settles", number(call)),
            Self::LoseSettle { call } => write!(out, "call {} settles, and nothing comes back", number(call)),
            Self::ExecuteLate => write!(out, "the database executes what came late"),
            Self::DeadlinePasses { attempt } => write!(out, "the deadline of attempt {} passes", number(attempt)),
            Self::MonthEnds => write!(out, "the month ends"),
            Self::Decide { attempt, outcome } => {
                write!(out, "a person decides that attempt {} is {}", number(attempt), outcome.word())
            }
            Self::Delete { subscription } => write!(out, "subscription {} is deleted", number(subscription)),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orders = self.orders.into_iter().chain([Order::None]);
        for ((id, attempt), order) in (1..).zip(&self.database.attempts).zip(orders) {
            let Some(attempt) = attempt else { continue };
            let request = char::from(b'a' + attempt.request);
            write!(out, "[{id}: {request} of subscription {}, month {}", attempt.subscription + 1, attempt.month + 1)?;
            write!(out, ", {}", attempt.state.word())?;
            for (word, holds) in [
                ("past its deadline", attempt.past_deadline),
                ("possibly sent", attempt.possibly_sent),
                ("orphaned", attempt.orphaned),
                ("ordered", order == Order::Taken),
            ] {
                if holds {
                    write!(out, ", {word}")?;
                }
            }
            write!(out, "]")?;
        }
        Ok(())
    }
}
