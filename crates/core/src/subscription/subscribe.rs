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
    model::{ClubId, CustomerId, Moment, Status},
};

/// The state that the subscribe function keeps between requests.
pub struct SubscribeState {
    pub database: Database,
    pub customer_claim: CustomerClaim,
}

impl State for SubscribeState {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::from_settings(settings)?,
            customer_claim: CustomerClaim::from_settings(settings),
        })
    }

    async fn warm(&self) {
        self.database.warm().await;
    }
}

/// A subscription to create. Its ids are made with it, so a repeated call recognizes its own row.
pub struct NewSubscription {
    id: Uuid,
    status_entry_id: Uuid,
    caller: Caller,
    club_id: ClubId,
    customer_id: CustomerId,
}

/// A new subscription, as it is answered.
#[derive(Serialize)]
pub struct Subscribed<'a> {
    pub id: Uuid,
    club_id: ClubId,
    customer_id: &'a CustomerId,
    status_id: i32,
    create_date: Moment,
}

/// The decision of `subscribe()`.
#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum Verdict {
    Subscribed,
    ClubNotFound,
    ClubNotActive,
    AlreadySubscribed,
}

impl NewSubscription {
    /// A caller who is a customer subscribes nobody else.
    pub fn new(caller: Caller, club_id: ClubId, customer_id: CustomerId) -> Result<Self, Error> {
        caller.may_act_for(&customer_id)?;
        Ok(Self { id: Uuid::new_v4(), status_entry_id: Uuid::new_v4(), caller, club_id, customer_id })
    }

    /// Subscribes the customer to the club, if it is ACTIVE, once per club.
    pub async fn subscribe(&self, database: &Database, time: Budget) -> Result<Subscribed<'_>, Error> {
        let create_date = database.fetch(self, time).await??;
        Ok(Subscribed {
            id: self.id,
            club_id: self.club_id,
            customer_id: &self.customer_id,
            status_id: Status::Active.id(),
            create_date,
        })
    }
}

impl Query for NewSubscription {
    /// The create_date, or the refusal.
    type Answer = Result<Moment, Error>;

    async fn fetch(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let row = sqlx::query!(
            r#"select verdict as "verdict!: Verdict", create_date, existing_id
               from subscribe(
                   club_id => $1, customer_id => $2, subscription_id => $3, status_entry_id => $4, seconds => $5
               )"#,
            self.club_id.get(),
            self.customer_id.as_str(),
            self.id.to_string(),
            self.status_entry_id.to_string(),
            time.left().as_secs_f64()
        )
        .fetch_one(connection)
        .await;
        let row = match row {
            Ok(row) => row,
            Err(error) if sqlstate::is_dangling(&error) => return Ok(Err(Error::ClubNotFound)),
            Err(error) => return Err(error),
        };
        Ok(match row.verdict {
            Verdict::Subscribed => Ok(not_null(row.create_date)?.into()),
            Verdict::ClubNotFound => Err(Error::ClubNotFound),
            Verdict::ClubNotActive => Err(Error::ClubNotActive),
            Verdict::AlreadySubscribed => Err(Error::AlreadySubscribed {
                // Only its own customer may learn the id.
                subscription_id: self.caller.customer().and(row.existing_id),
            }),
        })
    }
}
