//! What an attacker tries. Each test is named after that, and shows that it fails. SECURITY.md lists them.

mod bodies;
mod changes;
mod customers_list;
mod invisible_ids;
mod platform;
