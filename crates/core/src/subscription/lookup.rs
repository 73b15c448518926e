//! Subscriptions as their customers see them.

use std::fmt;

use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    Error,
    caller::Caller,
    clock::Budget,
    database::{Database, Query},
    model::{CustomerId, LONGEST_ID, Moment, SubscriptionId},
    page::{LARGEST_BODY, Page},
};

const USUAL_PAGE: u32 = 1000;

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
        let lookup = Lookup { subscription_id: Some(id), customer_id: caller.customer(), page: None };
        database.ask(&lookup, time).await?.pop().ok_or(Error::SubscriptionNotFound)
    }
}

/// A part of a customer's subscriptions, by create_date, then id.
pub struct CustomerPage {
    pub customer: CustomerId,
    /// The most subscriptions of a page.
    pub limit: Option<u32>,
    /// Subscriptions after this one.
    pub after: Option<Position>,
}

pub struct Subscriptions {
    /// A JSON array.
    pub json: String,
    /// The position of the last one, if more remain.
    pub next_after: Option<Position>,
}

impl CustomerPage {
    /// The highest limit.
    pub const LONGEST: u32 = 10_000;

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(USUAL_PAGE)
    }

    /// The page, which also ends before it is too large for an answer.
    pub async fn read(&self, database: &Database, time: Budget) -> Result<Subscriptions, Error> {
        let lookup = Lookup { subscription_id: None, customer_id: Some(&self.customer), page: Some(self) };
        let Page { json, last } = Page::of(database.ask(&lookup, time).await?, Some(self.limit()), LARGEST_BODY)?;
        Ok(Subscriptions {
            json,
            next_after: last.map(|Subscription { create_date, id, .. }| Position { create_date, id }),
        })
    }
}

/// A subscription's place in the order of the list. Written as `<microseconds>.<id>`; without a create_date, as `.<id>`.
pub struct Position {
    create_date: Option<Moment>,
    id: String,
}

impl Position {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read = || {
            let (create_date, id) = text.split_once('.')?;
            let create_date = match create_date {
                "" => None,
                microseconds => Some(Moment::from_microseconds(microseconds)?),
            };
            let is_id = id.chars().count() <= LONGEST_ID && !id.contains('\0');
            is_id.then(|| Self { create_date, id: id.to_owned() })
        };
        read().ok_or_else(|| Error::invalid("after must be from the link of the page before"))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let create_date = self.create_date.map(|moment| moment.microseconds().to_string()).unwrap_or_default();
        write!(formatter, "{create_date}.{}", self.id)
    }
}

struct Lookup<'a> {
    subscription_id: Option<&'a SubscriptionId>,
    customer_id: Option<&'a CustomerId>,
    /// The part of the customer's subscriptions.
    page: Option<&'a CustomerPage>,
}

impl Query for Lookup<'_> {
    type Answer = Vec<Subscription>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let after = self.page.and_then(|page| page.after.as_ref());
        let rows = sqlx::query!(
            r#"select id as "id!", club_id, customer_store_id, create_date, status_id, effect_date,
                   next_status_id, next_effect_date
               from subscriptions(
                   subscription_id => $1, customer_id => $2, after_create_date => $3, after_id => $4, at_most => $5,
                   seconds => $6
               )"#,
            self.subscription_id.map(SubscriptionId::as_str),
            self.customer_id.map(CustomerId::as_str),
            after.and_then(|after| after.create_date).map(Moment::naive),
            after.map(|after| after.id.as_str()),
            // One more than the limit shows whether more remain.
            self.page.and_then(|page| i32::try_from(page.limit() + 1).ok()),
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
