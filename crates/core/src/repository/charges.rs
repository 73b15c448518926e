//! The ledger of charges.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Error,
    database::Query,
    ecommerce::{Order, Outcome},
    model::{BillingMonth, Moment, RequestId, SubscriptionId},
};

/// One call's wish to charge. Its ids are made with it, so that a claim whose answer was lost is recognised.
pub struct Claim {
    attempt_id: Uuid,
    token: Uuid,
    subscription_id: SubscriptionId,
    request_id: RequestId,
    timezone: Tz,
    /// From the claim to the attempt's deadline, after which nothing is sent and the attempt counts as unknown.
    deadline: Duration,
    /// Whether there is time for that at all; if not, nothing is claimed.
    may_call_out: bool,
}

impl Claim {
    pub fn new(
        subscription_id: SubscriptionId,
        request_id: RequestId,
        timezone: Tz,
        deadline: Duration,
        may_call_out: bool,
    ) -> Self {
        let (attempt_id, token) = (Uuid::new_v4(), Uuid::new_v4());
        Self { attempt_id, token, subscription_id, request_id, timezone, deadline, may_call_out }
    }
}

/// What a call may do.
pub enum Claimed {
    /// Send this order, then settle the attempt.
    Order(Attempt),
    /// The month is charged; there is nothing to do.
    Already(Charge),
    /// There is no time left to call out.
    NoTime,
    /// A race left it open, or an attempt of a subscription that has gone stands in the way.
    Undecided,
}

/// An attempt that this call holds.
pub struct Attempt {
    id: Uuid,
    token: Uuid,
    pub order: Order,
}

impl Attempt {
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// A charge that the ledger has.
pub struct Charge {
    pub request_id: String,
    pub month: BillingMonth,
    pub charged_at: Option<Moment>,
    pub order: Option<Box<RawValue>>,
}

impl Query for Claim {
    type Answer = Claimed;

    async fn ask(&self, connection: &mut PgConnection) -> Result<Claimed, Error> {
        let row = sqlx::query_file!(
            "sql/claim_charge.sql",
            self.subscription_id.as_str(),
            self.request_id.as_str(),
            self.attempt_id,
            self.token,
            self.timezone.name(),
            self.deadline.as_secs_f64(),
            self.may_call_out
        )
        .fetch_one(connection)
        .await?;
        let month = BillingMonth::of(row.billing_month);
        let live_request_id = row.live_request_id.unwrap_or_default();
        match row.verdict.as_str() {
            "claimed" => match (row.attempt_id, row.customer_store_id, row.store_sku) {
                (Some(id), Some(customer_id), Some(sku_id)) => Ok(Claimed::Order(Attempt {
                    id,
                    token: self.token,
                    order: Order { request_id: self.request_id.clone(), customer_id, sku_id },
                })),
                _ => Err(Error::Internal("a claim without an order".into())),
            },
            "already_charged" => Ok(Claimed::Already(Charge {
                request_id: live_request_id,
                month,
                charged_at: row.settled_at.map(Moment::from),
                order: row.platform_order.and_then(|json| RawValue::from_string(json).ok()),
            })),
            "no_time" => Ok(Claimed::NoTime),
            "undecided" => Ok(Claimed::Undecided),
            "subscription_not_found" => Err(Error::SubscriptionNotFound),
            "request_id_reused" => Err(Error::RequestIdReused),
            "in_progress" => Err(Error::ChargeInProgress {
                retry_after: row
                    .seconds_to_deadline
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .unwrap_or(1)
                    .max(1),
            }),
            "outcome_unknown" => Err(Error::ChargeOutcomeUnknown { request_id: live_request_id, stuck: false }),
            "stuck" => Err(Error::ChargeOutcomeUnknown { request_id: live_request_id, stuck: true }),
            "not_chargeable" => Err(Error::NotChargeable),
            verdict => Err(Error::Internal(format!("a claim ended as {verdict}").into())),
        }
    }
}

/// Lets go of the month and the request_id that attempts of subscriptions that have gone still hold.
pub struct ReleaseDetached<'a>(pub &'a Claim);

impl Query for ReleaseDetached<'_> {
    type Answer = ();

    async fn ask(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let Self(claim) = self;
        sqlx::query_file!("sql/release_detached.sql", claim.subscription_id.as_str(), claim.request_id.as_str())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// How many attempts wait for a person.
pub struct Attention;

impl Query for Attention {
    type Answer = i64;

    async fn ask(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        Ok(sqlx::query_scalar!(r#"select count(*) as "waiting!" from charge_attention"#).fetch_one(connection).await?)
    }
}

/// What became of an attempt's order, to be recorded.
pub struct Settlement<'a> {
    pub attempt: &'a Attempt,
    pub outcome: &'a Outcome,
}

/// How an attempt stands after settling it.
pub struct Settled {
    pub standing: Standing,
    /// Its subscription has gone meanwhile.
    pub detached: bool,
}

pub enum Standing {
    /// Charged by this call or, if not `own`, by another that took the attempt over.
    Charged {
        charge: Charge,
        own: bool,
    },
    Rejected,
    NotSent,
    /// Unknown, held by another call, or decided by a person.
    NotCertain,
}

impl Query for Settlement<'_> {
    type Answer = Settled;

    async fn ask(&self, connection: &mut PgConnection) -> Result<Settled, Error> {
        let Self { attempt, outcome } = self;
        let row = sqlx::query_file!(
            "sql/settle_charge.sql",
            attempt.id,
            attempt.token,
            outcome.state(),
            outcome.upstream_status().and_then(|status| i16::try_from(status).ok()),
            outcome.order()
        )
        .fetch_one(connection)
        .await?;
        let standing = match row.state.as_str() {
            "charged" => Standing::Charged {
                charge: Charge {
                    request_id: attempt.order.request_id.as_str().to_owned(),
                    month: BillingMonth::of(row.billing_month),
                    charged_at: row.settled_at.map(Moment::from),
                    order: row.platform_order.and_then(|json| RawValue::from_string(json).ok()),
                },
                own: row.own,
            },
            "rejected" if row.own && outcome.state() == "rejected" => Standing::Rejected,
            "not_sent" if row.own && outcome.state() == "not_sent" => Standing::NotSent,
            _ => Standing::NotCertain,
        };
        Ok(Settled { standing, detached: row.detached })
    }
}
