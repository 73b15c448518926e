//! Subscriptions and their statuses: what each function asks of the database.

pub mod eligible;
mod status;
mod subscribe;

pub use status::{Recorded, StatusChange};
pub use subscribe::NewSubscription;
