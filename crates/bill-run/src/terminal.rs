//! What a person sees: a bar on a terminal, else a line now and then. Nothing fails because nobody can read it.

use std::{
    convert::Infallible,
    fmt,
    io::{self, BufRead, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::rules::Reply;

const SECOND: Duration = Duration::from_secs(1);
const EACH: Duration = Duration::from_secs(10);
const BAR: &str = "{wide_bar} {human_pos} of {human_len}, {rate} a second, {eta} left{msg}";
const CLEAR_LINE: &[u8] = b"\r\x1b[K";
/// A longer wait is announced.
const LONG: Duration = Duration::from_secs(60);

/// The bar that is on the screen, and until when a wait is announced.
static SCREEN: Mutex<(Option<ProgressBar>, Option<Instant>)> = Mutex::new((None, None));

/// Writes a line to stderr, above the bar.
pub fn say(line: impl fmt::Display) {
    let bar = SCREEN.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    let write = || _ = writeln!(io::stderr(), "{line}");
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Says that the run waits, once for all that wait at the same time.
pub fn announce(wait: Duration, reply: &Reply) {
    let until = Instant::now() + wait;
    {
        let announced = &mut SCREEN.lock().unwrap_or_else(PoisonError::into_inner).1;
        if wait <= LONG || announced.is_some_and(|announced| announced > Instant::now()) {
            return;
        }
        *announced = Some(until);
    }
    say(format_args!("{reply}: asked to wait for {}, and waits.", HumanDuration(wait)));
}

/// stdout, for a list of any length. An error names it.
pub struct Stdout(io::BufWriter<io::StdoutLock<'static>>);

impl Stdout {
    pub fn new() -> Self {
        Self(io::BufWriter::new(io::stdout().lock()))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(of_stdout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(of_stdout)
    }
}

fn of_stdout(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("stdout: {error}"))
}

/// Asks on the terminal. No answer is a no.
pub fn ask(question: &str) -> bool {
    let mut answer = String::new();
    let mut stderr = io::stderr();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    asked.and_then(|()| io::stdin().lock().read_line(&mut answer)).is_ok() && answer.trim().eq_ignore_ascii_case("yes")
}

#[derive(Clone)]
pub struct Progress {
    /// Hidden where there is no terminal, but it counts.
    bar: ProgressBar,
    not_charged: Arc<AtomicU64>,
}

impl Progress {
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), not_charged: Arc::default() }
    }

    pub fn new(count: u64) -> Self {
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.0}", state.per_sec());
        };
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(count).with_style(style.with_key("rate", rate));
        SCREEN.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(bar.clone());
        Self { bar, not_charged: Arc::default() }
    }

    pub fn expect_one_more(&self) {
        self.bar.inc_length(1);
    }

    pub fn count(&self, is_charged: bool) {
        if !is_charged {
            self.not_charged.fetch_add(1, Ordering::Relaxed);
            self.bar.set_message(self.not_charged());
        }
        self.bar.inc(1);
    }

    fn not_charged(&self) -> String {
        match self.not_charged.load(Ordering::Relaxed) {
            0 => String::new(),
            count => format!("; {} not charged", HumanCount(count)),
        }
    }

    /// Keeps the bar moving. Where there is no terminal for it, says a line now and then.
    pub async fn report(&self) -> Infallible {
        let is_hidden = self.bar.is_hidden();
        let first = tokio::time::Instant::now() + SECOND;
        let mut interval = tokio::time::interval_at(first, if is_hidden { EACH } else { SECOND });
        loop {
            self.bar.tick();
            interval.tick().await;
            if is_hidden {
                say(format_args!(
                    "{} of {}, {:.0} a second, {} left{}",
                    HumanCount(self.bar.position()),
                    HumanCount(self.bar.length().unwrap_or_default()),
                    self.bar.per_sec(),
                    HumanDuration(self.bar.eta()),
                    self.not_charged()
                ));
            }
        }
    }

    /// Asks in place of the bar. The bar is not locked meanwhile: answers still arrive.
    pub async fn ask(&self, question: String) -> bool {
        let is_visible = !self.bar.is_hidden();
        if is_visible {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
            let _ = io::stderr().write_all(CLEAR_LINE);
        }
        let answer = tokio::task::spawn_blocking(move || ask(&question)).await.unwrap_or(false);
        if is_visible {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        answer
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
        SCREEN.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
    }
}
