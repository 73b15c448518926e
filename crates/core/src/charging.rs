//! The protocol of a charge: claim, call out, settle. docs/charging.md says what must hold, and why it does.

use std::time::Duration;

use chrono_tz::Tz;

use crate::{
    Error,
    clock::Budget,
    config::{ConfigError, Settings},
    database::Database,
    ecommerce::{Ecommerce, Outcome},
    lambda::State,
    model::{RequestId, SubscriptionId},
    repository::charges::{Attempt, Attention, Charge, Claim, Claimed, ReleaseDetached, Settled, Settlement, Standing},
};

/// What is left of the function's time after calling out: to settle, on a new connection if need be.
const TO_SETTLE: Duration = Duration::from_secs(4);
/// A call-out that has less than this (or than the configured timeout, if that is less) is not begun.
const SHORTEST_CALL_OUT: Duration = Duration::from_secs(2);
/// Races that leave a claim undecided end with the second look; this is for what nobody thought of.
const CLAIMS: u32 = 3;

pub struct Charging {
    database: Database,
    ecommerce: Ecommerce,
    timezone: Tz,
}

impl State for Charging {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::new(settings.database()?),
            ecommerce: Ecommerce::new(settings.ecommerce()?),
            timezone: settings.billing_timezone()?,
        })
    }

    async fn warm(&self) {
        tokio::join!(self.database.connect_ahead(), self.ecommerce.warm());
    }
}

/// The month's charge.
pub struct Charged {
    pub charge: Charge,
    /// It was there before this call.
    pub already: bool,
}

impl Charging {
    /// Charges a subscription for a month, at most once, within `time`.
    pub async fn charge(
        &self,
        subscription_id: SubscriptionId,
        request_id: RequestId,
        time: Budget,
    ) -> Result<Charged, Error> {
        // It runs from before the claim, so it is over before the attempt's deadline is, and by then all is settled.
        let call_out = time.before(TO_SETTLE, self.ecommerce.timeout());
        let claim = Claim::new(
            subscription_id,
            request_id,
            self.timezone,
            call_out.total() + TO_SETTLE,
            call_out.total() >= SHORTEST_CALL_OUT.min(self.ecommerce.timeout()),
        );

        boundary!("before_claim");
        let attempt = match self.claim(&claim, time).await? {
            Claimed::Order(attempt) => attempt,
            Claimed::Already(charge) => return Ok(Charged { charge, already: true }),
            Claimed::NoTime => return Err(Error::EcommerceUnavailable { retry_after: None }),
            Claimed::Undecided => return Err(Error::ChargeInProgress { retry_after: 1 }),
        };
        boundary!("claimed");
        let outcome = self.ecommerce.send(&attempt.order, call_out).await;
        boundary!("answered");
        let settled = self.database.ask(&Settlement { attempt: &attempt, outcome: &outcome }, time).await;
        boundary!("settled");
        conclude(&attempt, &outcome, settled)
    }

    /// How many attempts have an unknown outcome.
    pub async fn attention(&self, time: Budget) -> Result<i64, Error> {
        self.database.ask(&Attention, time).await
    }

    async fn claim(&self, claim: &Claim, time: Budget) -> Result<Claimed, Error> {
        for _ in 1..CLAIMS {
            let claimed = self.database.ask(claim, time).await?;
            if !matches!(claimed, Claimed::Undecided) {
                return Ok(claimed);
            }
            self.database.ask(&ReleaseDetached(claim), time).await?;
        }
        self.database.ask(claim, time).await
    }
}

/// Logs the attempt's outcome, once, and says it to the caller.
fn conclude(attempt: &Attempt, outcome: &Outcome, settled: Result<Settled, Error>) -> Result<Charged, Error> {
    let (attempt_id, request_id) = (attempt.id(), attempt.order.request_id.as_str());
    let upstream_status = outcome.upstream_status();
    let not_certain = || Error::OutcomeNotCertain { request_id: request_id.to_owned() };

    let Settled { standing, detached } = settled.map_err(|error| {
        tracing::error!(
            charge.attempt = %attempt_id, charge.request_id = request_id, charge.outcome = "not_recorded",
            charge.found = outcome.state(), upstream_status, error = std::error::Error::source(&error),
            "charge outcome"
        );
        not_certain()
    })?;
    let stands = matches!(standing, Standing::Charged { .. }) && !detached;
    if matches!(outcome, Outcome::Accepted { .. }) && !stands {
        tracing::error!(
            charge.attempt = %attempt_id, charge.request_id = request_id, charge.detached = detached, upstream_status,
            "order accepted for a charge that was decided otherwise or whose subscription has gone"
        );
    }
    let (state, result) = match standing {
        Standing::Charged { charge, own } => ("charged", Ok(Charged { charge, already: !own })),
        Standing::Rejected => {
            ("rejected", Err(Error::OrderRejected { upstream_status: upstream_status.unwrap_or_default() }))
        }
        Standing::NotSent => ("not_sent", Err(Error::EcommerceUnavailable { retry_after: outcome.retry_after() })),
        Standing::NotCertain => ("unknown", Err(not_certain())),
    };
    tracing::info!(
        charge.attempt = %attempt_id, charge.request_id = request_id, charge.outcome = state, upstream_status,
        "charge outcome"
    );
    result
}
