//! The reads. For the shop's page: `GET /subscription/{id}`, `GET /subscription/{id}/charge`,
//! `GET /subscription?customer_id=…` and `GET /club`. For operators: `GET /charge`.

use std::sync::Arc;

use club_core::{
    Error,
    caller::Caller,
    charge::{ChargeState, MonthPage, MonthlyCharge, Position},
    club::Club,
    http::{self, Reply},
    lambda,
    model::{BillingMonth, CustomerId, SubscriptionId},
    subscription::{self, CustomerPage, LookupState, Subscription},
};
use lambda_http::{
    Request,
    http::{StatusCode, header::CACHE_CONTROL},
};
use serde::Serialize;

#[derive(Clone, Copy)]
enum Route {
    SubscriptionCharges,
    Subscription,
    Subscriptions,
    Clubs,
    Charges,
}

const SUBSCRIPTION_CHARGES: &str = "/subscription/{id}/charge";
const SUBSCRIPTION: &str = "/subscription/{id}";
// The first template that fits the end of the path counts, so `/charge` stands below `/subscription/{id}/charge`.
const ROUTES: [(&str, Route); 5] = [
    (SUBSCRIPTION_CHARGES, Route::SubscriptionCharges),
    (SUBSCRIPTION, Route::Subscription),
    ("/subscription", Route::Subscriptions),
    ("/club", Route::Clubs),
    ("/charge", Route::Charges),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(lookup).await
}

async fn lookup(state: Arc<LookupState>, request: Request) -> Result<Reply, Error> {
    let time = http::time_left(&request);
    match http::route(&request, &ROUTES)? {
        Route::SubscriptionCharges => {
            let caller = state.customer_claim.caller(&request)?;
            let id = SubscriptionId::parse(&http::path(&request, SUBSCRIPTION_CHARGES, "id")?)?;
            answer(&MonthlyCharge::all(&id, &caller, &state.database, time).await?, "no-store")
        }
        Route::Subscription => {
            let caller = state.customer_claim.caller(&request)?;
            let id = SubscriptionId::parse(&http::path(&request, SUBSCRIPTION, "id")?)?;
            answer(&Subscription::find(&id, &caller, &state.database, time).await?, "no-store")
        }
        Route::Subscriptions => {
            let page = customer_page(&request, state.customer_claim.caller(&request)?)?;
            let page = page.read(&state.database, time).await?;
            http::with_header(http::page(page)?, CACHE_CONTROL, "no-store")
        }
        Route::Clubs => {
            state.customer_claim.caller(&request)?;
            answer(&Club::active(&state.database, time).await?, "max-age=60")
        }
        // The operators', who are no customers.
        Route::Charges => {
            let page = month_page(&request)?.read(&state.database, state.timezone, time).await?;
            http::with_header(http::page(page)?, CACHE_CONTROL, "no-store")
        }
    }
}

fn month_page(request: &Request) -> Result<MonthPage, Error> {
    let query = |name| http::query(request, name);
    Ok(MonthPage {
        month: query("month").as_deref().map(BillingMonth::parse).transpose()?,
        states: query("state").as_deref().map(ChargeState::parse_list).transpose()?,
        subscription_id: query("subscription_id").as_deref().map(SubscriptionId::parse).transpose()?,
        limit: http::limit(request, MonthPage::LONGEST)?,
        after: query("after").as_deref().map(Position::parse).transpose()?,
        orphaned: http::flag(request, "orphaned")?,
    })
}

fn customer_page(request: &Request, caller: Caller) -> Result<CustomerPage, Error> {
    CustomerPage::new(
        caller,
        http::query(request, "customer_id").map(CustomerId::try_from).transpose()?,
        http::limit(request, CustomerPage::LONGEST)?,
        http::query(request, "after").as_deref().map(subscription::Position::parse).transpose()?,
    )
}

fn answer(found: &impl Serialize, cache_control: &str) -> Result<Reply, Error> {
    http::with_header(http::json(StatusCode::OK, found)?, CACHE_CONTROL, cache_control)
}
