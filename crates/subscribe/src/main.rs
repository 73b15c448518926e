//! `POST /club/{id}/subscribe`: subscribes a customer to an ACTIVE club, once per club.

use std::sync::Arc;

use club_core::{
    Error,
    http::{self, Reply},
    lambda,
    model::{ClubId, CustomerId},
    subscription::{NewSubscription, SubscribeState},
};
use lambda_http::{
    Request,
    http::{StatusCode, header::LOCATION},
};
use serde::Deserialize;

const PATH: &str = "/club/{id}/subscribe";

#[derive(Deserialize)]
struct Body {
    customer_id: CustomerId,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(subscribe).await
}

async fn subscribe(state: Arc<SubscribeState>, request: Request) -> Result<Reply, Error> {
    let caller = state.customer_claim.caller(&request)?;
    let club_id = ClubId::parse(&http::path(&request, PATH, "id")?)?;
    let Body { customer_id } = http::body(&request)?;

    let new = NewSubscription::new(caller, club_id, customer_id)?;
    let subscribed = new.subscribe(&state.database, http::time_left(&request)).await?;

    let reply = http::json(StatusCode::CREATED, &subscribed)?;
    let location = http::relative(&request, PATH, &format!("subscription/{}", subscribed.id));
    http::with_header(reply, LOCATION, &location)
}
