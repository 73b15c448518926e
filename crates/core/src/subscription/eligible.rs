//! The list of eligible subscriptions.

use chrono_tz::Tz;
use sqlx::PgConnection;

use super::page::{Eligible, LARGEST_BODY, Page};
use crate::{
    Error,
    clock::Budget,
    config::{ConfigError, Settings},
    database::{Database, Query},
    lambda::State,
    model::BillingMonth,
};

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

impl Page {
    /// The page, and the month in which it is read.
    pub async fn read(
        &self,
        database: &Database,
        timezone: Tz,
        time: Budget,
    ) -> Result<(Eligible, BillingMonth), Error> {
        let (chunks, month) = database.ask(&Question { page: self, timezone }, time).await?;
        Ok((self.fit(chunks.iter().flatten())?, month))
    }
}

struct Question<'a> {
    page: &'a Page,
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
