//! The shop's e-commerce platform: what is sent to it, and what its answer or its silence says about an order.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use lambda_http::http::{
    HeaderValue,
    header::{ACCEPT, CONTENT_TYPE, InvalidHeaderValue, RETRY_AFTER},
};
use reqwest::{Client, Response, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;

use super::state::ChargeState;
use crate::{
    clock::{Budget, Stopwatch},
    config::EcommerceSettings,
    model::RequestId,
};

/// A connection that is idle for longer may be closed by the platform or dead after a freeze. Node's servers, the least
/// patient of the common ones, close after five seconds.
const IDLE: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_secs(5);
/// An order is a few hundred bytes. A longer one is dropped, so that no message to the database is over 16 KB.
const LARGEST_ORDER: usize = 12 * 1024;
/// A person needs only the beginning of a refusal.
const LARGEST_UPSTREAM_ANSWER: usize = 2 * 1024;
/// The most levels of an order that is kept. .NET's parsers read 64, Ruby's 100, serde_json 127, Jackson and Python about
/// 1000. Our answer takes three of them: `{"charges":[{"order":…}]}`.
const DEEPEST: usize = 64 - 3;
/// Far more than a platform sends. Each answer takes memory for as many.
const MOST_HEADERS: usize = 4096;

/// An order as the platform takes it: its number in the path, the rest in the body.
#[derive(Serialize)]
pub struct Order {
    #[serde(skip)]
    pub request_id: RequestId,
    pub customer_id: String,
    pub sku_id: i32,
}

/// The result of calling out.
pub struct Answer {
    /// The state of the order's attempt from now on.
    pub state: ChargeState,
    pub upstream_status: Option<u16>,
    /// The body of a 2xx, if it is JSON of bounded size.
    pub order: Option<Box<RawValue>>,
    /// The body of a refusal, or the beginning of it: the JSON, or a string with the text.
    pub upstream_answer: Option<Value>,
    /// Seconds after which the platform wants to be asked again, if it says so.
    pub retry_after: Option<u64>,
}

impl Answer {
    /// No answer came.
    fn none(state: ChargeState) -> Self {
        Self { state, upstream_status: None, order: None, upstream_answer: None, retry_after: None }
    }
}

/// The state that an answer with this status gives the order's attempt.
fn state_of(status: u16) -> ChargeState {
    match status {
        // Money has moved, whatever the body says.
        200..=299 => ChargeState::Charged,
        // A timeout or a conflict may be about an order that exists.
        408 | 409 => ChargeState::Unknown,
        // The platform did not look at the order: it turned the caller away.
        401 | 407 | 429 => ChargeState::NotSent,
        400..=499 => ChargeState::Rejected,
        _ => ChargeState::Unknown,
    }
}

pub struct Platform {
    settings: EcommerceSettings,
    /// Not made with this: by the time it is used, the runtime has asked for the first request.
    tls: OnceLock<rustls::ClientConfig>,
    client: Mutex<Option<CachedClient>>,
}

struct CachedClient {
    client: Client,
    last_used: Stopwatch,
}

/// Provably nothing was sent, so another try is safe.
struct NotSent;

impl Platform {
    pub fn new(settings: EcommerceSettings) -> Self {
        Self { settings, tls: OnceLock::new(), client: Mutex::new(None) }
    }

    /// The longest that a call-out may take.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Does ahead of the first order what sends nothing. The platform sees orders only.
    pub fn prepare(&self) {
        self.tls.get_or_init(tls);
    }

    /// Sends an order while `budget` lasts. Only what provably was not sent is tried again.
    pub async fn send(&self, order: &Order, budget: Budget) -> Answer {
        let backoff =
            ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_jitter().with_max_times(2);
        (|| self.try_to_send(order, budget))
            .retry(backoff)
            .when(|_| !budget.is_over())
            .await
            .unwrap_or_else(|NotSent| Answer::none(ChargeState::NotSent))
    }

    async fn try_to_send(&self, order: &Order, budget: Budget) -> Result<Answer, NotSent> {
        let client = self.fresh_client().map_err(|error| not_sent(&error))?;
        let body = serde_json::to_vec(order).map_err(|error| not_sent(&error))?;
        let credentials = async { tokio::try_join!(self.settings.api_key.reveal(), self.settings.api_secret.reveal()) };
        let (api_key, api_secret) = match timeout(budget.left(), credentials).await {
            Ok(revealed) => revealed.map_err(|error| not_sent(&error))?,
            Err(elapsed) => return Err(not_sent(&elapsed)),
        };
        let gate = Gate::new(budget);
        let request = client
            .post(self.order_url(&order.request_id))
            .header("x-api-key", sensitive(&api_key).map_err(|error| not_sent(&error))?)
            .header("x-api-secret", sensitive(&api_secret).map_err(|error| not_sent(&error))?)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(reqwest::Body::wrap(GatedBody { content: Some(body.into()), gate: gate.clone() }))
            .send();
        let error: Box<dyn std::error::Error + Send + Sync> = match timeout(budget.left(), request).await {
            Ok(Ok(response)) => {
                let answer = read(response, budget).await;
                self.mark_used();
                return Ok(answer);
            }
            Ok(Err(error)) => error.without_url().into(),
            Err(elapsed) => elapsed.into(),
        };
        if gate.close() {
            return Err(not_sent(&*error));
        }
        tracing::warn!(error = %Chain(&*error), "no answer to an order");
        Ok(Answer::none(ChargeState::Unknown))
    }

    fn order_url(&self, request_id: &RequestId) -> Url {
        let mut url = self.settings.base_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["order", request_id.as_str()]);
        }
        url
    }

    fn fresh_client(&self) -> Result<Client, reqwest::Error> {
        let mut cached = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match cached.take().filter(|cached| cached.last_used.elapsed() <= IDLE) {
            Some(fresh) => fresh,
            None => CachedClient { client: client(self.tls.get_or_init(tls))?, last_used: Stopwatch::start() },
        };
        Ok(cached.insert(fresh).client.clone())
    }

    fn mark_used(&self) {
        if let Some(cached) = &mut *self.client.lock().unwrap_or_else(PoisonError::into_inner) {
            cached.last_used = Stopwatch::start();
        }
    }
}

