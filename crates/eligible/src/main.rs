//! `GET /subscription/eligible`: the operators' list of what to charge and dispatch.

use std::sync::Arc;

use club_core::{
    Error,
    http::{self, Reply},
    lambda,
    subscription::{EligiblePage, LONGEST_PAGE, Listing},
};
use lambda_http::{Request, http::HeaderValue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(eligible).await
}

async fn eligible(listing: Arc<Listing>, request: Request) -> Result<Reply, Error> {
    let limit = http::limit(&request, LONGEST_PAGE)?;
    let page = EligiblePage::new(http::query(&request, "after"), limit, http::flag(&request, "due")?)?;
    let (found, month) = page.read(&listing.database, listing.timezone, http::time_left(&request)).await?;
    let next = page.limit.zip(found.next_after).map(|(limit, after)| {
        let due = page.due.then(|| ("due", "true".to_owned()));
        due.into_iter().chain([("limit", limit.to_string()), ("after", after)]).collect::<Vec<_>>()
    });
    let mut reply = http::page(found.json, next.as_deref())?;
    let month = HeaderValue::try_from(month.to_string()).map_err(|error| Error::Internal(error.into()))?;
    reply.headers_mut().insert("billing-month", month);
    Ok(reply)
}
