//! Claim, call out, settle.

use std::time::Duration;

use chrono_tz::Tz;
use uuid::Uuid;

use super::{
    ledger::{Charge, Claim, Claimed, Settled, Settlement},
    platform::{Answer, Platform},
    state::ChargeState,
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
const SETTLE_TIME: Duration = Duration::from_secs(4);
/// A call-out begins only with this much time, or with half of the configured timeout if that is less.
const SHORTEST_CALL_OUT: Duration = Duration::from_secs(2);

/// The state that the charge function keeps between requests.
pub struct ProtocolState {
    database: Database,
    platform: Platform,
    timezone: Tz,
}

impl State for ProtocolState {
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

impl ProtocolState {
    /// Charges a subscription for a month, at most once, within `time`; only for `expected_month`, if there is one.
    pub async fn charge(
        &self,
        subscription_id: SubscriptionId,
        request_id: RequestId,
        expected_month: Option<BillingMonth>,
        time: Budget,
    ) -> Result<Charge, Error> {
        // Runs from before the claim, so it ends before the attempt's deadline and leaves time to settle.
        let call_out = time.before(SETTLE_TIME, self.platform.timeout());
        let claim = Claim::new(
            subscription_id,
            request_id,
            self.timezone,
            call_out,
            SHORTEST_CALL_OUT.min(self.platform.timeout() / 2),
            SETTLE_TIME,
            expected_month,
        );

        failpoint!("before_claim");
        let (attempt_id, order) = match self.database.fetch(&claim, time).await?? {
            Claimed::Attempt { id, order } => (id, order),
            Claimed::Charge(charge) => return Ok(charge),
        };
        failpoint!("claimed");
        let answer = self.platform.send(&order, call_out).await;
        failpoint!("answered");
        let settlement = Settlement { attempt_id, token: claim.token, answer: &answer };
        let settled = self.database.fetch(&settlement, time).await;
        failpoint!("settled");
        conclude(claim, attempt_id, answer, settled)
    }
}

/// Logs the state of the attempt, once, and turns it into the answer.
fn conclude(claim: Claim, attempt_id: Uuid, answer: Answer, settled: Result<Settled, Error>) -> Result<Charge, Error> {
    let Claim { subscription_id, request_id, .. } = claim;
    let Answer { state: sent, upstream_status, upstream_answer, retry_after, .. } = answer;
    let unknown = || Error::ThisOutcomeUnknown { request_id: request_id.to_string(), retry_after };

    let settled = settled.map_err(|error| {
        tracing::error!(
            charge.attempt = %attempt_id, charge.request_id = %request_id, charge.state = sent.as_str(), upstream_status,
            error = std::error::Error::source(&error), "charge not settled"
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
            let request_id = request_id.clone();
            let charge = Charge { subscription_id, request_id, month, charged_at, already_charged: !own, order };
            (ChargeState::Charged, Ok(charge))
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
        charge.attempt = %attempt_id, charge.request_id = %request_id, charge.state = state.as_str(), upstream_status,
        "charge settled"
    );
    result
}
