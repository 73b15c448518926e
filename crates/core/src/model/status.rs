//! The contents of a status entry.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;

/// The longest `details`, in characters.
const LONGEST_DETAILS: usize = 256;

/// A row of `status`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Box<RawValue>")]
pub enum Status {
    Active = 1,
    Cancelled = 2,
    Paused = 3,
}

impl TryFrom<Box<RawValue>> for Status {
    type Error = Error;

    fn try_from(json: Box<RawValue>) -> Result<Self, Error> {
        let id = serde_json::from_str(json.get()).ok();
        [Self::Active, Self::Cancelled, Self::Paused]
            .into_iter()
            .find(|status| id == Some(status.id()))
            .ok_or_else(|| Error::invalid("status_id must be 1 (activate), 2 (cancel) or 3 (pause)"))
    }
}

impl Status {
    pub fn id(self) -> i32 {
        self as i32
    }
}

/// A note on a status entry, at most 256 characters.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Details(String);

impl TryFrom<String> for Details {
    type Error = Error;

    fn try_from(value: String) -> Result<Self, Error> {
        if value.chars().take(LONGEST_DETAILS + 1).count() > LONGEST_DETAILS {
            return Err(Error::invalid(format!("details must be at most {LONGEST_DETAILS} characters long")));
        }
        if value.contains('\0') {
            return Err(Error::invalid("details must not contain a NUL character"));
        }
        Ok(Self(value))
    }
}

impl Details {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
