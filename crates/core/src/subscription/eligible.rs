//! The list of eligible subscriptions.

use chrono_tz::Tz;
use sqlx::PgConnection;

use crate::{
    Error,
    clock::Budget,
    config::{ConfigError, Settings},
    database::{Database, Query},
    lambda::State,
    model::BillingMonth,
    page::{LARGEST_BODY, Page},
};

pub const LONGEST_PAGE: u32 = 100_000;

/// Ids of more bytes than this in the database cannot fit one answer. There, an id takes at most seven bytes more than
/// its text; in the answer, at least five more.
const TOO_MANY_BYTES: i32 = 2 * LARGEST_BODY as i32;

/// What the eligible function keeps from one request to the next.
pub struct Listing {
    pub database: Database,
    pub timezone: Tz,
}

impl State for Listing {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self { database: Database::from_settings(settings)?, timezone: settings.billing_timezone()? })
    }

    async fn warm(&self) {
        self.database.warm().await;
    }
}

/// A part of the list.
pub struct EligiblePage {
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

impl EligiblePage {
    pub fn new(after: Option<String>, limit: Option<u32>, due: bool) -> Result<Self, Error> {
        if after.as_deref().is_some_and(|after| after.contains('\0')) {
            return Err(Error::invalid("after must not contain a NUL character"));
        }
        Ok(Self { after, limit, due })
    }

    /// The page, and the month in which it is read. The whole list is refused if it is too large for an answer.
    pub async fn read(
        &self,
        database: &Database,
        timezone: Tz,
        time: Budget,
    ) -> Result<(Eligible, BillingMonth), Error> {
        let (chunks, month) = database.ask(&Question { page: self, timezone }, time).await?;
        let Page { json, last } = Page::of(chunks.into_iter().flatten(), self.limit, LARGEST_BODY)?;
        if last.is_some() && self.limit.is_none() {
            return Err(Error::PageRequired);
        }
        Ok((Eligible { json, next_after: last }, month))
    }
}

struct Question<'a> {
    page: &'a EligiblePage,
    timezone: Tz,
}

impl Query for Question<'_> {
    /// Chunks of ids, and the month.
    type Answer = (Vec<Vec<String>>, BillingMonth);

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        // There is always a chunk, be it empty; each row has the month.
        let rows = sqlx::query!(
            r#"select eligible_subscriptions(
                   after_id => $1, at_most => $2,
                   not_charged_for => case when $3 then current_billing_month(billing_timezone => $4) end,
                   enough_bytes => $5, seconds => $6
               ) as "ids!", current_billing_month(billing_timezone => $4) as "month!""#,
            self.page.after,
            // One more than asked for tells whether more remain.
            self.page.limit.and_then(|limit| i32::try_from(limit + 1).ok()),
            self.page.due,
            self.timezone.name(),
            TOO_MANY_BYTES,
            time.left().as_secs_f64()
        )
        .fetch_all(connection)
        .await?;
        let month = BillingMonth::of(rows.first().ok_or(sqlx::Error::RowNotFound)?.month);
        Ok((rows.into_iter().map(|row| row.ids).collect(), month))
    }
}
