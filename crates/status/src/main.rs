//! `POST /subscription/{id}/status`: activates, cancels or pauses, now or later, with an automatic return.

use std::sync::Arc;

use club_core::{
    Error,
    caller::CustomerApi,
    http::{self, Reply},
    lambda,
    model::{Days, Details, Moment, Status, SubscriptionId},
    subscription::StatusChange,
};
use lambda_http::{Request, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
struct Body {
    status_id: Status,
    effect_date: Option<Moment>,
    details: Option<Details>,
    /// Days until the automatic return. Without a pause it is ignored, whatever it holds.
    interval: Option<Value>,
}

#[derive(Serialize)]
struct Changed<'a> {
    subscription_id: &'a SubscriptionId,
    status_id: i32,
    effect_date: Moment,
    details: Option<&'a str>,
    automatic_return: Option<Moment>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(change_status).await
}

async fn change_status(api: Arc<CustomerApi>, request: Request) -> Result<Reply, Error> {
    let caller = api.caller(&request)?;
    let subscription_id = SubscriptionId::parse(&http::path(&request, "/subscription/{id}/status", "id")?)?;
    let body: Body = http::body(&request)?;

    let mut change = StatusChange::new(caller, subscription_id, body.status_id);
    change.effect_date = body.effect_date;
    change.details = body.details;
    if body.status_id == Status::Paused {
        let from = body.effect_date.unwrap_or_else(Moment::now);
        change.interval = body.interval.map(|interval| Days::parse(&interval, from)).transpose()?;
    }
    let recorded = change.record(&api.database, http::time_left(&request)).await?;

    http::json(
        StatusCode::OK,
        &Changed {
            subscription_id: &change.subscription_id,
            status_id: change.status.id(),
            effect_date: recorded.effect_date,
            details: change.details.as_ref().map(Details::as_str),
            automatic_return: recorded.automatic_return,
        },
    )
}
