//! Time that passes while a function is frozen, and the time that Lambda gives an invocation.

use std::time::{Duration, Instant, SystemTime};

/// Measures the time since its creation, freezes included.
///
/// Both clocks run while a process is stopped; only the wall clock runs while a virtual machine is. The longer reading
/// counts, so a wall clock that is set back cannot hide a stop.
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

    /// The time to work until Lambda's `deadline`, in milliseconds since the epoch. Some time is kept to answer.
    /// `cargo lambda watch` gives a duration instead: as an instant, it would be minutes after the epoch.
    pub fn until_lambda_deadline(deadline: u64) -> Self {
        const ANSWER_TIME: Duration = Duration::from_millis(300);
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let deadline = Duration::from_millis(deadline);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let left = if deadline < A_YEAR { deadline } else { deadline.saturating_sub(now) };
        Self::new(left.saturating_sub(ANSWER_TIME))
    }

    pub fn left(&self) -> Duration {
        self.total.saturating_sub(self.stopwatch.elapsed())
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// A budget of at most `at_most` that leaves `reserve` of this one.
    pub fn before(&self, reserve: Duration, at_most: Duration) -> Self {
        Self::new(self.left().saturating_sub(reserve).min(at_most))
    }
}
