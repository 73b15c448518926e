//! A process, a connection or the platform dies, at each moment, and the promises still hold.

mod checker;
mod database_faults;
mod fault_matrix;
mod isolation;
mod random_charges;
mod unresolved_charges;
