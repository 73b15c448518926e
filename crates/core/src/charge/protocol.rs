//! Claim, call out, settle.

use std::time::Duration;

use chrono_tz::Tz;

use super::{
    ledger::{Charge, Claim, Claimed, LiveAttempt, Settled, Settlement},
    platform::{Order, Outcome, Platform},
    state::{ChargeState, Verdict},
};
use crate::{
    Error,
    clock::Budget,
    config::{ConfigError, Settings},
    database::Database,
    lambda::State,
    model::{BillingMonth, RequestId, SubscriptionId},
};

/// What is left of the function's time after calling out: to settle, on a new connection if need be.
const TO_SETTLE: Duration = Duration::from_secs(4);
/// A call-out that has less than this (or than the configured timeout, if that is less) is not begun.
const SHORTEST_CALL_OUT: Duration = Duration::from_secs(2);

/// What the charge function keeps from one request to the next.
pub struct Charging {
    database: Database,
    platform: Platform,
    timezone: Tz,
}

impl State for Charging {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::new(settings.database()?),
            platform: Platform::new(settings.ecommerce()?),
            timezone: settings.billing_timezone()?,
        })
    }

    async fn warm(&self) {
        tokio::join!(self.database.connect_ahead(), self.platform.warm());
    }
}

/// The month's charge.
pub struct Charged {
    pub charge: Charge,
    /// It was there before this call.
    pub already: bool,
}

impl Charging {
    /// Charges a subscription for a month, at most once, within `time`; only for `expected_month`, if there is one.
    pub async fn charge(
        &self,
        subscription_id: SubscriptionId,
        request_id: RequestId,
        expected_month: Option<BillingMonth>,
        time: Budget,
    ) -> Result<Charged, Error> {
        // It runs from before the claim, so it is over before the attempt's deadline is, and by then all is settled.
        let call_out = time.before(TO_SETTLE, self.platform.timeout());
        let claim = Claim::new(
            subscription_id,
            request_id,
            self.timezone,
            call_out.total() + TO_SETTLE,
            call_out.total() >= SHORTEST_CALL_OUT.min(self.platform.timeout()),
            expected_month,
        );

        failpoint!("before_claim");
        let (attempt, order) = match decide(self.database.ask(&claim, time).await?)? {
            Decision::Send(attempt, order) => (attempt, order),
            Decision::AlreadyCharged(charge) => return Ok(Charged { charge, already: true }),
        };
        failpoint!("claimed");
        let outcome = self.platform.send(&order, call_out).await;
        failpoint!("answered");
        let settlement = Settlement {
            attempt_id: attempt.id,
            token: claim.token(),
            state: state_after(&outcome),
            upstream_status: outcome.upstream_status(),
            order: outcome.order(),
        };
        let settled = self.database.ask(&settlement, time).await;
        failpoint!("settled");
        conclude(&attempt, &outcome, settled)
    }
}

enum Decision {
    Send(LiveAttempt, Order),
    AlreadyCharged(Charge),
}

/// What the call does next.
fn decide(Claimed { verdict, month, live }: Claimed) -> Result<Decision, Error> {
    let held = |live: Option<LiveAttempt>| {
        live.ok_or_else(|| Error::Internal(format!("a claim ended as {verdict:?} without an attempt").into()))
    };
    match verdict {
        Verdict::Claimed => {
            let attempt = held(live)?;
            let order = Order {
                request_id: attempt.request_id.clone(),
                customer_id: attempt.customer_id.clone(),
                sku_id: attempt.sku_id,
            };
            Ok(Decision::Send(attempt, order))
        }
        Verdict::AlreadyCharged => Ok(Decision::AlreadyCharged(held(live)?.into())),
        Verdict::InProgress => {
            Err(Error::ChargeInProgress { retry_after: live.map_or(1, |attempt| attempt.seconds_left) })
        }
        Verdict::OutcomeUnknown => {
            Err(Error::ChargeOutcomeUnknown { request_id: held(live)?.request_id.into(), undecidable: false })
        }
        Verdict::Undecidable => {
            Err(Error::ChargeOutcomeUnknown { request_id: held(live)?.request_id.into(), undecidable: true })
        }
        Verdict::NotChargeable => Err(Error::NotChargeable),
        Verdict::NoTime => Err(Error::EcommerceUnavailable { retry_after: None }),
        Verdict::MonthMismatch => Err(Error::MonthMismatch { month: month.to_string() }),
        Verdict::RequestIdReused => Err(Error::RequestIdReused),
        Verdict::SubscriptionNotFound => Err(Error::SubscriptionNotFound),
    }
}

