//! `POST /club/{id}/subscribe`: subscribes a customer to an ACTIVE club, once per club.

use std::sync::Arc;

use club_core::{
    Error,
    database::Database,
    http::{self, Reply},
    lambda,
    model::{ClubId, CustomerId, Moment, Status},
    subscription::NewSubscription,
};
use lambda_http::{Request, http::StatusCode};
use serde::{Deserialize, Serialize};

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

async fn subscribe(database: Arc<Database>, request: Request) -> Result<Reply, Error> {
    let club_id = ClubId::parse(&http::path(&request, "/club/{id}/subscribe", "id")?)?;
    let Body { customer_id } = http::body(&request)?;

    let new = NewSubscription::new(club_id, customer_id);
    let create_date = new.subscribe(&database, http::time_left(&request)).await?;

    http::json(
        StatusCode::CREATED,
        &Subscribed {
            id: new.id().to_string(),
            club_id,
            customer_id: &new.customer_id,
            status_id: Status::Active.id(),
            create_date,
        },
    )
}
