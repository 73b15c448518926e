//! Clubs.

use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    Error,
    clock::Budget,
    database::{Database, Query},
};

#[derive(Serialize)]
pub struct Club {
    id: i32,
    name: Option<String>,
    store_sku: Option<i32>,
}

impl Club {
    /// The clubs that take subscriptions, by their ids.
    pub async fn active(database: &Database, time: Budget) -> Result<Vec<Self>, Error> {
        database.fetch(&ActiveClubs, time).await
    }
}

struct ActiveClubs;

impl Query for ActiveClubs {
    type Answer = Vec<Club>;

    async fn fetch(&self, connection: &mut PgConnection, _: Budget) -> sqlx::Result<Self::Answer> {
        sqlx::query_as!(Club, r#"select id as "id!", name, store_sku from active_clubs()"#).fetch_all(connection).await
    }
}
