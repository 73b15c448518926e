//! What `make bench` and `make scale` share.

pub mod environment;
pub mod statistics;
