//! What is kept in PostgreSQL. One method, one question, one statement; each is safe to repeat after a lost answer.

pub mod charges;
pub mod subscriptions;
