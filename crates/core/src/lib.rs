//! What the four functions share.
//!
//! A function's `main` is `lambda::run(handler)`; a handler parses with [`http`], asks the [`repository`] or the
//! [`charging`] protocol, and replies with [`http`]. Everything that can go wrong is one [`Error`], which knows its
//! status and its code.

#[macro_use]
mod boundary;

pub mod charging;
mod clock;
mod config;
pub mod database;
mod ecommerce;
mod error;
pub mod http;
pub mod lambda;
pub mod model;
pub mod repository;
mod secrets;

pub use error::Error;
