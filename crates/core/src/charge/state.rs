//! An attempt's state: the words of the database.

use serde::Serialize;

use crate::Error;

/// The state in which an attempt stands or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ChargeState {
    InFlight,
    Charged,
    Rejected,
    NotSent,
    Unknown,
}

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

    /// `rejected,unknown`
    pub fn parse_list(words: &str) -> Result<Vec<Self>, Error> {
        let parse = |word| Self::ALL.into_iter().find(|state| state.as_str() == word);
        words.split(',').map(parse).collect::<Option<_>>().ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!("state must be one or more of {words}, with commas between them"))
        })
    }
}
