//! An attempt's state and a claim's verdict: the words of the database, decoded once.

use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Error;

/// How an attempt ends or stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeState {
    InFlight,
    Charged,
    Rejected,
    NotSent,
    Unknown,
}

/// What `claim_charge()` decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This call holds the attempt: send its order, then settle it.
    Claimed,
    AlreadyCharged,
    InProgress,
    /// The month's attempt has an unknown outcome and another request_id.
    OutcomeUnknown,
    /// The attempt's outcome is unknown, and it cannot be repeated: a person decides.
    Undecidable,
    NotChargeable,
    /// There is too little time to call out.
    NoTime,
    /// The call's month is not the one that the caller means.
    MonthMismatch,
    RequestIdReused,
    SubscriptionNotFound,
}

/// A word that is neither a state nor a verdict.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a word of the ledger")]
pub struct UnknownWord(String);

impl ChargeState {
    pub const ALL: [Self; 5] = [Self::InFlight, Self::Charged, Self::Rejected, Self::NotSent, Self::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Charged => "charged",
            Self::Rejected => "rejected",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        }
    }
}

impl ChargeState {
    /// `rejected,unknown`
    pub fn parse_list(words: &str) -> Result<Vec<Self>, Error> {
        words.split(',').map(str::parse).collect::<Result<_, UnknownWord>>().map_err(|_| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!("state must be one or more of {words}, with commas between them"))
        })
    }
}

impl Serialize for ChargeState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for ChargeState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| UnknownWord(word.to_owned()))
    }
}

impl FromStr for Verdict {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Ok(match word {
            "claimed" => Self::Claimed,
            "already_charged" => Self::AlreadyCharged,
            "in_progress" => Self::InProgress,
            "outcome_unknown" => Self::OutcomeUnknown,
            "undecidable" => Self::Undecidable,
            "not_chargeable" => Self::NotChargeable,
            "no_time" => Self::NoTime,
            "month_mismatch" => Self::MonthMismatch,
            "request_id_reused" => Self::RequestIdReused,
            "subscription_not_found" => Self::SubscriptionNotFound,
            other => return Err(UnknownWord(other.to_owned())),
        })
    }
}
