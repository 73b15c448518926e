//! The list of eligible subscriptions: its pages, and what fits one answer.

use sqlx::PgConnection;

use crate::{
    Error,
    clock::Budget,
    database::{Database, Query},
};

const LONGEST_PAGE: u32 = 100_000;

/// The largest answer of a Lambda function is 6 MiB, in which the body is a JSON string: its quotes and backslashes
/// count double. Some room is left for headers.
const LARGEST_BODY: usize = 6 * 1024 * 1024 - 8 * 1024;

/// Ids that take more bytes than this in the database cannot fit one answer: an id has there at most seven bytes beside its
/// own, and at least five in the answer.
const TOO_MANY_BYTES: i32 = 2 * LARGEST_BODY as i32;

/// Which part of the list.
pub struct Page {
    /// Ids after this one, by bytes.
    pub after: Option<String>,
    /// The most ids of a page; without it, the whole list.
    pub limit: Option<u32>,
}

pub struct Eligible {
    /// A JSON array of ids, ascending by bytes.
    pub json: String,
    /// The last id of the page, if more remain.
    pub next_after: Option<String>,
}

impl Page {
    pub fn parse(after: Option<String>, limit: Option<String>) -> Result<Self, Error> {
        if after.as_deref().is_some_and(|after| after.contains('\0')) {
            return Err(Error::invalid("after must not contain a NUL character"));
        }
        let limit = limit
            .map(|limit| {
                let digits = limit.bytes().all(|byte| byte.is_ascii_digit());
                let limit = limit.parse().ok().filter(|limit| digits && (1..=LONGEST_PAGE).contains(limit));
                limit.ok_or_else(|| Error::invalid(format!("limit must be a whole number from 1 to {LONGEST_PAGE}")))
            })
            .transpose()?;
        Ok(Self { after, limit })
    }

    pub async fn read(&self, database: &Database, time: Budget) -> Result<Eligible, Error> {
        self.fit(database.ask(self, time).await?.iter().flatten())
    }

    /// A page that would be too large for an answer ends early; the whole list is refused if it is.
    fn fit<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Result<Eligible, Error> {
        let mut json = vec![b'['];
        let mut size = "[],".len();
        let mut last: Option<&String> = None;
        for (count, id) in (0..).zip(ids) {
            let before = json.len();
            if last.is_some() {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, id).map_err(|error| Error::Internal(error.into()))?;
            let escapes = json[before..].iter().filter(|byte| matches!(byte, b'"' | b'\\')).count();
            size += json.len() - before + escapes;
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

impl Query for Page {
    /// Chunks of ids.
    type Answer = Vec<Vec<String>>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        sqlx::query_scalar!(
            r#"select eligible_subscriptions(after_id => $1, at_most => $2, enough_bytes => $3, seconds => $4) as "ids!""#,
            self.after,
            // One more than asked for tells whether more remain.
            self.limit.and_then(|limit| i32::try_from(limit + 1).ok()),
            TOO_MANY_BYTES,
            time.left().as_secs_f64()
        )
        .fetch_all(connection)
        .await
    }
}
