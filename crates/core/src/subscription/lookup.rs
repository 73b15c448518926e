//! Subscriptions as their customers see them.

use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    Error,
    caller::Caller,
    clock::Budget,
    database::{Database, Query},
    model::{CustomerId, Moment, SubscriptionId},
};

/// A subscription with its current status. Others write the approved tables too, so most of it may be missing.
#[derive(Serialize)]
pub struct Subscription {
    id: String,
    club_id: Option<i32>,
    customer_id: Option<String>,
    create_date: Option<Moment>,
    /// Nothing, like its date, if no entry is in effect.
    status_id: Option<i32>,
    effect_date: Option<Moment>,
    next: Option<NextStatus>,
}

/// When the current status becomes another one.
#[derive(Serialize)]
struct NextStatus {
    status_id: Option<i32>,
    effect_date: Moment,
}

impl Subscription {
    /// The subscription with this id, if the caller may see it.
    pub async fn find(id: &SubscriptionId, caller: &Caller, database: &Database, time: Budget) -> Result<Self, Error> {
        let lookup = Lookup { subscription_id: Some(id), customer_id: caller.customer() };
        database.ask(&lookup, time).await?.pop().ok_or(Error::SubscriptionNotFound)
    }

    /// All subscriptions of a customer, by create_date, then id.
    pub async fn of_customer(customer: &CustomerId, database: &Database, time: Budget) -> Result<Vec<Self>, Error> {
        database.ask(&Lookup { subscription_id: None, customer_id: Some(customer) }, time).await
    }
}

struct Lookup<'a> {
    subscription_id: Option<&'a SubscriptionId>,
    customer_id: Option<&'a CustomerId>,
}

impl Query for Lookup<'_> {
    type Answer = Vec<Subscription>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let rows = sqlx::query!(
            r#"select id as "id!", club_id, customer_store_id, create_date, status_id, effect_date,
                   next_status_id, next_effect_date
               from subscriptions(subscription_id => $1, customer_id => $2, seconds => $3)"#,
            self.subscription_id.map(SubscriptionId::as_str),
            self.customer_id.map(CustomerId::as_str),
            time.left().as_secs_f64()
        )
        .fetch_all(connection)
        .await?;
        let subscriptions = rows.into_iter().map(|row| Subscription {
            id: row.id,
            club_id: row.club_id,
            customer_id: row.customer_store_id,
            create_date: row.create_date.map(Moment::from),
            status_id: row.status_id,
            effect_date: row.effect_date.map(Moment::from),
            next: row
                .next_effect_date
                .map(|effect_date| NextStatus { status_id: row.next_status_id, effect_date: effect_date.into() }),
        });
        Ok(subscriptions.collect())
    }
}
