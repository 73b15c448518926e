//! The due list and the ledger of a month, side by side, as the API gives them.

use std::{fmt, pin::pin};

use clap::ValueEnum;
use futures_util::{Stream, TryStreamExt, stream};
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    client::{Client, Pages},
    engine::Options,
    rules,
};

/// The state of a subscription's month: the ledger's words, and one for a subscription that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum State {
    Charged,
    Rejected,
    /// Also those in flight
    Unknown,
    InFlight,
    /// Due, without an attempt; also those that were not sent
    Left,
    NotSent,
}

#[derive(Debug, Deserialize)]
pub struct Attempt {
    subscription_id: String,
    pub request_id: String,
    pub state: State,
    pub settled_at: Option<String>,
    pub upstream_status: Option<u16>,
    pub upstream_answer: Option<Box<RawValue>>,
    /// A person's decision ended it.
    decided_by: Option<String>,
}

/// A subscription that is due, or has an attempt in the month.
#[derive(Debug)]
pub struct Subscription {
    pub id: String,
    pub is_due: bool,
    /// The oldest first.
    pub attempts: Vec<Attempt>,
}

/// A run settles what is unknown, then passes over the due list at most three times.
pub const SETTLING: u8 = 0;
pub const FIRST_PASS: u8 = 1;
pub const LAST_PASS: u8 = 3;

impl Subscription {
    /// The attempt that says how its month stands: the live one, else the latest.
    pub fn attempt(&self) -> Option<&Attempt> {
        let is_live = |attempt: &&Attempt| match attempt.state {
            State::InFlight | State::Unknown | State::Charged => true,
            State::Rejected | State::NotSent | State::Left => false,
        };
        self.attempts.iter().find(is_live).or(self.attempts.last())
    }

    pub fn state(&self) -> State {
        self.attempt().map_or(State::Left, |attempt| attempt.state)
    }

    /// The request_id to charge it under in this pass; none, if this pass leaves it.
    pub fn request_id(&self, month: &str, pass: u8, options: &Options) -> Option<String> {
        let Some(attempt) = self.attempt() else {
            return (self.is_due && pass != SETTLING).then(|| rules::request_id(month, 1, &self.id));
        };
        // A later pass is for those who became eligible meanwhile.
        let is_charged_now = match attempt.state {
            State::Charged | State::Left => false,
            State::InFlight | State::Unknown => pass == SETTLING,
            State::NotSent => self.is_due && pass == FIRST_PASS,
            State::Rejected => self.is_due && pass == FIRST_PASS && options.retry_rejected,
        };
        is_charged_now.then(|| {
            if attempt.state == State::Rejected && options.new_number {
                let by_platform = |attempt: &&Attempt| attempt.state == State::Rejected && attempt.decided_by.is_none();
                rules::request_id(month, 1 + self.attempts.iter().filter(by_platform).count(), &self.id)
            } else {
                attempt.request_id.clone()
            }
        })
    }
}

/// The subscriptions of a month that have an attempt with one of these states, or are due. They are ordered by bytes, so
/// two lists are enough, and nothing is remembered.
pub fn subscriptions<'a>(
    due: Option<Pages<'a, String>>,
    attempts: Pages<'a, Attempt>,
) -> impl Stream<Item = anyhow::Result<Subscription>> + 'a {
    stream::try_unfold((due, attempts), async |(mut due, mut attempts)| {
        let next_due = match &mut due {
            Some(due) => due.peek().await?.map(String::as_str),
            None => None,
        };
        let with_attempt = attempts.peek().await?.map(|attempt| attempt.subscription_id.as_str());
        let Some(id) = [next_due, with_attempt].into_iter().flatten().min() else { return Ok(None) };
        let id = id.to_owned();
        let is_due = next_due == Some(&*id);
        if let (true, Some(due)) = (is_due, &mut due) {
            due.take();
        }
        let mut of_it = Vec::new();
        while attempts.peek().await?.is_some_and(|attempt| attempt.subscription_id == id) {
            of_it.extend(attempts.take());
        }
        Ok(Some((Subscription { id, is_due, attempts: of_it }, (due, attempts))))
    })
}

/// The subscriptions that a pass may charge, and others, after this one.
pub fn of_pass<'a>(
    client: &'a Client,
    month: &str,
    pass: u8,
    after: Option<&str>,
) -> impl Stream<Item = anyhow::Result<Subscription>> + 'a {
    if pass == SETTLING {
        subscriptions(None, client.attempts(month, Some("in_flight,unknown")))
    } else {
        subscriptions(
            Some(client.due(month, after)),
            client.attempts(month, Some("in_flight,unknown,rejected,not_sent")),
        )
    }
}

/// Subscriptions by the state of their month.
#[derive(Deserialize)]
pub struct LedgerCounts {
    charged: u64,
    in_flight: u64,
    unknown: u64,
    rejected: u64,
    not_sent: u64,
}

