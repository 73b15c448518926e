//! The ledger of charges: claim, settle, and the count of unresolved ones.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::state::{ChargeState, Verdict};
use crate::{
    Error,
    clock::Budget,
    database::{Database, Query},
    model::{BillingMonth, Moment, RequestId, SubscriptionId},
};

/// A call's claim to charge. Its ids are made with it, so a repeat after a lost answer is recognized.
pub struct Claim {
    attempt_id: Uuid,
    token: Uuid,
    subscription_id: SubscriptionId,
    request_id: RequestId,
    timezone: Tz,
    /// The time to call out. It also runs while the database is waited for.
    call_out: Budget,
    /// With less than this to call out, nothing is claimed.
    shortest_call_out: Duration,
    /// Kept after calling out. At the end of both is the attempt's deadline, from which on it counts as unknown.
    to_settle: Duration,
    /// Which the caller says; in another one, nothing is claimed.
    expected_month: Option<BillingMonth>,
}

impl Claim {
    pub fn new(
        subscription_id: SubscriptionId,
        request_id: RequestId,
        timezone: Tz,
        call_out: Budget,
        shortest_call_out: Duration,
        to_settle: Duration,
        expected_month: Option<BillingMonth>,
    ) -> Self {
        let (attempt_id, token) = (Uuid::new_v4(), Uuid::new_v4());
        Self {
            attempt_id,
            token,
            subscription_id,
            request_id,
            timezone,
            call_out,
            shortest_call_out,
            to_settle,
            expected_month,
        }
    }

    /// Identifies this call as the holder of the attempt.
    pub fn token(&self) -> Uuid {
        self.token
    }
}

/// What a claim found and decided.
pub struct Claimed {
    pub verdict: Verdict,
    /// The call's. None if the request_id is only another subscription's.
    pub month: Option<BillingMonth>,
    /// The month's live attempt; this call's own if the verdict is [`Verdict::Claimed`].
    pub live: Option<LiveAttempt>,
}

/// The attempt that holds a month.
pub struct LiveAttempt {
    pub id: Uuid,
    pub request_id: RequestId,
    pub month: BillingMonth,
    pub customer_id: String,
    pub sku_id: i32,
    pub charged_at: Option<Moment>,
    pub order: Option<Box<RawValue>>,
    /// Seconds until its deadline, at least 1.
    pub seconds_left: u64,
}

/// A recorded charge.
pub struct Charge {
    pub request_id: RequestId,
    pub month: BillingMonth,
    pub charged_at: Option<Moment>,
    pub order: Option<Box<RawValue>>,
}

impl From<LiveAttempt> for Charge {
    fn from(attempt: LiveAttempt) -> Self {
        let LiveAttempt { request_id, month, charged_at, order, .. } = attempt;
        Self { request_id, month, charged_at, order }
    }
}

impl Query for Claim {
    type Answer = Claimed;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Claimed> {
        let call_out = self.call_out.left();
        let row = sqlx::query!(
            r#"select verdict as "verdict!", held_attempt_id, held_request_id, billing_month,
                   customer_store_id, store_sku, charged_at, platform_order, retry_after
               from claim_charge(
                   subscription_id => $1, request_id => $2, attempt_id => $3, token => $4, billing_timezone => $5,
                   seconds_to_deadline => $6, may_call_out => $7, expected_month => $8, seconds => $9
               )"#,
            self.subscription_id.as_str(),
            self.request_id.as_str(),
            self.attempt_id,
            self.token,
            self.timezone.name(),
            (call_out + self.to_settle).as_secs_f64(),
            call_out >= self.shortest_call_out,
            self.expected_month.map(BillingMonth::first_day),
            time.left().as_secs_f64()
        )
        .fetch_one(connection)
        .await?;
        let month = row.billing_month.map(BillingMonth::of);
        let live = match (row.held_attempt_id, row.held_request_id, month, row.customer_store_id, row.store_sku) {
            (Some(id), Some(request_id), Some(month), Some(customer_id), Some(sku_id)) => Some(LiveAttempt {
                id,
                request_id: RequestId::parse(&request_id).map_err(decode)?,
                month,
                customer_id,
                sku_id,
                charged_at: row.charged_at.map(Moment::from),
                order: recorded(row.platform_order),
                seconds_left: row.retry_after.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(1),
            }),
            _ => None,
        };
        Ok(Claimed { verdict: row.verdict.parse().map_err(decode)?, month, live })
    }
}

/// How a call-out ended, to be recorded.
pub struct Settlement<'a> {
    pub attempt_id: Uuid,
    pub token: Uuid,
    pub state: ChargeState,
    pub upstream_status: Option<u16>,
    /// The platform's JSON.
    pub order: Option<&'a str>,
    /// The platform's words when it refused, as JSON.
    pub upstream_answer: Option<&'a str>,
}

/// An attempt after it is settled.
pub struct Settled {
    pub state: ChargeState,
    /// Whether this call put it in that state.
    pub own: bool,
    pub month: BillingMonth,
    pub charged_at: Option<Moment>,
    pub order: Option<Box<RawValue>>,
    /// Whether its subscription was deleted meanwhile.
    pub orphaned: bool,
}

impl Query for Settlement<'_> {
    type Answer = Settled;

    async fn ask(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<Settled> {
        let row = sqlx::query!(
            r#"select state as "state!", own as "own!", billing_month as "billing_month!", charged_at, kept_order,
                   orphaned as "orphaned!"
               from settle_charge(
                   attempt_id => $1, token => $2, outcome => $3, upstream_status => $4, platform_order => $5,
                   upstream_answer => $6
               )"#,
            self.attempt_id,
            self.token,
            self.state.as_str(),
            self.upstream_status.and_then(|status| i16::try_from(status).ok()),
            self.order,
            self.upstream_answer
        )
        .fetch_one(connection)
        .await?;
        Ok(Settled {
            state: row.state.parse().map_err(decode)?,
            own: row.own,
            month: BillingMonth::of(row.billing_month),
            charged_at: row.charged_at.map(Moment::from),
            order: recorded(row.kept_order),
            orphaned: row.orphaned,
        })
    }
}

/// How many charges need a person.
pub async fn count_unresolved(database: &Database, time: Budget) -> Result<i64, Error> {
    database.ask(&UnresolvedCharges, time).await
}

struct UnresolvedCharges;

impl Query for UnresolvedCharges {
    type Answer = i64;

    async fn ask(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<i64> {
        sqlx::query_scalar!(r#"select count_unresolved_charges() as "count!""#).fetch_one(connection).await
    }
}

/// The platform's JSON, as recorded.
pub(super) fn recorded(json: Option<String>) -> Option<Box<RawValue>> {
    json.and_then(|json| RawValue::from_string(json).ok())
}

pub(super) fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
