use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// A calendar month in the billing time zone. Written as `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillingMonth(NaiveDate);

impl BillingMonth {
    /// The month that begins on this day.
    pub fn of(day: NaiveDate) -> Self {
        Self(day)
    }

    /// `2026-11`
    pub fn parse(value: &str) -> Result<Self, Error> {
        Self::read(value).ok_or_else(|| Error::invalid("month must be a month such as 2026-11"))
    }

    fn read(value: &str) -> Option<Self> {
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        value
            .split_once('-')
            .filter(|(year, month)| digits(year, 4) && digits(month, 2))
            .and_then(|(year, month)| NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1))
            .map(Self)
    }

    pub fn first_day(self) -> NaiveDate {
        self.0
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

impl<'de> Deserialize<'de> for BillingMonth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"a month such as 2026-11";
        Self::read(&text).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_four_digits_and_two() {
        for good in ["2026-11", "0000-01", "9999-12"] {
            assert_eq!(BillingMonth::parse(good).map(|month| month.to_string()).ok().as_deref(), Some(good));
        }
        for bad in ["", "2026", "2026-", "-11", "2026-1", "2026-00", "2026-13", "+026-11", "2026-+1", "2026-11-01"] {
            assert!(BillingMonth::parse(bad).is_err(), "{bad}");
        }
    }
}
