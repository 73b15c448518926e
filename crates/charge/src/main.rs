//! `POST /subscription/{id}/charge/{request_id}`: a proxy to the platform that never charges twice in a month.

use std::sync::Arc;

use club_core::{
    Error,
    charge::{Charged, Charging},
    http::{self, Reply},
    lambda,
    model::{BillingMonth, Moment, RequestId, SubscriptionId},
};
use lambda_http::{Request, http::StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

const PATH: &str = "/subscription/{id}/charge/{request_id}";

#[derive(Serialize)]
struct Answer {
    subscription_id: SubscriptionId,
    /// Of the charge, which may be another than the call's.
    request_id: RequestId,
    month: BillingMonth,
    charged_at: Option<Moment>,
    already_charged: bool,
    /// The platform's JSON, as it came.
    order: Option<Box<RawValue>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(charge).await
}

async fn charge(charging: Arc<Charging>, request: Request) -> Result<Reply, Error> {
    let subscription_id = SubscriptionId::parse(&http::path(&request, PATH, "id")?)?;
    let request_id = RequestId::parse(&http::path(&request, PATH, "request_id")?)?;
    let expected_month = http::query(&request, "month").as_deref().map(BillingMonth::parse).transpose()?;

    let Charged { charge, already } =
        charging.charge(subscription_id.clone(), request_id, expected_month, http::time_left(&request)).await?;

    http::json(
        StatusCode::OK,
        &Answer {
            subscription_id,
            request_id: charge.request_id,
            month: charge.month,
            charged_at: charge.charged_at,
            already_charged: already,
            order: charge.order,
        },
    )
}
