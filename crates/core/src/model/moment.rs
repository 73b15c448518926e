//! Moments, and days between them.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};
use serde_json::{Number, value::RawValue};

use crate::Error;

/// The extended and the basic form of ISO 8601.
const DATES: [&str; 2] = ["%Y-%m-%d", "%Y%m%d"];

/// A moment of the approved tables: UTC, to the microsecond. Written as RFC 3339 with a `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(NaiveDateTime);

impl Moment {
    /// Reads a date and a time of minutes, seconds or fractions, and an offset or none, in the extended or the basic
    /// form. A space may stand for the `T`. Without an offset, UTC is meant.
    fn read(text: &str) -> Option<Self> {
        for date in DATES {
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

    /// `None` outside the years 1 to 9999. A leap second is the first of the next minute.
    fn of(moment: NaiveDateTime) -> Option<Self> {
        // PostgreSQL keeps microseconds; what is answered is what is kept.
        let moment = DateTime::from_timestamp_micros(moment.and_utc().timestamp_micros())?.naive_utc();
        (1..=9999).contains(&moment.year()).then_some(Self(moment))
    }

    /// Microseconds since 1970. A position in a list has them.
    pub fn microseconds(self) -> i64 {
        self.0.and_utc().timestamp_micros()
    }

    pub fn from_microseconds(text: &str) -> Option<Self> {
        Self::of(DateTime::from_timestamp_micros(text.parse().ok()?)?.naive_utc())
    }

    pub fn naive(self) -> NaiveDateTime {
        self.0
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

/// A moment as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    At(Moment),
    /// From the first moment of this day in the billing time zone on.
    Day(NaiveDate),
}

impl When {
    fn read(text: &str) -> Option<Self> {
        let day = DATES.iter().find_map(|date| NaiveDate::parse_from_str(text, date).ok());
        match day {
            Some(day) => (1..=9999).contains(&day.year()).then_some(Self::Day(day)),
            None => Moment::read(text).map(Self::At),
        }
    }

    pub fn moment(self) -> Option<Moment> {
        match self {
            Self::At(moment) => Some(moment),
            Self::Day(_) => None,
        }
    }

    pub fn day(self) -> Option<NaiveDate> {
        match self {
            Self::At(_) => None,
            Self::Day(day) => Some(day),
        }
    }
}

/// From ISO 8601: a date, alone or with a time.
impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = When;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an ISO 8601 date or time of the years 1 to 9999")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<When, E> {
                When::read(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A whole number of days, 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(i32);

impl Days {
    pub(crate) const EXPECTED: &str = "interval must be a whole number of days, 1 or more, before the year 10000";
    /// The days from the year 1 to the year 9999.
    const MOST: u64 = 3_652_058;

    /// From a JSON number, or its digits in a string.
    pub fn parse(json: &RawValue) -> Result<Self, Error> {
        Self::count(json.get())
            .filter(|days| (1..=Self::MOST).contains(days))
            .and_then(|days| i32::try_from(days).ok())
            .map(Self)
            .ok_or_else(|| Error::invalid(Self::EXPECTED))
    }

    fn count(json: &str) -> Option<u64> {
        if let Ok(number) = serde_json::from_str::<Number>(json) {
            return number.as_u64().or_else(|| {
                // 30.0 is a whole number, too. Above the bound, a float may not be exact.
                let days = number.as_f64().filter(|days| days.fract() == 0.0 && (0.0..1e9).contains(days))?;
                Some(days as u64)
            });
        }
        let digits: String = serde_json::from_str(json).ok()?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    }

    pub fn get(self) -> i32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        serde_json::from_value(text.into()).ok().map(|when| match when {
            When::At(moment) => serde_json::to_string(&moment).unwrap().trim_matches('"').to_owned(),
            When::Day(day) => day.to_string(),
        })
    }

    #[test]
    fn iso_8601_in_its_usual_forms_is_read() {
        for (text, meaning) in [
            ("2024-02-29", "2024-02-29"),
            ("20240229", "2024-02-29"),
            (" 9999-12-31 ", "9999-12-31"),
            ("2024-02-29T10:30", "2024-02-29T10:30:00Z"),
            ("2024-02-29 10:30:15", "2024-02-29T10:30:15Z"),
            ("2024-02-29t10:30:15.5z", "2024-02-29T10:30:15.500Z"),
            ("2024-02-29T10:30:15.123456789Z", "2024-02-29T10:30:15.123456Z"),
            ("2024-02-29T23:30:00-03:00", "2024-03-01T02:30:00Z"),
            ("2024-02-29T23:30:00-0300", "2024-03-01T02:30:00Z"),
            ("2024-02-29T23:30+05", "2024-02-29T18:30:00Z"),
            ("20240229T233000Z", "2024-02-29T23:30:00Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2016-12-31T20:59:60.5-03:00", "2017-01-01T00:00:00.500Z"),
        ] {
            assert_eq!(written(text).as_deref(), Some(meaning), "{text}");
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
            "9999-12-31T23:59:60Z",
            "9999-12-31T20:59:60.5-03:00",
            "2024-02-29T10:30:61Z",
            "infinity",
            "2024-02-29T10:30:00Zjunk",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }

    #[test]
    fn intervals_are_whole_days_as_a_number_or_its_digits() {
        for (text, days) in [("1", 1), ("30.0", 30), ("\"30\"", 30), ("\"007\"", 7), ("3652058", 3_652_058)] {
            let value: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(Days::parse(value).ok(), Some(Days(days)), "{text}");
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
            "3652059",
            "18446744073709551616",
            "\"99999999999999999999\"",
        ] {
            let value: &RawValue = serde_json::from_str(text).unwrap();
            assert!(Days::parse(value).is_err(), "{text}");
        }
    }
}
