//! The migrations, the definitions that they make, and the rows that people write by hand.

pub mod costs;
mod current_status;
mod limits;
mod manual_sql;
pub mod migrations;
mod random_changes;
mod random_statuses;
mod sessions;
mod time_zones;
