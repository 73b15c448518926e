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
    page::{self, LARGEST_BODY, Page, Parameters},
};

/// Ids of more bytes than this in the database cannot fit one answer. There, an id takes at most seven bytes more than
/// its text; in the answer, at least five more.
const TOO_MANY_BYTES: i32 = 2 * LARGEST_BODY as i32;

/// The state that the eligible function keeps between requests.
pub struct EligibleState {
    pub database: Database,
    pub timezone: Tz,
}

impl State for EligibleState {
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

impl EligiblePage {
    /// The highest limit.
    pub const LONGEST: u32 = 100_000;

    pub fn new(after: Option<String>, limit: Option<u32>, due: bool) -> Result<Self, Error> {
        if after.as_deref().is_some_and(|after| after.contains('\0')) {
            return Err(Error::invalid("after must not contain a NUL character"));
        }
        Ok(Self { after, limit, due })
    }

    /// The page, a JSON array of ids, ascending by bytes, and the month in which it is read. The whole list is refused if
    /// it is too large for an answer.
    pub async fn read(&self, database: &Database, timezone: Tz, time: Budget) -> Result<(Page, BillingMonth), Error> {
        let (chunks, month) = database.fetch(&EligibleQuery { page: self, timezone }, time).await?;
        let (json, last) = page::fit(chunks.into_iter().flatten(), self.limit, LARGEST_BODY)?;
        let next = match (last, self.limit) {
            (None, _) => None,
            (Some(_), None) => return Err(Error::PageRequired),
            (Some(after), Some(limit)) => Some(self.parameters(limit, after)),
        };
        Ok((Page { json, next }, month))
    }

    /// The parameters of the next page.
    fn parameters(&self, limit: u32, after: String) -> Parameters {
        let due = self.due.then(|| ("due", "true".to_owned()));
        due.into_iter().chain([("limit", limit.to_string()), ("after", after)]).collect()
    }
}

struct EligibleQuery<'a> {
    page: &'a EligiblePage,
    timezone: Tz,
}

impl Query for EligibleQuery<'_> {
    /// Chunks of ids, and the month.
    type Answer = (Vec<Vec<String>>, BillingMonth);

    async fn fetch(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
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
