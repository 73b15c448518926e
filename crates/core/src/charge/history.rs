//! The months of a subscription and the state of each, for its customer.

use serde::Serialize;
use sqlx::PgConnection;

use super::state::ChargeState;
use crate::{
    Error,
    caller::Caller,
    clock::Budget,
    database::{Database, Query},
    model::{BillingMonth, CustomerId, Moment, SubscriptionId},
};

/// A month, by the attempt that says how it stands. The platform's answer may hold what is the operators'.
#[derive(Serialize)]
pub struct MonthlyCharge {
    month: BillingMonth,
    state: ChargeState,
    request_id: String,
    claimed_at: Moment,
    charged_at: Option<Moment>,
}

impl MonthlyCharge {
    /// The months of this subscription, the newest first, if the caller may see it.
    pub async fn all(
        subscription_id: &SubscriptionId,
        caller: &Caller,
        database: &Database,
        time: Budget,
    ) -> Result<Vec<Self>, Error> {
        let found = database.fetch(&History { subscription_id, customer_id: caller.customer() }, time).await?;
        found.ok_or(Error::SubscriptionNotFound)
    }
}

struct History<'a> {
    subscription_id: &'a SubscriptionId,
    customer_id: Option<&'a CustomerId>,
}

impl Query for History<'_> {
    /// Nothing if the customer has no such subscription.
    type Answer = Option<Vec<MonthlyCharge>>;

    async fn fetch(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<Self::Answer> {
        let rows = sqlx::query!(
            r#"select billing_month, state as "state?: ChargeState", request_id, claimed_at, settled_at
               from charges_of_subscription(subscription_id => $1, customer_id => $2)"#,
            self.subscription_id.as_str(),
            self.customer_id.map(CustomerId::as_str)
        )
        .fetch_all(connection)
        .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut months = Vec::new();
        for row in rows {
            let (Some(month), Some(state), Some(request_id), Some(claimed_at)) =
                (row.billing_month, row.state, row.request_id, row.claimed_at)
            else {
                continue;
            };
            months.push(MonthlyCharge {
                month: BillingMonth::of(month),
                state,
                request_id,
                claimed_at: claimed_at.into(),
                charged_at: row.settled_at.filter(|_| state == ChargeState::Charged).map(Moment::from),
            });
        }
        Ok(Some(months))
    }
}
