//! The operators' tool, as a process: on the real functions and the platform's stand-in, and on an API that answers what a
//! test says.

// A failed unwrap is a failed test, in a helper as well.
#![allow(clippy::unwrap_used)]

mod front;
mod function;
mod months;
mod rules;
mod scripted;
mod terminal;
mod tool;
