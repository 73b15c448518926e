//! Where a process may die between two steps of a charge. A release has nothing of this.

/// Marks such a place. A build with the feature `failpoints` sends itself a signal there, if `FAILPOINTS` says so:
/// `claimed=1*return(KILL)`.
macro_rules! boundary {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        (|| fail::fail_point!($name, crate::boundary::strike))();
    };
}

/// Sends this process a signal, and is back when it has been delivered, if ever.
#[cfg(feature = "failpoints")]
pub fn strike(signal: Option<String>) {
    let (signal, process) = (format!("-{}", signal.unwrap_or_default()), std::process::id().to_string());
    std::process::Command::new("kill").args([signal, process]).status().expect("kill");
}
