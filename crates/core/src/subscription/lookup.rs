//! Subscriptions as their customers see them.

use std::fmt;

use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    Error,
    caller::{Caller, CustomerClaim},
    clock::Budget,
    config::{ConfigError, Settings},
    database::{Database, Query},
    lambda::State,
    model::{CustomerId, LONGEST_ID, Moment, SubscriptionId},
    page::{self, LARGEST_BODY, Page, Parameters},
};

const USUAL_PAGE: u32 = 1000;

/// The state that the lookup function keeps between requests.
pub struct LookupState {
    pub database: Database,
    pub customer_claim: CustomerClaim,
    /// In which the billing month begins.
    pub timezone: Tz,
}

impl State for LookupState {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::from_settings(settings)?,
            customer_claim: CustomerClaim::from_settings(settings),
            timezone: settings.billing_timezone()?,
        })
    }

    async fn warm(&self) {
        self.database.warm().await;
    }
}

/// A subscription with its current status. Others write the approved tables too, so most of it may be missing.
#[derive(Serialize)]
pub struct Subscription {
    id: String,
    club_id: Option<i32>,
    customer_id: Option<String>,
    create_date: Option<Moment>,
    /// None if no entry is in effect; then effect_date is None, too.
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
        database.fetch(&lookup, time).await?.pop().ok_or(Error::SubscriptionNotFound)
    }
}

/// A part of a customer's subscriptions, by create_date, then id.
pub struct CustomerPage {
    customer_id: CustomerId,
    /// True if the request names the customer: then the link to the next page does, too.
    is_named: bool,
    /// The most subscriptions of a page.
    limit: Option<u32>,
    /// Subscriptions after this one.
    after: Option<Position>,
}

impl CustomerPage {
    /// The highest limit.
    pub const LONGEST: u32 = 10_000;

    /// The caller's subscriptions, if the caller is a customer; else those of the customer in the request.
    pub fn new(
        caller: Caller,
        named: Option<CustomerId>,
        limit: Option<u32>,
        after: Option<Position>,
    ) -> Result<Self, Error> {
        if let Some(customer_id) = &named {
            caller.may_act_for(customer_id)?;
        }
        let is_named = named.is_some();
        let customer_id = match caller {
            Caller::Customer(customer_id) => customer_id,
            Caller::Anyone => named.ok_or_else(|| Error::invalid("customer_id is missing"))?,
        };
        Ok(Self { customer_id, is_named, limit, after })
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(USUAL_PAGE)
    }

    /// The page, which also ends before it is too large for an answer.
    pub async fn read(&self, database: &Database, time: Budget) -> Result<Page, Error> {
        let lookup = Lookup { subscription_id: None, customer_id: Some(&self.customer_id), page: Some(self) };
        let (json, last) = page::fit(database.fetch(&lookup, time).await?, Some(self.limit()), LARGEST_BODY)?;
        let next = last.map(|Subscription { create_date, id, .. }| self.parameters(&Position { create_date, id }));
        Ok(Page { json, next })
    }

    /// The parameters of the next page.
    fn parameters(&self, after: &Position) -> Parameters {
        [
            self.is_named.then(|| ("customer_id", self.customer_id.as_str().to_owned())),
            self.limit.map(|limit| ("limit", limit.to_string())),
            Some(("after", after.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect()
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

    async fn fetch(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let after = self.page.and_then(|page| page.after.as_ref());
        let rows = sqlx::query!(
            r#"select id as "id!", club_id, customer_id, create_date, status_id, effect_date,
                   next_status_id, next_effect_date
               from subscriptions(
                   subscription_id => $1, of_customer_id => $2, after_create_date => $3, after_id => $4, at_most => $5,
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
            customer_id: row.customer_id,
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
