//! The list of eligible subscriptions.

use sqlx::PgConnection;

use super::page::{Eligible, LARGEST_BODY, Page};
use crate::{
    Error,
    clock::Budget,
    database::{Database, Query},
};

/// Ids of more bytes than this in the database cannot fit one answer. There, an id takes at most seven bytes more than
/// its text; in the answer, at least five more.
const TOO_MANY_BYTES: i32 = 2 * LARGEST_BODY as i32;

impl Page {
    pub async fn read(&self, database: &Database, time: Budget) -> Result<Eligible, Error> {
        self.fit(database.ask(self, time).await?.iter().flatten())
    }
}

impl Query for Page {
    /// Chunks of ids.
    type Answer = Vec<Vec<String>>;

    async fn ask(&self, connection: &mut PgConnection, time: Budget) -> sqlx::Result<Self::Answer> {
        sqlx::query_scalar!(
            r#"select eligible_subscriptions(after_id => $1, at_most => $2, enough_bytes => $3, seconds => $4) as "ids!""#,
            self.after,
            // One more than asked for tells whether more remain.
            self.limit.and_then(|limit| i32::try_from(limit + 1).ok()),
            TOO_MANY_BYTES,
            time.left().as_secs_f64()
        )
        .fetch_all(connection)
        .await
    }
}
