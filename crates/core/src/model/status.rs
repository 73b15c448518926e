//! What a status entry says.

use serde_json::Value;

use crate::Error;

/// The longest `details`, in characters.
const LONGEST_DETAILS: usize = 256;

/// A row of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active = 1,
    Cancelled = 2,
    Paused = 3,
}

impl Status {
    pub fn parse(value: &Value) -> Result<Self, Error> {
        [Self::Active, Self::Cancelled, Self::Paused]
            .into_iter()
            .find(|status| value.as_i64() == Some(status.id().into()))
            .ok_or_else(|| Error::invalid("status_id must be 1 (activate), 2 (cancel) or 3 (pause)"))
    }

    pub fn id(self) -> i32 {
        self as i32
    }
}

/// What a status is about, at most 256 characters.
pub struct Details(String);

impl Details {
    pub fn parse(value: &str) -> Result<Self, Error> {
        if value.chars().take(LONGEST_DETAILS + 1).count() > LONGEST_DETAILS {
            return Err(Error::invalid(format!("details must be at most {LONGEST_DETAILS} characters long")));
        }
        if value.contains('\0') {
            return Err(Error::invalid("details must not contain a NUL character"));
        }
        Ok(Self(value.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
