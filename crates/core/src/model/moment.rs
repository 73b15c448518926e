//! Moments, and days between them.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::Error;

/// A moment of the approved tables: UTC, to the microsecond. Written as RFC 3339 with a `Z`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Moment(NaiveDateTime);

impl Moment {
    /// Reads a date, alone or with a time of minutes, seconds or fractions, and an offset or none, in the extended or
    /// the basic form. A space may stand for the `T`.
    fn read(text: &str) -> Option<Self> {
        for date in ["%Y-%m-%d", "%Y%m%d"] {
            if let Ok(date) = NaiveDate::parse_from_str(text, date) {
                return Self::of(date.and_hms_opt(0, 0, 0)?);
            }
            for time in ["%H:%M:%S%.f", "%H:%M", "%H%M%S%.f", "%H%M"] {
                for separator in ["T", "t", " "] {
                    let format = format!("{date}{separator}{time}");
                    if let Ok(naive) = NaiveDateTime::parse_from_str(text, &format) {
                        return Self::of(naive);
                    }
                    if let Ok(moment) = DateTime::parse_from_str(text, &format!("{format}%#z")) {
                        return Self::of(moment.naive_utc());
                    }
                }
            }
        }
        None
    }

    pub fn now() -> Self {
        Self(Utc::now().naive_utc())
    }

    /// `None` outside the years 1 to 9999.
    fn of(moment: NaiveDateTime) -> Option<Self> {
        // PostgreSQL keeps microseconds; what is answered is what is kept.
        let moment = moment.with_nanosecond(moment.nanosecond() / 1_000 * 1_000)?;
        (1..=9999).contains(&moment.year()).then_some(Self(moment))
    }

    pub fn naive(self) -> NaiveDateTime {
        self.0
    }
}

/// From ISO 8601. A date alone means its midnight; without an offset, UTC is meant.
impl TryFrom<String> for Moment {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::read(text.trim())
            .ok_or_else(|| Error::invalid("effect_date must be an ISO 8601 date or time of the years 1 to 9999"))
    }
}

impl From<DateTime<Utc>> for Moment {
    fn from(moment: DateTime<Utc>) -> Self {
        Self(moment.naive_utc())
    }
}

impl From<NaiveDateTime> for Moment {
    fn from(moment: NaiveDateTime) -> Self {
        Self(moment)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S%.fZ"))
    }
}

/// A whole number of days, 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(i32);

impl Days {
    /// From a number, or its digits in a string. That many days after `from` must be before the year 10000.
    pub fn parse(value: &Value, from: Moment) -> Result<Self, Error> {
        Self::count(value)
            .filter(|days| {
                let end = from.0.checked_add_days(chrono::Days::new(*days));
                *days >= 1 && end.and_then(Moment::of).is_some()
            })
            .and_then(|days| i32::try_from(days).ok())
            .map(Self)
            .ok_or_else(|| Error::invalid("interval must be a whole number of days, 1 or more, before the year 10000"))
    }

    fn count(value: &Value) -> Option<u64> {
        match value {
            Value::Number(number) => number.as_u64().or_else(|| {
                // 30.0 is a whole number, too. Above the bound, a float may not be exact.
                let days = number.as_f64().filter(|days| days.fract() == 0.0 && (0.0..1e9).contains(days))?;
                Some(days as u64)
            }),
            Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        }
    }

    pub fn get(self) -> i32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        Moment::try_from(text.to_owned()).ok().map(|moment| serde_json::to_string(&moment).unwrap())
    }

    #[test]
    fn iso_8601_in_its_usual_forms_is_read() {
        for (text, meaning) in [
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("20240229", "2024-02-29T00:00:00Z"),
            ("2024-02-29T10:30", "2024-02-29T10:30:00Z"),
            ("2024-02-29 10:30:15", "2024-02-29T10:30:15Z"),
            ("2024-02-29t10:30:15.5z", "2024-02-29T10:30:15.500Z"),
            ("2024-02-29T10:30:15.123456789Z", "2024-02-29T10:30:15.123456Z"),
            ("2024-02-29T23:30:00-03:00", "2024-03-01T02:30:00Z"),
            ("2024-02-29T23:30:00-0300", "2024-03-01T02:30:00Z"),
            ("2024-02-29T23:30+05", "2024-02-29T18:30:00Z"),
            ("20240229T233000Z", "2024-02-29T23:30:00Z"),
        ] {
            assert_eq!(written(text), Some(format!("\"{meaning}\"")), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_of_the_years_1_to_9999_is_not_read() {
        for text in [
            "",
            "now",
            "2024",
            "2024-13-01",
            "2023-02-29",
            "2024-02-29T25:00",
            "2024-02-29T10:30:00 Europe/Paris",
            "10000-01-01",
            "+10000-01-01",
            "-0001-01-01",
            "0000-12-31",
            "1709200000",
            "0001-01-01T00:00+05:00",
            "9999-12-31T23:59-05:00",
            "infinity",
            "2024-02-29T10:30:00Zjunk",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }

    #[test]
    fn intervals_are_whole_days_as_a_number_or_its_digits() {
        let from = Moment::read("2024-02-29").unwrap();
        for (text, days) in [("1", 1), ("30.0", 30), ("\"30\"", 30), ("\"007\"", 7), ("2913000", 2_913_000)] {
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(Days::parse(&value, from).ok(), Some(Days(days)), "{text}");
        }
        for text in [
            "0",
            "-1",
            "1.5",
            "\"\"",
            "\"1.5\"",
            "\"-1\"",
            "\"+1\"",
            "\" 1\"",
            "\"x\"",
            "true",
            "[1]",
            "{}",
            "1e300",
            "2914000",
            "18446744073709551616",
            "\"99999999999999999999\"",
        ] {
            let value = serde_json::from_str(text).unwrap();
            assert!(Days::parse(&value, from).is_err(), "{text}");
        }
    }
}
