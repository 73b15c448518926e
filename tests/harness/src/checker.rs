//! The promises of charging, checked on the platform's log and the ledger.

use std::collections::{BTreeMap, BTreeSet};

use ecommerce_stub::Received;
use serde::Deserialize;

/// A row of the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Attempt {
    pub subscription_id: String,
    pub billing_month: String,
    pub request_id: String,
    pub customer_id: String,
    pub sku_id: i64,
    /// The current state.
    pub state: String,
    pub decided_by: Option<String>,
    pub orphaned: bool,
}

impl Attempt {
    fn is_live(&self) -> bool {
        !self.orphaned && !["rejected", "not_sent"].contains(&self.state.as_str())
    }
}

/// Everything that is wrong with a history whose calls are all over.
pub fn violations(received: &[Received], ledger: &[Attempt]) -> Vec<String> {
    let mut found = Vec::new();
    let of_request_id =
        |request_id: &str| ledger.iter().filter(|attempt| attempt.request_id == request_id).collect::<Vec<_>>();

    // Never two orders that could have succeeded, for one subscription and month, under different request_ids.
    let mut request_ids: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for order in received.iter().filter(|order| !order.refused) {
        for attempt in of_request_id(&order.request_id).into_iter().filter(|attempt| !attempt.orphaned) {
            let month = (&attempt.subscription_id, &attempt.billing_month);
            request_ids.entry(month).or_default().insert(&order.request_id);
        }
    }
    for (month, request_ids) in request_ids.iter().filter(|(_, request_ids)| request_ids.len() > 1) {
        found.push(format!("{month:?} may have been ordered under {request_ids:?}"));
    }

    // Every order that was received has its attempt.
    for order in received {
        let recorded = of_request_id(&order.request_id)
            .into_iter()
            .any(|attempt| (&attempt.customer_id, attempt.sku_id) == (&order.customer_id, order.sku_id));
        if !recorded {
            found.push(format!("no attempt is recorded for {order:?}"));
        }
    }

    // The ledger agrees with the platform.
    for attempt in ledger.iter().filter(|attempt| attempt.decided_by.is_none()) {
        let orders = || received.iter().filter(|order| order.request_id == attempt.request_id);
        match attempt.state.as_str() {
            "charged" if orders().all(|order| !order.taken) => {
                found.push(format!("nothing was ordered for {attempt:?}"))
            }
            // An orphaned attempt opens no month.
            "rejected" | "not_sent" if attempt.orphaned => {}
            "rejected" | "not_sent" => {
                let open = of_request_id(&attempt.request_id).into_iter().all(|attempt| !attempt.is_live());
                if open && orders().any(|order| !order.refused) {
                    found.push(format!("the month is open, but there may be an order for {attempt:?}"));
                }
            }
            "charged" | "unknown" => {}
            // No other state has a way forward.
            other => found.push(format!("{other} at rest: {attempt:?}")),
        }
    }

    // One live attempt per subscription and month. A request_id belongs to one subscription and month.
    let mut live = BTreeSet::new();
    let mut owners: BTreeMap<&str, BTreeSet<_>> = BTreeMap::new();
    for attempt in ledger.iter().filter(|attempt| !attempt.orphaned) {
        let month = (attempt.subscription_id.as_str(), attempt.billing_month.as_str());
        owners.entry(&attempt.request_id).or_default().insert(month);
        if attempt.is_live() && !live.insert(month) {
            found.push(format!("two live attempts for {month:?}"));
        }
    }
    for (request_id, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
        found.push(format!("{request_id} belongs to {owners:?}"));
    }
    found
}
