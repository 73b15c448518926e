//! The log of a function.

use std::env;

use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes JSON lines, or plain text if Lambda's log format is `Text`. The level is Lambda's, else that of `RUST_LOG`,
/// else `info`.
pub fn log_to_stdout() {
    let directives = env::var("AWS_LAMBDA_LOG_LEVEL").or_else(|_| env::var("RUST_LOG")).unwrap_or_default();
    let filter: Targets = directives
        .to_lowercase()
        .parse()
        .ok()
        .filter(|_| !directives.is_empty())
        .unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
    let text = env::var("AWS_LAMBDA_LOG_FORMAT").is_ok_and(|format| format.eq_ignore_ascii_case("text"));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false);
    let layer = if text { layer.boxed() } else { layer.json().flatten_event(true).with_span_list(false).boxed() };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
