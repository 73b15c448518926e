use std::fmt;

use chrono::NaiveDate;
use serde::{Serialize, Serializer};

/// A calendar month in the billing time zone. Written as `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillingMonth(NaiveDate);

impl BillingMonth {
    /// The month that this day is in.
    pub fn of(day: NaiveDate) -> Self {
        Self(day)
    }
}

impl fmt::Display for BillingMonth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.format("%Y-%m"))
    }
}

impl Serialize for BillingMonth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
