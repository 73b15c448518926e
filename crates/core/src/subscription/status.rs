use chrono_tz::Tz;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Error,
    caller::{Caller, CustomerApi},
    clock::Budget,
    config::{ConfigError, Settings},
    database::{Database, Query, sqlstate},
    lambda::State,
    model::{BillingMonth, CustomerId, Days, Details, Moment, Status, SubscriptionId, When},
};

/// The state that the status function keeps between requests.
pub struct StatusState {
    pub api: CustomerApi,
    /// The time zone in which a day and a month begin.
    pub timezone: Tz,
    /// The most changes of a subscription in 24 hours.
    pub changes_per_day: Option<i32>,
}

impl State for StatusState {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            api: CustomerApi::from_settings(settings)?,
            timezone: settings.billing_timezone()?,
            changes_per_day: settings.changes_per_day()?,
        })
    }

    async fn warm(&self) {
        self.api.warm().await;
    }
}

/// A status to record. Its id is made with it, so a repeated call records it once.
pub struct StatusChange {
    id: Uuid,
    caller: Caller,
    timezone: Tz,
    changes_per_day: Option<i32>,
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

/// When a recorded status takes effect, and when it returns automatically, if it does.
pub struct Recorded {
    pub effect_date: Moment,
    pub automatic_return: Option<Moment>,
}

impl StatusChange {
    pub fn new(caller: Caller, state: &StatusState, subscription_id: SubscriptionId, status: Status) -> Self {
        let &StatusState { timezone, changes_per_day, .. } = state;
        Self {
            id: Uuid::new_v4(),
            caller,
            timezone,
            changes_per_day,
            subscription_id,
            status,
            effect_date: None,
            details: None,
            end: None,
        }
    }

    pub async fn record(&self, database: &Database, time: Budget) -> Result<Recorded, Error> {
        database.ask(self, time).await?
    }

    /// Why an end was refused that is not after the beginning, or after the year 9999.
    fn wrong_end(&self) -> &'static str {
        match self.end {
            Some(PauseEnd::Until(_)) => "until must be after effect_date and before the year 10000",
            Some(PauseEnd::Skip(_)) => "skip must be a month before 9999-12",
            Some(PauseEnd::After(_)) | None => Days::EXPECTED,
        }
    }
}

impl Query for StatusChange {
    type Answer = Result<Recorded, Error>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let (mut days, mut until, mut skipped_month) = (None, None, None);
        match self.end {
            Some(PauseEnd::After(interval)) => days = Some(interval.get()),
            Some(PauseEnd::Until(end)) => until = Some(end),
            Some(PauseEnd::Skip(month)) => skipped_month = Some(month.first_day()),
            None => {}
        }
        let row = sqlx::query!(
            r#"select verdict as "verdict!", effective_from, automatic_return, retry_after
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
        let wrong = |field: &'static str| Ok(Err(Error::invalid(field)));
        match (row.verdict.as_str(), row.effective_from) {
            ("recorded", Some(effect_date)) => Ok(Ok(Recorded {
                effect_date: effect_date.into(),
                automatic_return: row.automatic_return.map(Moment::from),
            })),
            ("subscription_not_found", _) => Ok(Err(Error::SubscriptionNotFound)),
            ("nothing_to_skip", _) => Ok(Err(Error::NothingToSkip)),
            ("too_many_changes", _) => {
                let retry_after = row.retry_after.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
                Ok(Err(Error::TooManyChanges { retry_after }))
            }
            ("wrong_date", _) => wrong("effect_date must be of the years 1 to 9999"),
            ("wrong_end", _) => wrong(self.wrong_end()),
            ("month_is_past", _) => wrong("skip must be a month that is not over"),
            (other, _) => Err(sqlx::Error::Decode(format!("record_status answered {other}").into())),
        }
    }
}
