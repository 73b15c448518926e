//! How far it is: a bar on a terminal, else a line now and then.

use std::{
    convert::Infallible,
    fmt,
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::rules::Outcome;

const EACH: Duration = Duration::from_secs(10);
const BAR: &str = "{wide_bar} {human_pos} of {human_len}, {rate} a second, {eta} left{msg}";

#[derive(Clone)]
pub struct Progress {
    /// Hidden where there is no terminal, but it counts.
    bar: ProgressBar,
    refused: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
}

impl Progress {
    pub fn new(count: usize) -> Self {
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.0}", state.per_sec());
        };
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.with_key("rate", rate);
        Self { bar: ProgressBar::new(count as u64).with_style(style), refused: Arc::default(), unknown: Arc::default() }
    }

    pub fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Charged | Outcome::AlreadyCharged => {}
            Outcome::Refused => _ = self.refused.fetch_add(1, Ordering::Relaxed),
            Outcome::Unknown => _ = self.unknown.fetch_add(1, Ordering::Relaxed),
            Outcome::Left => return,
        }
        self.bar.set_message(self.failures());
        self.bar.inc(1);
    }

    fn failures(&self) -> String {
        let (refused, unknown) = (self.refused.load(Ordering::Relaxed), self.unknown.load(Ordering::Relaxed));
        if refused + unknown == 0 {
            String::new()
        } else {
            format!("; {} refused, {} unknown", HumanCount(refused), HumanCount(unknown))
        }
    }

    /// Says a line now and then, where there is no terminal for the bar.
    pub async fn report(&self) -> Infallible {
        if io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        let start = tokio::time::Instant::now() + EACH;
        let mut interval = tokio::time::interval_at(start, EACH);
        loop {
            interval.tick().await;
            eprintln!(
                "{} of {}, {:.0} a second, {} left{}",
                HumanCount(self.bar.position()),
                HumanCount(self.bar.length().unwrap_or_default()),
                self.bar.per_sec(),
                HumanDuration(self.bar.eta()),
                self.failures()
            );
        }
    }

    pub fn say(&self, line: &str) {
        self.suspend(|| eprintln!("{line}"));
    }

    /// Hides the bar while something else is written.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
