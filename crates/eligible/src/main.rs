//! `GET /subscription/eligible`: the operators' list of what to charge and dispatch.

use std::sync::Arc;

use club_core::{
    Error,
    database::Database,
    http::{self, Reply},
    lambda,
    subscription::Page,
};
use lambda_http::Request;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run(eligible).await
}

async fn eligible(database: Arc<Database>, request: Request) -> Result<Reply, Error> {
    let page = Page::parse(http::query(&request, "after"), http::query(&request, "limit"))?;
    let found = page.read(&database, http::time_left(&request)).await?;
    http::list(found.json, page.limit.zip(found.next_after))
}
