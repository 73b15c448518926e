//! Ids.

use std::fmt;

use icu_properties::props::{BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The longest id that the approved tables hold, in characters.
pub(crate) const LONGEST_ID: usize = 36;
/// The longest request_id, in characters.
const LONGEST_REQUEST_ID: usize = 64;

/// An opaque id of 1 to 36 characters, none of them a control character and at least one visible.
fn opaque_id(field: &str, value: &str) -> Result<String, Error> {
    let length = value.chars().take(LONGEST_ID + 1).count();
    if !(1..=LONGEST_ID).contains(&length) {
        return Err(Error::invalid(format!("{field} must be 1 to {LONGEST_ID} characters long")));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{field} must not contain control characters")));
    }
    if !value.chars().any(is_visible) {
        return Err(Error::invalid(format!("{field} must have a visible character")));
    }
    Ok(value.to_owned())
}

/// True for a character that a person can see. Nobody sees white space, control and format characters, characters that
/// Unicode ignores by default, such as the Hangul fillers, and the Braille pattern without dots.
fn is_visible(character: char) -> bool {
    !(character.is_whitespace()
        || character.is_control()
        || GeneralCategory::for_char(character) == GeneralCategory::Format
        || DefaultIgnorableCodePoint::for_char(character)
        || character == '\u{2800}')
}

#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct SubscriptionId(String);

impl SubscriptionId {
    pub fn parse(value: &str) -> Result<Self, Error> {
        opaque_id("the subscription's id", value).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The customer's id at the e-commerce platform. It never enters a log line, so it has no `Debug`.
#[derive(Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct CustomerId(String);

impl TryFrom<String> for CustomerId {
    type Error = Error;

    fn try_from(value: String) -> Result<Self, Error> {
        opaque_id("customer_id", &value).map(Self)
    }
}

impl CustomerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A club's id: positive, 32 bits.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub struct ClubId(i32);

impl ClubId {
    pub fn parse(value: &str) -> Result<Self, Error> {
        // `parse` alone would let "+1" through.
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let id = if digits { value.parse().ok().filter(|id| *id > 0) } else { None };
        id.map(Self).ok_or_else(|| Error::invalid("the club's id must be a whole number from 1 to 2147483647"))
    }

    pub fn get(self) -> i32 {
        self.0
    }
}

/// An order's number at the e-commerce platform, chosen by the caller. It needs no escaping in a URL.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl RequestId {
    pub fn parse(value: &str) -> Result<Self, Error> {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        // "." and ".." would name another URL.
        let only_dots = value.bytes().all(|byte| byte == b'.');
        if value.len() > LONGEST_REQUEST_ID || only_dots || !value.bytes().all(unreserved) {
            return Err(Error::invalid(format!(
                "the request_id must be 1 to {LONGEST_REQUEST_ID} of A-Z a-z 0-9 . _ ~ -, and not only dots"
            )));
        }
        Ok(Self(value.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_need_no_escaping() {
        for good in ["a", "A-Z_0.9~", "...a", &"x".repeat(64)] {
            assert!(RequestId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "....", "a/b", "a%2Fb", "a b", "é", "a\0", "a\n", "?", "#", &"x".repeat(65)] {
            assert!(RequestId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_have_a_visible_character() {
        for good in ["a", " a ", "0", "-", "é", "e\u{301}", "🍺", "ㅤa", "\u{600}x", "日", "\u{e000}", "\u{378}"] {
            assert!(SubscriptionId::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            " ",
            "\u{a0}",
            "\u{ad}",
            "\u{34f}",
            "\u{115f}",
            "\u{1680}",
            "\u{180e}",
            "\u{200b}",
            "\u{202e}",
            "\u{2028}",
            "\u{2060}",
            "\u{2800}",
            "\u{3000}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{feff}",
            "\u{ffa0}",
            "\u{fff9}",
            "\u{e0001}",
            "\u{e0100}",
            "\u{e0fff}",
            " \u{200b}\u{3164} ",
        ] {
            assert!(SubscriptionId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn club_ids_are_positive_32_bit_integers() {
        assert_eq!(ClubId::parse("2147483647").map(ClubId::get).ok(), Some(i32::MAX));
        for bad in ["", "0", "-1", "+1", "1.0", "2147483648", " 1", "1e3", "١"] {
            assert!(ClubId::parse(bad).is_err(), "{bad}");
        }
    }
}
