//! Time that passes while a function is frozen, and the time that Lambda gives an invocation.

use std::time::{Duration, Instant, SystemTime};

/// Measures from its creation on, freezes included.
///
/// Which clock goes on while an environment is frozen depends on how it is frozen: the monotonic one while a process
/// is stopped, only the wall clock while a virtual machine is. Whichever says more is believed, so that a clock that
/// was set back cannot hide a freeze.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    monotonic: Instant,
    wall: SystemTime,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    pub fn elapsed(&self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

/// A span of time that is being used up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    stopwatch: Stopwatch,
    total: Duration,
}

impl Budget {
    pub fn new(total: Duration) -> Self {
        Self { stopwatch: Stopwatch::start(), total }
    }

    /// What is left to work until `deadline`, milliseconds since the epoch, as Lambda tells it: some is kept to answer.
    /// `cargo lambda watch` tells a duration in its place, which as an instant would be minutes after the epoch.
    pub fn until_lambda_deadline(deadline: u64) -> Self {
        const TO_ANSWER: Duration = Duration::from_millis(300);
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let deadline = Duration::from_millis(deadline);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let left = if deadline < A_YEAR { deadline } else { deadline.saturating_sub(now) };
        Self::new(left.saturating_sub(TO_ANSWER))
    }

    pub fn total(&self) -> Duration {
        self.total
    }

    pub fn left(&self) -> Duration {
        self.total.saturating_sub(self.stopwatch.elapsed())
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// A budget that leaves `reserve` of this one, and is `at_most` so long.
    pub fn before(&self, reserve: Duration, at_most: Duration) -> Self {
        Self::new(self.left().saturating_sub(reserve).min(at_most))
    }
}
