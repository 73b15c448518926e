//! The contract, through the front door.

// A failed unwrap is a failed test, in a helper as well.
#![allow(clippy::unwrap_used)]

mod bootstrap;
mod charge;
mod costs;
mod current_status;
mod database_faults;

mod eligible;
mod history;
mod isolation;
mod matrix;
mod migrations;
mod operators;
mod protection;
mod protocol_variants;
mod random_statuses;
mod requests;
mod sessions;
mod status;
mod subscribe;
mod time;
mod unresolved_charges;
