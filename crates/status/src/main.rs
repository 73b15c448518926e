//! `POST /subscription/{id}/status`: activates, cancels or pauses, now or later, with an automatic return.

use std::sync::Arc;

use club_core::{
    Error,
    database::Database,
    http::{self, Fields, Reply},
    lambda,
    model::{Days, Details, Moment, Status, SubscriptionId},
    subscription::StatusChange,
};
use lambda_http::{Request, http::StatusCode};
use serde::Serialize;

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

async fn change_status(database: Arc<Database>, request: Request) -> Result<Reply, Error> {
    let subscription_id = SubscriptionId::parse(&http::path(&request, "/subscription/{id}/status", "id")?)?;
    let change = parse(subscription_id, &http::fields(&request)?)?;

    let recorded = change.record(&database, http::time_left(&request)).await?;

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

fn parse(subscription_id: SubscriptionId, fields: &Fields) -> Result<StatusChange, Error> {
    let status = Status::parse(fields.required("status_id")?)?;
    let mut change = StatusChange::new(subscription_id, status);
    change.effect_date = fields.text("effect_date")?.map(Moment::parse).transpose()?;
    change.details = fields.text("details")?.map(Details::parse).transpose()?;
    if status == Status::Paused {
        let from = change.effect_date.unwrap_or_else(Moment::now);
        change.interval = fields.get("interval").map(|interval| Days::parse(interval, from)).transpose()?;
    }
    Ok(change)
}
