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
    use std::ops::RangeInclusive;

    use super::*;

    const DOCUMENT: &str = include_str!("../../../../openapi.yaml");

    /// A schema of the document, as it is written there.
    fn schema(name: &str) -> &'static str {
        let (_, schemas) = DOCUMENT.split_once("\n  schemas:\n").unwrap();
        let (_, found) = schemas.split_once(&format!("\n    {name}:\n")).unwrap();
        let end = found.match_indices("\n    ").find(|(place, _)| !found[place + 5..].starts_with(' '));
        &found[..end.map_or(found.len(), |(place, _)| place)]
    }

    /// The sets of characters in its pattern: between brackets, with their ranges and escapes.
    fn character_sets(schema: &str) -> Vec<Vec<RangeInclusive<char>>> {
        let (_, pattern) = schema.split_once("pattern: ").unwrap();
        let sets = pattern.lines().next().unwrap().split('[').skip(1);
        sets.map(|set| {
            let mut rest = set.split(']').next().unwrap().trim_start_matches('^');
            let mut ranges: Vec<RangeInclusive<char>> = Vec::new();
            let mut is_range = false;
            while let Some(next) = rest.chars().next() {
                let digits = [("\\\\u", 4), ("\\U", 8)].into_iter().find(|(escape, _)| rest.starts_with(escape));
                let (character, length) = digits.map_or((next, next.len_utf8()), |(escape, digits)| {
                    let digits = &rest[escape.len()..][..digits];
                    let character = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                    (character.unwrap(), escape.len() + digits.len())
                });
                rest = &rest[length..];
                if is_range {
                    let range = ranges.pop().unwrap();
                    ranges.push(*range.start()..=character);
                    is_range = false;
                } else if next == '-' && !rest.is_empty() {
                    is_range = true;
                } else {
                    ranges.push(character..=character);
                }
            }
            ranges
        })
        .collect()
    }

    #[test]
    fn the_document_has_the_same_ids() {
        const FILES: &str = "openapi.yaml must say what crates/core/src/model/ids.rs does";
        let has = |set: &[RangeInclusive<char>], character| set.iter().any(|range| range.contains(&character));
        for name in ["SubscriptionId", "CustomerId"] {
            assert!(schema(name).contains(&format!("maxLength: {LONGEST_ID}\n")), "{FILES}: {name}");
            let sets = character_sets(schema(name));
            let [before, invisible, after] = sets.as_slice() else { panic!("{FILES}: {name} has {sets:?}") };
            for character in '\0'..=char::MAX {
                assert_eq!(has(invisible, character), !is_visible(character), "{FILES}: {name}, {character:?}");
                let in_others = [before, after].map(|set| has(set, character));
                assert_eq!(in_others, [character.is_control(); 2], "{FILES}: {name}, {character:?}");
            }
        }
        let sets = character_sets(schema("RequestId"));
        assert!(schema("RequestId").contains(&format!("maxLength: {LONGEST_REQUEST_ID}\n")), "{FILES}");
        let [not_a_dot, any] = sets.as_slice() else { panic!("{FILES}: RequestId has {sets:?}") };
        for character in '\0'..=char::MAX {
            let alone = RequestId::parse(&character.to_string()).is_ok();
            let followed = RequestId::parse(&format!("a{character}")).is_ok();
            let in_sets = (has(not_a_dot, character), has(any, character));
            assert_eq!(in_sets, (alone, followed), "{FILES}: RequestId, {character:?}");
        }
    }

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
