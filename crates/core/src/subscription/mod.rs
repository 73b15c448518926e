//! What each function of subscriptions asks of the database.

mod eligible;
mod lookup;
mod status;
mod subscribe;

pub use eligible::{Eligible, EligiblePage, LONGEST_PAGE, Listing};
pub use lookup::{CustomerPage, Position, Subscription, Subscriptions};
pub use status::{PauseEnd, Recorded, StatusChange, StatusState};
pub use subscribe::NewSubscription;
