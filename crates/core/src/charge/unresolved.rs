//! The count of charges that need a person.

use sqlx::PgConnection;

use crate::{
    Error,
    clock::Budget,
    database::{Database, Query},
};

/// The number of charges that need a person.
pub async fn count_unresolved(database: &Database, time: Budget) -> Result<i64, Error> {
    database.fetch(&UnresolvedCharges, time).await
}

struct UnresolvedCharges;

impl Query for UnresolvedCharges {
    type Answer = i64;

    async fn fetch(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<i64> {
        sqlx::query_scalar!(r#"select count_unresolved_charges() as "count!""#).fetch_one(connection).await
    }
}
