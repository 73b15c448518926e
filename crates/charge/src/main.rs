//! `POST /subscription/{id}/charge/{request_id}`: a proxy to the platform that never charges twice in a month.

use std::sync::Arc;

use club_core::{
    Error,
    charging::{Charged, Charging},
    http::{self, Reply},
    lambda,
    model::{BillingMonth, Moment, RequestId, SubscriptionId},
};
use lambda_http::{Request, RequestExt, http::StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

const PATH: &str = "/subscription/{id}/charge/{request_id}";
/// Asked by a schedule, past the gateway, which has no such route: how many attempts wait for a person.
const ATTENTION: &str = "/charge/attention";

#[derive(Serialize)]
struct Answer {
    subscription_id: SubscriptionId,
    /// Of the charge, which may be another than the call's.
    request_id: String,
    month: BillingMonth,
    charged_at: Option<Moment>,
    already_charged: bool,
    /// The platform's JSON, as it came.
    order: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Attention {
    waiting: i64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(answer).await
}

async fn answer(charging: Arc<Charging>, request: Request) -> Result<Reply, Error> {
    if request.raw_http_path() == ATTENTION {
        attention(&charging, &request).await
    } else {
        charge(charging, request).await
    }
}

async fn attention(charging: &Charging, request: &Request) -> Result<Reply, Error> {
    let waiting = charging.attention(http::time_left(request)).await?;
    // The alarm's metric is made of this line. Its name has no dot, which a metric filter would take for a path.
    tracing::info!(charge_attention = waiting, "attempts that wait for a person");
    http::json(StatusCode::OK, &Attention { waiting })
}

async fn charge(charging: Arc<Charging>, request: Request) -> Result<Reply, Error> {
    let subscription_id = SubscriptionId::parse(&http::path(&request, PATH, "id")?)?;
    let request_id = RequestId::parse(&http::path(&request, PATH, "request_id")?)?;

    let Charged { charge, already } =
        charging.charge(subscription_id.clone(), request_id, http::time_left(&request)).await?;

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
