//! What is kept in PostgreSQL. Each question is one statement (subscribing needs a lock before it), and safe to repeat
//! after a lost answer.

pub mod charges;
pub mod subscriptions;