/// The subscriptions that are eligible or have an attempt in the month.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub eligible: u64,
    pub charged: u64,
    pub rejected: u64,
    /// Also those that another call is charging.
    pub unknown: u64,
    /// Neither charged nor rejected.
    pub left: u64,
}

impl State {
    /// The state as which it is counted.
    pub fn counted(self) -> Self {
        match self {
            Self::Charged | Self::Rejected | Self::Unknown | Self::Left => self,
            Self::InFlight => Self::Unknown,
            Self::NotSent => Self::Left,
        }
    }
}

impl Counts {
    pub fn count(&mut self, state: State) {
        self.eligible += 1;
        *match state {
            State::Charged => &mut self.charged,
            State::Rejected => &mut self.rejected,
            State::Unknown | State::InFlight => &mut self.unknown,
            State::Left | State::NotSent => &mut self.left,
        } += 1;
    }

    /// Counted by the API, which knows who is eligible in the current month only.
    pub async fn read(client: &Client, month: &str, is_current: bool) -> anyhow::Result<Self> {
        let mut without_attempt = 0;
        if is_current {
            let mut subscriptions = pin!(of_pass(client, month, FIRST_PASS, None));
            while let Some(subscription) = subscriptions.try_next().await? {
                without_attempt += u64::from(subscription.attempts.is_empty());
            }
        }
        let LedgerCounts { charged, in_flight, unknown, rejected, not_sent } = client.counts(month).await?;
        let (unknown, left) = (unknown + in_flight, not_sent + without_attempt);
        Ok(Self { eligible: charged + rejected + unknown + left, charged, rejected, unknown, left })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { eligible, charged, rejected, unknown, left } = self;
        write!(formatter, "{} = {} charged", HumanCount(*eligible), HumanCount(*charged))?;
        write!(formatter, " + {} rejected + {} unknown", HumanCount(*rejected), HumanCount(*unknown))?;
        write!(formatter, " + {} left", HumanCount(*left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: &str = "2026-11";

    fn attempt(number: usize, state: State, decided_by: Option<&str>) -> Attempt {
        Attempt {
            subscription_id: "s".to_owned(),
            request_id: rules::request_id(MONTH, number, "s"),
            state,
            settled_at: None,
            upstream_status: None,
            upstream_answer: None,
            decided_by: decided_by.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn each_pass_charges_whom_it_is_for() {
        use State::{Charged, InFlight, NotSent, Rejected, Unknown};
        let [no, again, new_number] = [(false, false), (true, false), (true, true)]
            .map(|(retry_rejected, new_number)| Options { retry_rejected, new_number, ..Options::default() });
        let person = Some("a person");
        // The attempts, whether it is due, the pass, and what is charged then.
        for (attempts, is_due, pass, options, expected) in [
            (vec![], true, 0, &no, None),
            (vec![], true, 1, &no, Some("2026-11.s")),
            (vec![], true, 3, &no, Some("2026-11.s")),
            (vec![attempt(1, Unknown, None)], true, 0, &no, Some("2026-11.s")),
            (vec![attempt(1, InFlight, None)], false, 0, &no, Some("2026-11.s")),
            (vec![attempt(1, Unknown, None)], true, 1, &new_number, None),
            (vec![attempt(1, Rejected, None), attempt(2, Unknown, None)], true, 0, &new_number, Some("2026-11~2.s")),
            (vec![attempt(1, NotSent, None)], true, 1, &no, Some("2026-11.s")),
            (vec![attempt(1, NotSent, None)], true, 2, &no, None),
            (vec![attempt(1, NotSent, None)], false, 1, &no, None),
            (vec![attempt(1, Rejected, None), attempt(2, NotSent, None)], true, 1, &new_number, Some("2026-11~2.s")),
            (vec![attempt(1, Rejected, None)], true, 1, &no, None),
            (vec![attempt(1, Rejected, None)], true, 2, &again, None),
            (vec![attempt(1, Rejected, None)], false, 1, &again, None),
            (vec![attempt(1, Rejected, None)], true, 1, &again, Some("2026-11.s")),
            (vec![attempt(1, Rejected, None)], true, 1, &new_number, Some("2026-11~2.s")),
            (vec![attempt(1, Rejected, None), attempt(2, Rejected, None)], true, 1, &new_number, Some("2026-11~3.s")),
            (vec![attempt(1, Rejected, None), attempt(2, Rejected, None)], true, 1, &again, Some("2026-11~2.s")),
            (vec![attempt(1, Rejected, person)], true, 1, &new_number, Some("2026-11.s")),
            (vec![attempt(1, Rejected, None), attempt(2, Rejected, person)], true, 1, &new_number, Some("2026-11~2.s")),
            (vec![attempt(1, Rejected, None), attempt(2, Charged, None)], true, 1, &new_number, None),
        ] {
            let subscription = Subscription { id: "s".to_owned(), is_due, attempts };
            let request_id = subscription.request_id(MONTH, pass, options);
            assert_eq!(request_id.as_deref(), expected, "{subscription:?} in pass {pass}");
        }
    }
}
