//! What each function of subscriptions asks of the database.

mod eligible;
mod lookup;
mod page;
mod status;
mod subscribe;

pub use eligible::Listing;
pub use lookup::Subscription;
pub use page::{Eligible, LONGEST_PAGE, Page};
pub use status::{PauseEnd, Recorded, StatusChange, StatusState};
pub use subscribe::NewSubscription;
