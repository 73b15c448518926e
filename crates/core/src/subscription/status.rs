use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Error,
    caller::Caller,
    clock::Budget,
    database::{Database, Query, sqlstate},
    model::{CustomerId, Days, Details, Moment, Status, SubscriptionId},
};

/// A status to record, with the automatic return of a pause. Its ids are made with it, so a repeated call records it
/// once.
pub struct StatusChange {
    entry_id: Uuid,
    return_entry_id: Uuid,
    caller: Caller,
    pub subscription_id: SubscriptionId,
    pub status: Status,
    /// Default: now.
    pub effect_date: Option<Moment>,
    pub details: Option<Details>,
    /// Days from `effect_date` to the automatic return.
    pub interval: Option<Days>,
}

/// When a recorded status takes effect, and when it returns automatically, if it does.
pub struct Recorded {
    pub effect_date: Moment,
    pub automatic_return: Option<Moment>,
}

impl StatusChange {
    pub fn new(caller: Caller, subscription_id: SubscriptionId, status: Status) -> Self {
        Self {
            entry_id: Uuid::new_v4(),
            return_entry_id: Uuid::new_v4(),
            caller,
            subscription_id,
            status,
            effect_date: None,
            details: None,
            interval: None,
        }
    }

    pub async fn record(&self, database: &Database, time: Budget) -> Result<Recorded, Error> {
        database.ask(self, time).await?.ok_or(Error::SubscriptionNotFound)
    }
}

impl Query for StatusChange {
    /// Nothing, without such a subscription of the caller.
    type Answer = Option<Recorded>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let row = sqlx::query!(
            r#"select verdict as "verdict!", effective_from as "effective_from!", automatic_return
             from record_status(
                 subscription_id => $1, customer_id => $2, status_id => $3, effect_date => $4, details => $5,
                 return_after_days => $6, entry_id => $7, return_entry_id => $8, changes_per_day => null, seconds => $9
             )"#,
            self.subscription_id.as_str(),
            self.caller.customer().map(CustomerId::as_str),
            self.status.id(),
            self.effect_date.map(Moment::naive),
            self.details.as_ref().map(Details::as_str),
            self.interval.map(Days::get),
            self.entry_id.to_string(),
            self.return_entry_id.to_string(),
            time.left().as_secs_f64()
        )
        .fetch_one(connection)
        .await;
        match row {
            Ok(row) => match row.verdict.as_str() {
                "recorded" => Ok(Some(Recorded {
                    effect_date: row.effective_from.into(),
                    automatic_return: row.automatic_return.map(Moment::from),
                })),
                "subscription_not_found" => Ok(None),
                other => Err(sqlx::Error::Decode(format!("record_status answered {other}").into())),
            },
            Err(error) if sqlstate::is_dangling(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
