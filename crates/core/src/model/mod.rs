//! Types that are parsed at the edge and are valid ever after.

mod billing_month;
mod ids;
mod moment;
mod status;

pub use billing_month::BillingMonth;
pub(crate) use ids::LONGEST_ID;
pub use ids::{ClubId, CustomerId, RequestId, SubscriptionId};
pub use moment::{Days, Moment, When};
pub use status::{Details, Status};
