//! What holds when a process, a connection or the platform dies, and which one dies when.

mod database_faults;
mod fault_matrix;
mod isolation;
mod protocol_variants;
mod random_charges;
mod unresolved_charges;