/// The state of an attempt whose call-out ended so.
fn state_after(outcome: &Outcome) -> ChargeState {
    match outcome {
        Outcome::Accepted { .. } => ChargeState::Charged,
        Outcome::Refused { .. } => ChargeState::Rejected,
        Outcome::Throttled { .. } | Outcome::NotSent => ChargeState::NotSent,
        Outcome::Unknown { .. } => ChargeState::Unknown,
    }
}

/// Logs the attempt's outcome, once, and says it to the caller.
fn conclude(attempt: &LiveAttempt, outcome: &Outcome, settled: Result<Settled, Error>) -> Result<Charged, Error> {
    let (attempt_id, request_id) = (attempt.id, &attempt.request_id);
    let upstream_status = outcome.upstream_status();
    let sent = state_after(outcome);
    let unknown = || Error::OutcomeUnknown { request_id: request_id.clone().into() };

    let settled = settled.map_err(|error| {
        tracing::error!(
            charge.attempt = %attempt_id, charge.request_id = %request_id, charge.outcome = "not_recorded",
            charge.found = sent.as_str(), upstream_status, error = std::error::Error::source(&error),
            "charge outcome"
        );
        unknown()
    })?;
    if sent == ChargeState::Charged && (settled.state != ChargeState::Charged || settled.orphaned) {
        tracing::error!(
            charge.attempt = %attempt_id, charge.request_id = %request_id, charge.orphaned = settled.orphaned,
            upstream_status, "order accepted for a charge that had ended otherwise or whose subscription was deleted"
        );
    }
    let (state, result) = match settled.state {
        ChargeState::Charged => {
            let Settled { month, charged_at, order, own, .. } = settled;
            let charge = Charge { request_id: request_id.clone(), month, charged_at, order };
            (ChargeState::Charged, Ok(Charged { charge, already: !own }))
        }
        ChargeState::Rejected if settled.own && sent == ChargeState::Rejected => {
            let upstream_status = upstream_status.unwrap_or_default();
            (ChargeState::Rejected, Err(Error::OrderRejected { upstream_status }))
        }
        ChargeState::NotSent if settled.own && sent == ChargeState::NotSent => {
            (ChargeState::NotSent, Err(Error::EcommerceUnavailable { retry_after: outcome.retry_after() }))
        }
        // Unknown, held by another call, or decided by a person.
        ChargeState::InFlight | ChargeState::Unknown | ChargeState::Rejected | ChargeState::NotSent => {
            (ChargeState::Unknown, Err(unknown()))
        }
    };
    tracing::info!(
        charge.attempt = %attempt_id, charge.request_id = %request_id, charge.outcome = state.as_str(), upstream_status,
        "charge outcome"
    );
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_says_about_the_attempt() {
        for (statuses, state) in [
            (&[200, 201, 202, 204, 299][..], ChargeState::Charged),
            (&[400, 401, 402, 403, 404, 410, 422, 451, 499][..], ChargeState::Rejected),
            (&[429][..], ChargeState::NotSent),
            (&[300, 301, 302, 307, 308, 408, 409, 500, 502, 503, 504, 599][..], ChargeState::Unknown),
        ] {
            for status in statuses {
                assert_eq!(state_after(&Outcome::of_status(*status, None)), state, "{status}");
            }
        }
    }
}
