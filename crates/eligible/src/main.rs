//! `GET /subscription/eligible`: the operators' list of what to charge and dispatch.

use std::sync::Arc;

use club_core::{
    Error,
    http::{self, Reply},
    lambda,
    subscription::{Listing, Page},
};
use lambda_http::{Request, http::HeaderValue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(eligible).await
}

async fn eligible(listing: Arc<Listing>, request: Request) -> Result<Reply, Error> {
    let page = Page::parse(http::query(&request, "after"), http::query(&request, "limit"))?;
    let (found, month) = page.read(&listing.database, listing.timezone, http::time_left(&request)).await?;
    let mut reply = http::list(found.json, page.limit.zip(found.next_after))?;
    let month = HeaderValue::try_from(month.to_string()).map_err(|error| Error::Internal(error.into()))?;
    reply.headers_mut().insert("billing-month", month);
    Ok(reply)
}
