//! How it ends, as the shell is told.

use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Complete = 0,
    Error = 1,
    /// Also clap's.
    Usage = 2,
    /// Complete, but some were refused.
    Refused = 3,
    /// Complete, but the outcomes of some are unknown.
    Unknown = 4,
    /// Another apply goes on.
    Interrupted = 5,
    NotAuthorized = 6,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
