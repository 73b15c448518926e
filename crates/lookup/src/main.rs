//! What the shop's page reads back: `GET /subscription/{id}`, `GET /subscription?customer_id=…`, `GET /club`.

use std::sync::Arc;

use club_core::{
    Error,
    caller::{Caller, CustomerApi},
    club::Club,
    http::{self, Reply},
    lambda,
    model::{CustomerId, SubscriptionId},
    subscription::Subscription,
};
use lambda_http::{
    Request,
    http::{StatusCode, header::CACHE_CONTROL},
};
use serde::Serialize;

#[derive(Clone, Copy)]
enum Route {
    Subscription,
    Subscriptions,
    Clubs,
}

const SUBSCRIPTION: &str = "/subscription/{id}";
const ROUTES: [(&str, Route); 3] =
    [(SUBSCRIPTION, Route::Subscription), ("/subscription", Route::Subscriptions), ("/club", Route::Clubs)];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(lookup).await
}

async fn lookup(api: Arc<CustomerApi>, request: Request) -> Result<Reply, Error> {
    let (caller, time) = (api.caller(&request)?, http::time_left(&request));
    match http::route(&request, &ROUTES)? {
        Route::Subscription => {
            let id = SubscriptionId::parse(&http::path(&request, SUBSCRIPTION, "id")?)?;
            answer(&Subscription::find(&id, &caller, &api.database, time).await?, "no-store")
        }
        Route::Subscriptions => {
            let customer = customer(caller, http::query(&request, "customer_id"))?;
            answer(&Subscription::of_customer(&customer, &api.database, time).await?, "no-store")
        }
        Route::Clubs => answer(&Club::active(&api.database, time).await?, "max-age=60"),
    }
}

/// Whose subscriptions are asked for: the caller's, if it is a customer.
fn customer(caller: Caller, asked: Option<String>) -> Result<CustomerId, Error> {
    let asked = asked.map(CustomerId::try_from).transpose()?;
    if let Some(asked) = &asked {
        caller.may_act_for(asked)?;
    }
    match caller {
        Caller::Customer(customer) => Ok(customer),
        Caller::Anyone => asked.ok_or_else(|| Error::invalid("customer_id is missing")),
    }
}

fn answer(found: &impl Serialize, cache_control: &str) -> Result<Reply, Error> {
    http::with_header(http::json(StatusCode::OK, found)?, CACHE_CONTROL, cache_control)
}
