//! The progress that a person sees: a bar on a terminal, else a line now and then. Nothing fails because nobody can read it.

use std::{
    convert::Infallible,
    fmt,
    io::{self, BufRead, Write},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::time::{Instant, interval_at};

const SECOND: Duration = Duration::from_secs(1);
/// From one line to the next.
const EACH: Duration = Duration::from_secs(10);
const TEMPLATE: &str = "{wide_bar} {human_pos} of {human_len}, {rate} a second, {eta} left{msg}";
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Hidden where there is no terminal, but it counts.
static BAR: LazyLock<ProgressBar> = LazyLock::new(ProgressBar::hidden);
static NOT_CHARGED: AtomicU64 = AtomicU64::new(0);

/// Writes a line to stderr, above the bar.
pub fn say(line: impl fmt::Display) {
    BAR.suspend(|| _ = writeln!(io::stderr(), "{line}"));
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

/// Asks in place of the bar. The bar is not locked meanwhile, so answers still arrive.
pub async fn ask_during_run(question: String) -> bool {
    let is_visible = !BAR.is_hidden();
    if is_visible {
        BAR.set_draw_target(ProgressDrawTarget::hidden());
        let _ = io::stderr().write_all(CLEAR_LINE);
    }
    let answer = tokio::task::spawn_blocking(move || ask(&question)).await.unwrap_or(false);
    if is_visible {
        BAR.set_draw_target(ProgressDrawTarget::stderr());
    }
    answer
}

/// Counts a subscription. One that is not expected was not counted before the run.
pub fn count(is_charged: bool, is_expected: bool) {
    NOT_CHARGED.fetch_add(u64::from(!is_charged), Ordering::Relaxed);
    BAR.set_message(not_charged());
    BAR.inc_length(u64::from(!is_expected));
    BAR.inc(1);
}

fn not_charged() -> String {
    match NOT_CHARGED.load(Ordering::Relaxed) {
        0 => String::new(),
        count => format!("; {} not charged", HumanCount(count)),
    }
}

/// Shows the progress among this number, as long as it is polled.
pub async fn show_progress(count: u64) -> Infallible {
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| _ = write!(out, "{:.0}", state.per_sec());
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    BAR.set_style(style.with_key("rate", rate));
    BAR.set_length(count);
    BAR.reset_elapsed();
    BAR.set_draw_target(ProgressDrawTarget::stderr());
    let mut lines = interval_at(Instant::now() + SECOND, if BAR.is_hidden() { EACH } else { SECOND });
    loop {
        BAR.tick();
        lines.tick().await;
        if BAR.is_hidden() {
            let [position, length] = [BAR.position(), BAR.length().unwrap_or_default()].map(HumanCount);
            let (rate, eta) = (BAR.per_sec(), HumanDuration(BAR.eta()));
            say(format_args!("{position} of {length}, {rate:.0} a second, {eta} left{}", not_charged()));
        }
    }
}

pub fn finish_progress() {
    BAR.finish_and_clear();
}
