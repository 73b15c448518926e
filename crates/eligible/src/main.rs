//! `GET /subscription/eligible`: the operators' list of what to charge and dispatch.

use std::sync::Arc;

use club_core::{
    Error,
    http::{self, Reply},
    lambda,
    subscription::{EligiblePage, EligibleState},
};
use lambda_http::{Request, http::HeaderName};

const BILLING_MONTH: HeaderName = HeaderName::from_static("billing-month");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(eligible).await
}

async fn eligible(state: Arc<EligibleState>, request: Request) -> Result<Reply, Error> {
    let limit = http::limit(&request, EligiblePage::LONGEST)?;
    let page = EligiblePage::new(http::query(&request, "after"), limit, http::flag(&request, "due")?)?;
    let (page, month) = page.read(&state.database, state.timezone, http::time_left(&request)).await?;
    http::with_header(http::page(page)?, BILLING_MONTH, &month.to_string())
}