fn tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()))
        .with_no_client_auth()
}

fn client(tls: &rustls::ClientConfig) -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("beer-club/", env!("CARGO_PKG_VERSION")))
        // Root certificates are compiled in. Clients made from this share its TLS sessions.
        .tls_backend_preconfigured(tls.clone())
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        // An answer counts by its status. What is wrong with its headers says nothing about the order.
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_max_headers(MOST_HEADERS)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .build()
}

async fn read(mut response: Response, budget: Budget) -> Answer {
    let status = response.status().as_u16();
    let state = state_of(status);
    let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
    let (order, upstream_answer) = match state {
        ChargeState::Charged => {
            let (body, is_whole) = body(&mut response, LARGEST_ORDER, budget).await;
            (is_whole.then(|| order(&body)).flatten(), None)
        }
        // Kept for the operators, also where the platform turned the caller away.
        ChargeState::Rejected | ChargeState::NotSent => {
            let (body, _) = body(&mut response, LARGEST_UPSTREAM_ANSWER, budget).await;
            (None, upstream_answer(&body))
        }
        ChargeState::InFlight | ChargeState::Unknown => (None, None),
    };
    Answer { state, upstream_status: Some(status), order, upstream_answer, retry_after }
}

/// The body, or at most its first `limit` bytes. True if that is all of it.
async fn body(response: &mut Response, limit: usize, budget: Budget) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match timeout(budget.left(), response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => return (body, true),
            Ok(Err(_)) | Err(_) => return (body, false),
        }
        if body.len() > limit {
            body.truncate(limit);
            return (body, false);
        }
    }
}

fn order(body: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice::<Box<RawValue>>(body).ok().filter(|order| is_readable(order.get()))
}

/// JSON that PostgreSQL cannot store becomes a text.
fn upstream_answer(body: &[u8]) -> Option<Value> {
    let mut text = String::from_utf8_lossy(body).replace('\0', "");
    text.truncate(text.floor_char_boundary(LARGEST_UPSTREAM_ANSWER));
    match serde_json::from_str(&text) {
        Ok(Value::Null) => None,
        Ok(json) if is_readable(&text) && !text.contains("\\u0000") => Some(json),
        _ => Some(text.trim().to_owned()).filter(|text| !text.is_empty()).map(Value::String),
    }
}

/// True for JSON that common parsers can read.
fn is_readable(json: &str) -> bool {
    // serde_json reads 127 levels. The brackets take all but `DEEPEST` of them.
    let levels = 127 - DEEPEST;
    serde_json::from_str::<Value>(&format!("{}{json}{}", "[".repeat(levels), "]".repeat(levels))).is_ok()
}

/// The seconds of a `retry-after`, which has a number of them or a date.
fn seconds(retry_after: &HeaderValue) -> Option<u64> {
    let text = retry_after.to_str().ok()?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is a long time.
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default().as_secs())
}

fn sensitive(secret: &SecretString) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(secret.expose_secret())?;
    value.set_sensitive(true);
    Ok(value)
}

fn not_sent(error: &(dyn std::error::Error + 'static)) -> NotSent {
    tracing::warn!(error = %Chain(error), "an order could not be sent");
    NotSent
}

/// An error with everything that caused it.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        std::iter::successors(self.0.source(), |error| error.source())
            .try_for_each(|error| write!(formatter, ": {error}"))
    }
}

/// Decides, once, whether an order's body is handed to the connection.
#[derive(Clone)]
struct Gate {
    state: Arc<AtomicU8>,
    budget: Budget,
}

const OPEN: u8 = 0;
const PASSED: u8 = 1;
const CLOSED: u8 = 2;

