//! `POST /subscription/{id}/charge/{request_id}`: a proxy to the platform that never charges twice in a month.

use std::sync::Arc;

use club_core::{
    Error,
    charge::ProtocolState,
    http::{self, Reply},
    lambda,
    model::{BillingMonth, RequestId, SubscriptionId},
};
use lambda_http::{Request, http::StatusCode};

const PATH: &str = "/subscription/{id}/charge/{request_id}";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(charge).await
}

async fn charge(state: Arc<ProtocolState>, request: Request) -> Result<Reply, Error> {
    let subscription_id = SubscriptionId::parse(&http::path(&request, PATH, "id")?)?;
    let request_id = RequestId::parse(&http::path(&request, PATH, "request_id")?)?;
    let expected_month = http::query(&request, "month").as_deref().map(BillingMonth::parse).transpose()?;

    let charge = state.charge(subscription_id, request_id, expected_month, http::time_left(&request)).await?;

    http::json(StatusCode::OK, &charge)
}
