//! Once an hour: counts the charges that need a person, for an alarm.

use std::sync::Arc;

use club_core::{Error, charge, clock::Budget, database::Database, lambda};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    lambda::run_scheduled(count).await
}

async fn count(database: Arc<Database>, time: Budget) -> Result<i64, Error> {
    let unresolved = charge::count_unresolved(&database, time).await?;
    // The alarm's metric is made of this line. Its name has no dot, which a metric filter would take for a path.
    tracing::info!(unresolved_charges = unresolved, "charges that need a person");
    Ok(unresolved)
}
