//! Subscribe, status, eligible and lookup: each with its state, its query and its answer.

mod eligible;
mod lookup;
mod status;
mod subscribe;

pub use eligible::{EligiblePage, EligibleState};
pub use lookup::{CustomerPage, LookupState, Position, Subscription};
pub use status::{PauseEnd, Recorded, StatusChange, StatusState};
pub use subscribe::{NewSubscription, SubscribeState, Subscribed};
