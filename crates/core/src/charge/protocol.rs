//! Claim, call out, settle.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::{Value, value::RawValue};

use super::{
    ledger::{Charge, Claim, Claimed, LiveAttempt, Settled, Settlement},
    platform::{Answer, Order, Platform},
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

/// Time that is kept after calling out: to settle, on a new connection if need be.
const TO_SETTLE: Duration = Duration::from_secs(4);
/// A call-out begins only with this much time, or with half of the configured timeout if that is less.
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
            database: Database::from_settings(settings)?,
            platform: Platform::new(settings.ecommerce()?),
            timezone: settings.billing_timezone()?,
        })
    }

    async fn warm(&self) {
        // The second goes on while the first waits for the network.
        tokio::join!(self.database.connect_ahead(), async { self.platform.prepare() });
    }
}

/// The month's charge.
pub struct Charged {
    pub charge: Charge,
    /// Whether it was there before this call.
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
        // Runs from before the claim, so it ends before the attempt's deadline and leaves time to settle.
        let call_out = time.before(TO_SETTLE, self.platform.timeout());
        let claim = Claim::new(
            subscription_id,
            request_id,
            self.timezone,
            call_out,
            SHORTEST_CALL_OUT.min(self.platform.timeout() / 2),
            TO_SETTLE,
            expected_month,
        );

        failpoint!("before_claim");
        let attempt = match decide(self.database.ask(&claim, time).await?)? {
            Decision::Send(attempt) => attempt,
            Decision::AlreadyCharged(charge) => return Ok(Charged { charge, already: true }),
        };
        failpoint!("claimed");
        let order =
            Order { request_id: &attempt.request_id, customer_id: &attempt.customer_id, sku_id: attempt.sku_id };
        let answer = self.platform.send(&order, call_out).await;
        failpoint!("answered");
        let upstream_answer = answer.upstream_answer.as_ref().map(Value::to_string);
        let settlement = Settlement {
            attempt_id: attempt.id,
            token: claim.token(),
            state: answer.state,
            upstream_status: answer.upstream_status,
            order: answer.order.as_deref().map(RawValue::get),
            upstream_answer: upstream_answer.as_deref(),
        };
        let settled = self.database.ask(&settlement, time).await;
        failpoint!("settled");
        conclude(&attempt, answer, settled)
    }
}

enum Decision {
    Send(LiveAttempt),
    AlreadyCharged(Charge),
}

/// What the call does next.
fn decide(Claimed { verdict, month, live }: Claimed) -> Result<Decision, Error> {
    match verdict {
        Verdict::Claimed => Ok(Decision::Send(found(verdict, live)?)),
        Verdict::AlreadyCharged => Ok(Decision::AlreadyCharged(found(verdict, live)?.into())),
        Verdict::InProgress => Err(Error::ChargeInProgress { retry_after: live.map(|attempt| attempt.seconds_left) }),
        Verdict::OutcomeUnknown => {
            let request_id = found(verdict, live)?.request_id.to_string();
            Err(Error::EarlierOutcomeUnknown { request_id, undecidable: false })
        }
        Verdict::Undecidable => {
            let request_id = found(verdict, live)?.request_id.to_string();
            Err(Error::EarlierOutcomeUnknown { request_id, undecidable: true })
        }
        Verdict::NotChargeable => Err(Error::NotChargeable),
        Verdict::NoTime => Err(Error::EcommerceUnavailable { retry_after: None }),
        Verdict::MonthMismatch => Err(Error::MonthMismatch { month: found(verdict, month)?.to_string() }),
        Verdict::RequestIdReused => Err(Error::RequestIdReused { month: month.map(|month| month.to_string()) }),
        Verdict::SubscriptionNotFound => Err(Error::SubscriptionNotFound),
    }
}

/// What a claim with this verdict always answers.
fn found<T>(verdict: Verdict, answered: Option<T>) -> Result<T, Error> {
    answered.ok_or_else(|| Error::Internal(format!("a claim ended as {verdict:?} and does not say of what").into()))
}

/// Logs the attempt's outcome, once, and turns it into the answer.
fn conclude(attempt: &LiveAttempt, answer: Answer, settled: Result<Settled, Error>) -> Result<Charged, Error> {
    let (attempt_id, request_id) = (attempt.id, &attempt.request_id);
    let Answer { state: sent, upstream_status, upstream_answer, retry_after, .. } = answer;
    let unknown = || Error::ThisOutcomeUnknown { request_id: request_id.to_string(), retry_after };

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
            (ChargeState::Rejected, Err(Error::OrderRejected { upstream_status, upstream_answer }))
        }
        ChargeState::NotSent if settled.own && sent == ChargeState::NotSent => {
            let error = match upstream_status {
                Some(401 | 407) => Error::EcommerceUnauthorized { upstream_status },
                _ => Error::EcommerceUnavailable { retry_after },
            };
            (ChargeState::NotSent, Err(error))
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
