//! The ledger of charges: claim and settle.

use std::time::Duration;

use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    platform::{Answer, Order},
    state::ChargeState,
};
use crate::{
    Error,
    clock::Budget,
    database::{Query, not_null},
    model::{BillingMonth, Moment, RequestId, SubscriptionId},
};

/// A call's claim to charge. Its ids are made with it, so a repeat after a lost answer is recognized.
pub struct Claim {
    attempt_id: Uuid,
    /// Identifies this call as the holder of the attempt.
    pub token: Uuid,
    pub subscription_id: SubscriptionId,
    pub request_id: RequestId,
    timezone: Tz,
    /// The time to call out. It also runs while the database is waited for.
    call_out: Budget,
    /// With less than this to call out, nothing is claimed.
    shortest_call_out: Duration,
    /// Kept after calling out. At the end of both is the attempt's deadline, from which on it counts as unknown.
    settle_time: Duration,
    /// The month that the caller means; in another one, nothing is claimed.
    expected_month: Option<BillingMonth>,
}

impl Claim {
    pub fn new(
        subscription_id: SubscriptionId,
        request_id: RequestId,
        timezone: Tz,
        call_out: Budget,
        shortest_call_out: Duration,
        settle_time: Duration,
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
            settle_time,
            expected_month,
        }
    }
}

/// The decision of `claim_charge()`.
#[derive(Clone, Copy, Debug, PartialEq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum Verdict {
    Claimed,
    AlreadyCharged,
    InProgress,
    /// The month's attempt has an unknown outcome and another request_id.
    OutcomeUnknown,
    /// The attempt's outcome is unknown, and it cannot be repeated: a person decides.
    Undecidable,
    NotChargeable,
    /// There is too little time to call out.
    NoTime,
    /// The call's month is not the one that the caller means.
    MonthMismatch,
    RequestIdReused,
    SubscriptionNotFound,
}

/// The end of a claim that is not refused.
pub enum Claimed {
    /// This call holds the attempt: send its order, then settle it.
    Attempt { id: Uuid, order: Order },
    /// The month has its charge.
    Charge(Charge),
}

/// The month's charge, as it is answered.
#[derive(Serialize)]
pub struct Charge {
    pub subscription_id: SubscriptionId,
    /// The charge's request_id, which may differ from the call's.
    pub request_id: RequestId,
    pub month: BillingMonth,
    pub charged_at: Option<Moment>,
    /// True if it was there before this call.
    pub already_charged: bool,
    /// The platform's JSON, as it came.
    pub order: Option<Box<RawValue>>,
}

impl Query for Claim {
    /// The claim's end, or the refusal.
    type Answer = Result<Claimed, Error>;

    async fn fetch(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        let call_out = self.call_out.left();
        let row = sqlx::query!(
            r#"select verdict as "verdict!: Verdict", live_attempt_id, live_request_id, billing_month,
                   customer_id, sku_id, charged_at, "order", retry_after
               from claim_charge(
                   subscription_id => $1, request_id => $2, attempt_id => $3, token => $4, billing_timezone => $5,
                   deadline => $6, may_call_out => $7, expected_month => $8, seconds => $9
               )"#,
            self.subscription_id.as_str(),
            self.request_id.as_str(),
            self.attempt_id,
            self.token,
            self.timezone.name(),
            (call_out + self.settle_time).as_secs_f64(),
            call_out >= self.shortest_call_out,
            self.expected_month.map(BillingMonth::first_day),
            time.left().as_secs_f64()
        )
        .fetch_one(connection)
        .await?;
        let month = row.billing_month.map(BillingMonth::of);
        Ok(match row.verdict {
            Verdict::Claimed => Ok(Claimed::Attempt {
                id: not_null(row.live_attempt_id)?,
                order: Order {
                    request_id: self.request_id.clone(),
                    customer_id: not_null(row.customer_id)?,
                    sku_id: not_null(row.sku_id)?,
                },
            }),
            Verdict::AlreadyCharged => Ok(Claimed::Charge(Charge {
                subscription_id: self.subscription_id.clone(),
                request_id: RequestId::parse(&not_null(row.live_request_id)?)
                    .map_err(|error| sqlx::Error::Decode(error.into()))?,
                month: not_null(month)?,
                charged_at: row.charged_at.map(Moment::from),
                already_charged: true,
                order: recorded(row.order),
            })),
            Verdict::InProgress => Err(Error::ChargeInProgress {
                retry_after: row.retry_after.and_then(|seconds| u64::try_from(seconds).ok()),
            }),
            Verdict::OutcomeUnknown | Verdict::Undecidable => Err(Error::EarlierOutcomeUnknown {
                request_id: not_null(row.live_request_id)?,
                undecidable: row.verdict == Verdict::Undecidable,
            }),
            Verdict::NotChargeable => Err(Error::NotChargeable),
            Verdict::NoTime => Err(Error::EcommerceUnavailable { retry_after: None }),
            Verdict::MonthMismatch => Err(Error::MonthMismatch { month: not_null(month)?.to_string() }),
            Verdict::RequestIdReused => Err(Error::RequestIdReused { month: month.map(|month| month.to_string()) }),
            Verdict::SubscriptionNotFound => Err(Error::SubscriptionNotFound),
        })
    }
}

/// The platform's answer to an attempt's order, to be recorded.
pub struct Settlement<'a> {
    pub attempt_id: Uuid,
    pub token: Uuid,
    pub answer: &'a Answer,
}

/// An attempt after it is settled.
pub struct Settled {
    pub state: ChargeState,
    /// True if this call put it in that state.
    pub own: bool,
    pub month: BillingMonth,
    pub charged_at: Option<Moment>,
    pub order: Option<Box<RawValue>>,
    /// True if its subscription was deleted meanwhile.
    pub orphaned: bool,
}

impl Query for Settlement<'_> {
    type Answer = Settled;

    async fn fetch(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<Settled> {
        let Answer { state, upstream_status, order, upstream_answer, .. } = self.answer;
        let row = sqlx::query!(
            r#"select state as "state!: ChargeState", "order", own as "own!", billing_month as "billing_month!",
                   charged_at, orphaned as "orphaned!"
               from settle_charge(
                   attempt_id => $1, token => $2, state => $3, upstream_status => $4, "order" => $5,
                   upstream_answer => $6
               )"#,
            self.attempt_id,
            self.token,
            state.as_str(),
            upstream_status.and_then(|status| i16::try_from(status).ok()),
            order.as_deref().map(RawValue::get),
            upstream_answer.as_ref().map(Value::to_string)
        )
        .fetch_one(connection)
        .await?;
        Ok(Settled {
            state: row.state,
            own: row.own,
            month: BillingMonth::of(row.billing_month),
            charged_at: row.charged_at.map(Moment::from),
            order: recorded(row.order),
            orphaned: row.orphaned,
        })
    }
}

/// The platform's JSON, as recorded.
pub(super) fn recorded(json: Option<String>) -> Option<Box<RawValue>> {
    json.and_then(|json| RawValue::from_string(json).ok())
}
