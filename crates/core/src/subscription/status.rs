use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Error,
    caller::{Caller, CustomerClaim},
    clock::Budget,
    config::{ConfigError, Settings},
    database::{Database, Query, not_null, sqlstate},
    lambda::State,
    model::{BillingMonth, CustomerId, Days, Details, Moment, Status, SubscriptionId, When},
};

/// The state that the status function keeps between requests.
pub struct StatusState {
    pub database: Database,
    pub customer_claim: CustomerClaim,
    /// The time zone in which a day and a month begin.
    pub timezone: Tz,
    /// The most changes of a subscription in 24 hours.
    pub changes_per_day: Option<i32>,
}

impl State for StatusState {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::from_settings(settings)?,
            customer_claim: CustomerClaim::from_settings(settings),
            timezone: settings.billing_timezone()?,
            changes_per_day: settings.changes_per_day()?,
        })
    }

    async fn warm(&self) {
        self.database.warm().await;
    }
}

/// A status to record. Its id is made with it, so a repeated call records it once.
pub struct StatusChange {
    id: Uuid,
    caller: Caller,
    timezone: Tz,
    /// The most changes of the subscription in 24 hours.
    pub changes_per_day: Option<i32>,
    pub subscription_id: SubscriptionId,
    pub status: Status,
    /// Default: now.
    pub effect_date: Option<When>,
    pub details: Option<Details>,
    pub end: Option<PauseEnd>,
}

/// When a pause ends.
#[derive(Clone, Copy)]
pub enum PauseEnd {
    /// This long after it begins.
    After(Days),
    Until(When),
    /// With this month, which it skips.
    Skip(BillingMonth),
}

/// A recorded status, as it is answered.
#[derive(Serialize)]
pub struct Recorded<'a> {
    subscription_id: &'a SubscriptionId,
    status_id: i32,
    effect_date: Moment,
    details: Option<&'a str>,
    automatic_return: Option<Moment>,
}

/// The decision of `record_status()`.
#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum Verdict {
    Recorded,
    SubscriptionNotFound,
    NothingToSkip,
    TooManyChanges,
    WrongDate,
    WrongEnd,
    MonthIsPast,
}

impl StatusChange {
    pub fn new(caller: Caller, timezone: Tz, subscription_id: SubscriptionId, status: Status) -> Self {
        Self {
            id: Uuid::new_v4(),
            caller,
            timezone,
            changes_per_day: None,
            subscription_id,
            status,
            effect_date: None,
            details: None,
            end: None,
        }
    }

    pub async fn record(&self, database: &Database, time: Budget) -> Result<Recorded<'_>, Error> {
        let (effect_date, automatic_return) = database.fetch(self, time).await??;
        Ok(Recorded {
            subscription_id: &self.subscription_id,
            status_id: self.status.id(),
            effect_date,
            details: self.details.as_ref().map(Details::as_str),
            automatic_return,
        })
    }

    /// The reason why an end is refused: it is not after the beginning, or it is after the year 9999.
    fn wrong_end(&self) -> &'static str {
        match self.end {
            Some(PauseEnd::Until(_)) => "until must be after effect_date and before the year 10000",
            Some(PauseEnd::Skip(_)) => "skip must be a month before 9999-12",
            Some(PauseEnd::After(_)) | None => Days::EXPECTED,
        }
    }
}

impl Query for StatusChange {
    /// The effect_date and the automatic return, if there is one; or the refusal.
    type Answer = Result<(Moment, Option<Moment>), Error>;

    async fn fetch(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let (mut days, mut until, mut skipped_month) = (None, None, None);
        match self.end {
            Some(PauseEnd::After(interval)) => days = Some(interval.get()),
            Some(PauseEnd::Until(end)) => until = Some(end),
            Some(PauseEnd::Skip(month)) => skipped_month = Some(month.first_day()),
            None => {}
        }
        let row = sqlx::query!(
            r#"select verdict as "verdict!: Verdict", effective_from, automatic_return, retry_after
             from record_status(
                 subscription_id => $1, customer_id => $2, status_id => $3, effect_date => $4, effect_day => $5,
                 details => $6, return_after_days => $7, until => $8, until_day => $9, skipped_month => $10,
                 billing_timezone => $11, change_id => $12, changes_per_day => $13, seconds => $14
             )"#,
            self.subscription_id.as_str(),
            self.caller.customer().map(CustomerId::as_str),
            self.status.id(),
            self.effect_date.and_then(When::moment).map(Moment::naive),
            self.effect_date.and_then(When::day),
            self.details.as_ref().map(Details::as_str),
            days,
            until.and_then(When::moment).map(Moment::naive),
            until.and_then(When::day),
            skipped_month,
            self.timezone.name(),
            self.id.to_string(),
            self.changes_per_day,
            time.left().as_secs_f64()
        )
        .fetch_one(connection)
        .await;
        let row = match row {
            Ok(row) => row,
            Err(error) if sqlstate::is_dangling(&error) => return Ok(Err(Error::SubscriptionNotFound)),
            Err(error) => return Err(error),
        };
        Ok(match row.verdict {
            Verdict::Recorded => Ok((not_null(row.effective_from)?.into(), row.automatic_return.map(Moment::from))),
            Verdict::SubscriptionNotFound => Err(Error::SubscriptionNotFound),
            Verdict::NothingToSkip => Err(Error::NothingToSkip),
            Verdict::TooManyChanges => {
                let retry_after = row.retry_after.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
                Err(Error::TooManyChanges { retry_after })
            }
            Verdict::WrongDate => Err(Error::invalid("effect_date must be of the years 1 to 9999")),
            Verdict::WrongEnd => Err(Error::invalid(self.wrong_end())),
            Verdict::MonthIsPast => Err(Error::invalid("skip must be a month that is not over")),
        })
    }
}
