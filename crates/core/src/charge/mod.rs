//! Charges a subscription at most once a month. docs/charging.md says what must hold, and why it does.

mod ledger;
mod platform;
mod protocol;
mod state;

pub use ledger::{Charge, count_unresolved};
pub use protocol::{Charged, Charging};
