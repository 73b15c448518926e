//! The attempts of a month, for the operators, by pages.

use std::fmt;

use chrono_tz::Tz;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ledger::recorded, state::ChargeState};
use crate::{
    Error,
    clock::Budget,
    database::{Database, Query},
    model::{BillingMonth, Moment, SubscriptionId},
    page::{self, Page, Parameters},
};

const USUAL_PAGE: u32 = 1000;
const LARGEST_PAGE: usize = 4_000_000;

/// A part of a month's attempts.
pub struct MonthPage {
    /// The current month if there is none.
    pub month: Option<BillingMonth>,
    /// Attempts in these states.
    pub states: Option<Vec<ChargeState>>,
    pub subscription_id: Option<SubscriptionId>,
    /// The most attempts of a page.
    pub limit: Option<u32>,
    /// Attempts after this one.
    pub after: Option<Position>,
    pub orphaned: bool,
}

/// An attempt's place in the order of the list. Written as `<microseconds>.<id>.<subscription_id>`.
pub struct Position {
    claimed_at: Moment,
    id: Uuid,
    subscription_id: String,
}

impl Position {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read = || {
            let mut parts = text.splitn(3, '.');
            let claimed_at = Moment::from_microseconds(parts.next()?)?;
            let id = parts.next()?.parse().ok()?;
            let subscription_id = parts.next().filter(|id| !id.contains('\0'))?.to_owned();
            Some(Self { claimed_at, id, subscription_id })
        };
        read().ok_or_else(|| Error::invalid("after must be from the link of the page before"))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.claimed_at.microseconds(), self.id, self.subscription_id)
    }
}

/// The number of subscriptions by the state of their month.
#[derive(Serialize)]
struct Counts {
    charged: i64,
    in_flight: i64,
    unknown: i64,
    rejected: i64,
    not_sent: i64,
}

#[derive(Serialize)]
struct Attempt {
    subscription_id: String,
    request_id: String,
    state: ChargeState,
    claimed_at: Moment,
    settled_at: Option<Moment>,
    upstream_status: Option<i16>,
    upstream_answer: Option<Box<RawValue>>,
    order: Option<Box<RawValue>>,
    late_order_at: Option<Moment>,
    orphaned: bool,
    decided_by: Option<String>,
    decided_at: Option<Moment>,
    decided_because: Option<String>,
    #[serde(skip)]
    position: Position,
}

impl MonthPage {
    /// The highest limit.
    pub const LONGEST: u32 = 10_000;

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(USUAL_PAGE)
    }

    pub async fn read(&self, database: &Database, timezone: Tz, time: Budget) -> Result<Page, Error> {
        let found = database.fetch(&MonthQuery { page: self, timezone }, time).await?;
        self.fit(found)
    }

    /// Ends the page early if it is too large.
    fn fit(&self, Found { month, counts, attempts }: Found) -> Result<Page, Error> {
        let internal = |error: serde_json::Error| Error::Internal(error.into());
        let (json, last) = page::fit(attempts, Some(self.limit()), LARGEST_PAGE)?;
        let charges = RawValue::from_string(json).map_err(internal)?;
        let json = serde_json::to_string(&Month { month, counts, charges }).map_err(internal)?;
        Ok(Page { json, next: last.map(|last| self.parameters(month, &last.position)) })
    }

    /// The parameters of the next page.
    fn parameters(&self, month: BillingMonth, after: &Position) -> Parameters {
        let states = self.states.as_ref().map(|states| states.iter().map(|state| state.as_str()).collect::<Vec<_>>());
        [
            Some(("month", month.to_string())),
            states.map(|states| ("state", states.join(","))),
            self.subscription_id.as_ref().map(|id| ("subscription_id", id.as_str().to_owned())),
            self.orphaned.then(|| ("orphaned", "true".to_owned())),
            self.limit.map(|limit| ("limit", limit.to_string())),
            Some(("after", after.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[derive(Serialize)]
struct Month {
    month: BillingMonth,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    charges: Box<RawValue>,
}

struct MonthQuery<'a> {
    page: &'a MonthPage,
    timezone: Tz,
}

struct Found {
    month: BillingMonth,
    /// Only for the first page.
    counts: Option<Counts>,
    /// One more than the page may have, if there are more.
    attempts: Vec<Attempt>,
}

impl Query for MonthQuery<'_> {
    type Answer = Found;

    async fn fetch(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<Found> {
        let MonthPage { month, states, subscription_id, after, orphaned, .. } = self.page;
        let states: Option<Vec<String>> =
            states.as_ref().map(|states| states.iter().map(|state| state.as_str().to_owned()).collect());
        // There is always a row, be it without an attempt; each has the month and the counts.
        let rows = sqlx::query!(
            r#"select month.first_day as "month!", counts.charged, counts.in_flight, counts.unknown, counts.rejected,
                   counts.not_sent, attempt.id as "id?", attempt.subscription_id as "subscription_id?",
                   attempt.request_id as "request_id?", attempt.state as "state?: ChargeState", attempt.claimed_at as "claimed_at?",
                   attempt.settled_at, attempt.upstream_status, attempt.upstream_answer, attempt."order",
                   attempt.late_order_at, attempt.orphaned as "orphaned?", attempt.decided_by, attempt.decided_at,
                   attempt.decided_because
               from (select coalesce($1, current_billing_month(billing_timezone => $2)) as first_day) month
               left join lateral count_charges(month => month.first_day) counts on $8::uuid is null
               left join lateral charges_of_month(
                   month => month.first_day, states => $3, of_subscription_id => $4, with_orphans => $5,
                   after_subscription => $6, after_claimed_at => $7, after_id => $8, at_most => $9, enough_bytes => $10
               ) attempt on true"#,
            month.map(BillingMonth::first_day),
            self.timezone.name(),
            states.as_deref(),
            subscription_id.as_ref().map(SubscriptionId::as_str),
            *orphaned,
            after.as_ref().map(|after| after.subscription_id.as_str()),
            after.as_ref().map(|after| after.claimed_at.naive().and_utc()),
            after.as_ref().map(|after| after.id),
            i32::try_from(self.page.limit() + 1).unwrap_or(i32::MAX),
            LARGEST_PAGE as i32
        )
        .fetch_all(connection)
        .await?;
        let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let month = BillingMonth::of(first.month);
        let counts = match (first.charged, first.in_flight, first.unknown, first.rejected, first.not_sent) {
            (Some(charged), Some(in_flight), Some(unknown), Some(rejected), Some(not_sent)) => {
                Some(Counts { charged, in_flight, unknown, rejected, not_sent })
            }
            _ => None,
        };
        let mut attempts = Vec::new();
        for row in rows {
            let (Some(id), Some(subscription_id), Some(request_id), Some(state), Some(claimed_at), Some(orphaned)) =
                (row.id, row.subscription_id, row.request_id, row.state, row.claimed_at, row.orphaned)
            else {
                continue;
            };
            attempts.push(Attempt {
                position: Position { claimed_at: claimed_at.into(), id, subscription_id: subscription_id.clone() },
                subscription_id,
                request_id,
                state,
                claimed_at: claimed_at.into(),
                settled_at: row.settled_at.map(Moment::from),
                upstream_status: row.upstream_status,
                upstream_answer: recorded(row.upstream_answer),
                order: recorded(row.order),
                late_order_at: row.late_order_at.map(Moment::from),
                orphaned,
                decided_by: row.decided_by,
                decided_at: row.decided_at.map(Moment::from),
                decided_because: row.decided_because,
            });
        }
        Ok(Found { month, counts, attempts })
    }
}
