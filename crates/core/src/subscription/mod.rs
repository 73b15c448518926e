//! What each function of subscriptions asks of the database.

mod eligible;
mod page;
mod status;
mod subscribe;

pub use page::{Eligible, Page};
pub use status::{Recorded, StatusChange};
pub use subscribe::NewSubscription;
