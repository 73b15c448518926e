//! Subscriptions and their statuses: what each function asks of the database.

mod eligible;
mod page;
mod status;
mod subscribe;

pub use eligible::Listing;
pub use page::{Eligible, Page};
pub use status::{Recorded, StatusChange};
pub use subscribe::NewSubscription;
