//! The code that the functions share.
//!
//! A function's `main` is [`lambda::run`] of its handler, or [`lambda::run_scheduled`] if a schedule calls it. A
//! handler parses with [`http`] and [`model`], acts through [`subscription`] or [`charge`], and replies with [`http`].
//! Everything that can go wrong is one [`Error`], which knows its status and its code.

#[macro_use]
mod failpoint;

pub mod caller;
pub mod charge;
pub mod clock;
pub mod club;
mod config;
pub mod database;
mod error;
pub mod http;
pub mod lambda;
pub mod model;
mod page;
mod secrets;
pub mod subscription;

pub use error::Error;
