use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Error,
    caller::Caller,
    clock::Budget,
    database::{Database, Query, sqlstate},
    model::{ClubId, CustomerId, Moment},
};

/// A subscription to create. Its ids are made with it, so a repeated call recognizes its own row.
pub struct NewSubscription {
    id: Uuid,
    status_entry_id: Uuid,
    caller: Caller,
    club_id: ClubId,
    pub customer_id: CustomerId,
}

impl NewSubscription {
    /// A caller who is a customer subscribes nobody else.
    pub fn new(caller: Caller, club_id: ClubId, customer_id: CustomerId) -> Result<Self, Error> {
        caller.may_act_for(&customer_id)?;
        Ok(Self { id: Uuid::new_v4(), status_entry_id: Uuid::new_v4(), caller, club_id, customer_id })
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Subscribes the customer to the club, if it is ACTIVE, once per club. Returns when.
    pub async fn subscribe(&self, database: &Database, time: Budget) -> Result<Moment, Error> {
        database.ask(self, time).await?
    }
}

impl Query for NewSubscription {
    /// When, or why not.
    type Answer = Result<Moment, Error>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let row = sqlx::query!(
            r#"select verdict as "verdict!", create_date, existing_id
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
        match row {
            Ok(row) => match (row.verdict.as_str(), row.create_date) {
                ("subscribed", Some(create_date)) => Ok(Ok(create_date.into())),
                ("club_not_found", _) => Ok(Err(Error::ClubNotFound)),
                ("club_not_active", _) => Ok(Err(Error::ClubNotActive)),
                ("already_subscribed", _) => Ok(Err(Error::AlreadySubscribed {
                    // Only its own customer may learn the id.
                    subscription_id: self.caller.customer().and(row.existing_id),
                })),
                (other, _) => Err(sqlx::Error::Decode(format!("subscribe answered {other}").into())),
            },
            Err(error) if sqlstate::is_dangling(&error) => Ok(Err(Error::ClubNotFound)),
            Err(error) => Err(error),
        }
    }
}
