//! A page of the list: its parameters, and how much of it fits one answer.

use crate::{Error, http::size_in_answer};

pub const LONGEST_PAGE: u32 = 100_000;

/// The largest answer of a Lambda function is 6 MiB. The body is a JSON string in it, so its quotes and backslashes
/// count double. Some room is left for headers.
pub(super) const LARGEST_BODY: usize = 6 * 1024 * 1024 - 8 * 1024;

/// Which part of the list.
pub struct Page {
    /// Ids after this one, by bytes.
    pub after: Option<String>,
    /// The most ids of a page. Without it, the whole list.
    pub limit: Option<u32>,
    /// Without those that are charged for the current month.
    pub due: bool,
}

pub struct Eligible {
    /// A JSON array of ids, ascending by bytes.
    pub json: String,
    /// The last id of the page, if more remain.
    pub next_after: Option<String>,
}

impl Page {
    pub fn new(after: Option<String>, limit: Option<u32>, due: bool) -> Result<Self, Error> {
        if after.as_deref().is_some_and(|after| after.contains('\0')) {
            return Err(Error::invalid("after must not contain a NUL character"));
        }
        Ok(Self { after, limit, due })
    }

    /// Ends a page early if it is too large for an answer. Refuses the whole list if that is.
    pub(super) fn fit<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Result<Eligible, Error> {
        let mut json = vec![b'['];
        let mut size = "[],".len();
        let mut last: Option<&String> = None;
        for (count, id) in (0..).zip(ids) {
            let before = json.len();
            if last.is_some() {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, id).map_err(|error| Error::Internal(error.into()))?;
            size += size_in_answer(&json[before..]);
            if self.limit == Some(count) || size > LARGEST_BODY {
                if self.limit.is_none() {
                    return Err(Error::PageRequired);
                }
                json.truncate(before);
                return Ok(Eligible { json: closed(json)?, next_after: last.cloned() });
            }
            last = Some(id);
        }
        Ok(Eligible { json: closed(json)?, next_after: None })
    }
}

fn closed(mut json: Vec<u8>) -> Result<String, Error> {
    json.push(b']');
    String::from_utf8(json).map_err(|error| Error::Internal(error.into()))
}
