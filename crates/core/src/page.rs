//! A page of a list, which ends before it is too large for an answer.

use serde::Serialize;

use crate::Error;

/// The largest answer of a Lambda function is 6 MiB. The body is a JSON string in it, so its quotes and backslashes
/// count double. Some room is left for headers.
pub(crate) const LARGEST_BODY: usize = 6 * 1024 * 1024 - 8 * 1024;

/// A page of a list, as it is answered.
pub struct Page {
    pub json: String,
    /// The next page's parameters, if more remain.
    pub next: Option<Parameters>,
}

pub type Parameters = Vec<(&'static str, String)>;

/// The items that fit, as a JSON array, and the last of them if more remain: at most this number of items, and of bytes in
/// a function's answer, but always the first item.
pub(crate) fn fit<T: Serialize>(
    items: impl IntoIterator<Item = T>,
    most_items: Option<u32>,
    most_bytes: usize,
) -> Result<(String, Option<T>), Error> {
    let mut json = vec![b'['];
    let mut size = "[],".len();
    let mut last = None;
    for (count, item) in (0..).zip(items) {
        let before = json.len();
        if last.is_some() {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &item).map_err(|error| Error::Internal(error.into()))?;
        size += size_in_answer(&json[before..]);
        if last.is_some() && (most_items == Some(count) || size > most_bytes) {
            json.truncate(before);
            return Ok((closed(json)?, last));
        }
        last = Some(item);
    }
    Ok((closed(json)?, None))
}

/// The bytes that this JSON takes in a function's answer, where it is a JSON string.
fn size_in_answer(json: &[u8]) -> usize {
    json.len() + json.iter().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\r' | b'\t')).count()
}

fn closed(mut json: Vec<u8>) -> Result<String, Error> {
    json.push(b']');
    String::from_utf8(json).map_err(|error| Error::Internal(error.into()))
}
