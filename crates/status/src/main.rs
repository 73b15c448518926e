//! `POST /subscription/{id}/status`: activates, cancels or pauses, now or later, with an automatic return.

use std::sync::Arc;

use club_core::{
    Error,
    http::{self, Reply},
    lambda,
    model::{BillingMonth, Days, Details, Status, SubscriptionId, When},
    subscription::{PauseEnd, StatusChange, StatusState},
};
use lambda_http::{Request, http::StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Body {
    status_id: Status,
    effect_date: Option<When>,
    details: Option<Details>,
    /// Days until the automatic return. Without a pause it is ignored, whatever it holds.
    interval: Option<Box<RawValue>>,
    until: Option<When>,
    skip: Option<BillingMonth>,
}

impl Body {
    fn end(&self) -> Result<Option<PauseEnd>, Error> {
        if self.status_id != Status::Paused {
            return match (self.until, self.skip) {
                (None, None) => Ok(None),
                (Some(_), _) => Err(Error::invalid("until needs the status_id of a pause, 3")),
                (None, Some(_)) => Err(Error::invalid("skip needs the status_id of a pause, 3")),
            };
        }
        match (&self.interval, self.until, self.skip) {
            (None, None, None) => Ok(None),
            (Some(interval), None, None) => Ok(Some(PauseEnd::After(Days::parse(interval)?))),
            (None, Some(until), None) => Ok(Some(PauseEnd::Until(until))),
            (None, None, Some(_)) if self.effect_date.is_some() => {
                Err(Error::invalid("skip is the whole month, so it takes no effect_date"))
            }
            (None, None, Some(month)) => Ok(Some(PauseEnd::Skip(month))),
            _ => Err(Error::invalid("a pause takes one of interval, until and skip")),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(change_status).await
}

async fn change_status(state: Arc<StatusState>, request: Request) -> Result<Reply, Error> {
    let caller = state.customer_claim.caller(&request)?;
    let subscription_id = SubscriptionId::parse(&http::path(&request, "/subscription/{id}/status", "id")?)?;
    let body: Body = http::body(&request)?;

    let mut change = StatusChange::new(caller, state.timezone, subscription_id, body.status_id);
    change.changes_per_day = state.changes_per_day;
    change.end = body.end()?;
    change.effect_date = body.effect_date;
    change.details = body.details;
    let recorded = change.record(&state.database, http::time_left(&request)).await?;

    http::json(StatusCode::OK, &recorded)
}