impl Gate {
    fn new(budget: Budget) -> Self {
        Self { state: Arc::new(AtomicU8::new(OPEN)), budget }
    }

    /// Lets the body through, unless the budget is over. It is called right before the bytes are written.
    fn pass(&self) -> bool {
        !self.budget.is_over() && self.leave_open_for(PASSED)
    }

    /// Closes the gate. True if nothing passed: then nothing was sent or will be.
    fn close(&self) -> bool {
        self.leave_open_for(CLOSED)
    }

    fn leave_open_for(&self, state: u8) -> bool {
        self.state.compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A body behind a gate. A request without its body is not an order: its head announces a length that never comes.
struct GatedBody {
    content: Option<Bytes>,
    gate: Gate,
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.content.take().map(|content| {
            failpoint!("sending");
            if self.gate.pass() {
                Ok(Frame::data(content))
            } else {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the time to send the order is over"))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.as_ref().map_or(0, |content| content.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_status_says_about_the_attempt() {
        for (statuses, state) in [
            (&[200, 201, 202, 204, 299][..], ChargeState::Charged),
            (&[400, 402, 403, 404, 410, 422, 451, 499][..], ChargeState::Rejected),
            (&[401, 407, 429][..], ChargeState::NotSent),
            (&[300, 301, 302, 307, 308, 408, 409, 500, 502, 503, 504, 599][..], ChargeState::Unknown),
        ] {
            for status in statuses {
                assert_eq!(state_of(*status), state, "{status}");
            }
        }
    }

    #[test]
    fn a_retry_after_is_a_number_of_seconds_or_a_date() {
        let of = |text: &str| seconds(&HeaderValue::from_str(text).unwrap());
        for (text, expected) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("31536000000", Some(31_536_000_000)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(of(&date).is_some_and(|seconds| (98..=100).contains(&seconds)), "{date}");
        assert!(of("Mon, 01 Jan 3027 00:00:00 GMT").is_some_and(|seconds| seconds > 31_000_000_000));
    }

    #[test]
    fn an_order_is_kept_as_it_came_if_common_parsers_can_read_it() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for kept in [r#"{"total":10.50,"big":123456789012345678901234567890}"#, r#""\u0000""#, "null", &nested(DEEPEST)]
        {
            assert_eq!(order(kept.as_bytes()).map(|order| order.get().to_owned()).as_deref(), Some(kept));
        }
        for dropped in [
            "",
            "<html>",
            "1],[2",
            "1]]],[[[2",
            r#"{"a":1"#,
            r#""\ud800""#,
            "1e999",
            &nested(DEEPEST + 1),
            &nested(6000),
        ] {
            assert!(order(dropped.as_bytes()).is_none(), "{dropped}");
        }
    }

    #[test]
    fn a_refusal_is_json_or_text_that_postgresql_can_store() {
        let nested = "[".repeat(DEEPEST + 1) + &"]".repeat(DEEPEST + 1);
        let long = "é".repeat(LARGEST_UPSTREAM_ANSWER);
        for (body, kept) in [
            (&b" {\"error\": \"declined\", \"code\": 7} "[..], Some(json!({ "error": "declined", "code": 7 }))),
            (b"\"no\"", Some(json!("no"))),
            (b"<h1>No</h1>\r\n", Some(json!("<h1>No</h1>"))),
            (b"", None),
            (b" \r\n", None),
            (b"\0", None),
            (b"null", None),
            (b"{\"a\":\0 1}", Some(json!({ "a": 1 }))),
            (b"no\xff\0", Some(json!("no\u{fffd}"))),
            (br#"{"a":"\u0000"}"#, Some(json!(r#"{"a":"\u0000"}"#))),
            (br#"{"\u0000":1}"#, Some(json!(r#"{"\u0000":1}"#))),
            (br#"["\ud800"]"#, Some(json!(r#"["\ud800"]"#))),
            (b"[1e999]", Some(json!("[1e999]"))),
            (b"[1e-99999]", Some(json!([0.0]))),
            (b"{\"cut\":", Some(json!("{\"cut\":"))),
            (nested.as_bytes(), Some(json!(nested))),
            (long.as_bytes(), Some(json!(&long[..LARGEST_UPSTREAM_ANSWER]))),
            (&[0xff; LARGEST_UPSTREAM_ANSWER], Some(json!("\u{fffd}".repeat(LARGEST_UPSTREAM_ANSWER / 3)))),
        ] {
            assert_eq!(upstream_answer(body), kept, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_gate_lets_an_order_through_or_says_that_it_never_will() {
        let gate = Gate::new(Budget::new(Duration::from_secs(60)));
        assert!(gate.pass());
        assert!(!gate.close());

        let gate = Gate::new(Budget::new(Duration::from_secs(60)));
        assert!(gate.close());
        assert!(!gate.pass());

        let gate = Gate::new(Budget::new(Duration::ZERO));
        assert!(!gate.pass());
        assert!(gate.close());
    }
}
