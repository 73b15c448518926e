//! Charges a subscription at most once a month. docs/charging.md says what must hold, and why it does.

mod history;
mod ledger;
mod month;
mod platform;
mod protocol;
mod state;
mod unresolved;

pub use history::MonthlyCharge;
pub use ledger::Charge;
pub use month::{MonthPage, Position};
pub use protocol::ProtocolState;
pub use state::ChargeState;
pub use unresolved::count_unresolved;
