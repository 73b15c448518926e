//! Each route's answers, and what all routes have in common.

mod addresses;
mod billing_month;
mod charge;
mod charges;
mod customers;
mod dates;
mod eligible;
mod lookup;
mod requests;
mod router;
pub mod secrets_and_tls;
mod settings;
mod status;
mod subscribe;
