//! The contract, through the front door.

mod bootstrap;
mod charge;
mod current_status;
mod eligible;
mod operators;
mod requests;
mod status;
mod subscribe;
