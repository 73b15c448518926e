//! `POST /club/{id}/subscribe`: subscribes a customer to an ACTIVE club, once per club.

use std::sync::Arc;

use club_core::{
    Error,
    caller::CustomerApi,
    http::{self, Reply},
    lambda,
    model::{ClubId, CustomerId, Moment, Status},
    subscription::NewSubscription,
};
use lambda_http::{
    Request,
    http::{StatusCode, header::LOCATION},
};
use serde::{Deserialize, Serialize};

const PATH: &str = "/club/{id}/subscribe";

#[derive(Deserialize)]
struct Body {
    customer_id: CustomerId,
}

#[derive(Serialize)]
struct Subscribed<'a> {
    id: String,
    club_id: ClubId,
    customer_id: &'a CustomerId,
    status_id: i32,
    create_date: Moment,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(subscribe).await
}

async fn subscribe(api: Arc<CustomerApi>, request: Request) -> Result<Reply, Error> {
    let caller = api.caller(&request)?;
    let club_id = ClubId::parse(&http::path(&request, PATH, "id")?)?;
    let Body { customer_id } = http::body(&request)?;

    let new = NewSubscription::new(caller, club_id, customer_id)?;
    let create_date = new.subscribe(&api.database, http::time_left(&request)).await?;

    let reply = http::json(
        StatusCode::CREATED,
        &Subscribed {
            id: new.id().to_string(),
            club_id,
            customer_id: &new.customer_id,
            status_id: Status::Active.id(),
            create_date,
        },
    )?;
    let location = http::relative(&request, PATH, &format!("subscription/{}", new.id()));
    http::with_header(reply, LOCATION, &location)
}
