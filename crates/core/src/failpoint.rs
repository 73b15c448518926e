//! Places where tests may kill or stop the process. A release build has none.

/// Marks such a place. A build with the feature `failpoints` sends itself the signal that `FAILPOINTS` names:
/// `claimed=1*return(KILL)`.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        (|| fail::fail_point!($name, crate::failpoint::send_signal))();
    };
}

/// Sends this process a signal. Returns once it is delivered, unless it kills.
#[cfg(feature = "failpoints")]
pub fn send_signal(signal: Option<String>) {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let signal: Signal = format!("SIG{}", signal.unwrap_or_default()).parse().expect("a signal");
    kill(Pid::this(), signal).expect("a signal to this process");
}
