//! The contract, through the front door: the real function binaries, a real database, the platform's stand-in.

// A failed unwrap is a failed test, in a helper as well.
#![allow(clippy::unwrap_used)]

mod attacks;
mod faults;
mod recovery;
mod routes;
mod schema;
