//! Lambda's Runtime API for one environment. It passes events and answers on, and reads the clock.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

pub struct RuntimeApi {
    pub address: String,
    events: mpsc::UnboundedSender<Invocation>,
    first_next: watch::Receiver<Option<Instant>>,
    server: JoinHandle<()>,
}

struct Invocation {
    event: Bytes,
    /// Until Lambda's deadline.
    time: Duration,
    end: oneshot::Sender<Invoked>,
}

/// An invocation that has ended.
pub struct Invoked {
    /// The moment when its event was handed over.
    pub handed: Instant,
    /// The moment when the whole answer had arrived.
    pub answered: Instant,
    /// The answer, or the error that the function reported.
    pub payload: Result<Bytes, Bytes>,
}

impl Invoked {
    pub fn time(&self) -> Duration {
        self.answered - self.handed
    }
}

struct Shared {
    events: AsyncMutex<mpsc::UnboundedReceiver<Invocation>>,
    first_next: watch::Sender<Option<Instant>>,
    /// The invocations that the function works on.
    handed: Mutex<HashMap<Uuid, (Instant, oneshot::Sender<Invoked>)>>,
}

impl RuntimeApi {
    pub async fn start() -> Self {
        let (events, queue) = mpsc::unbounded_channel();
        let (asked, first_next) = watch::channel(None);
        let shared = Shared { events: AsyncMutex::new(queue), first_next: asked, handed: Mutex::default() };
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(outcome))
            .with_state(Arc::new(shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        Self { address, events, first_next, server }
    }

    /// When the function first asked for an event.
    pub async fn first_next(&self) -> Instant {
        let mut first_next = self.first_next.clone();
        let asked = first_next.wait_for(Option::is_some).await.expect("the server runs");
        asked.expect("it has asked")
    }

    /// Waits for a function that asks for an event, and for its answer to this one.
    pub async fn invoke(&self, event: &Value, time: Duration) -> Invoked {
        let (end, ended) = oneshot::channel();
        let invocation = Invocation { event: event.to_string().into(), time, end };
        assert!(self.events.send(invocation).is_ok(), "the server runs");
        ended.await.expect("the server runs")
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    shared.first_next.send_if_modified(|first| first.replace(first.unwrap_or_else(Instant::now)).is_none());
    let Some(Invocation { event, time, end }) = shared.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let id = Uuid::new_v4();
    let deadline = (SystemTime::now() + time).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let headers = [
        ("lambda-runtime-aws-request-id", id.to_string()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:test".to_owned()),
    ];
    shared.handed.lock().expect("unpoisoned").insert(id, (Instant::now(), end));
    (headers, event).into_response()
}

/// An answer, whose path ends with `response`, or an `error`.
async fn outcome(
    State(shared): State<Arc<Shared>>,
    Path((id, outcome)): Path<(Uuid, String)>,
    body: Body,
) -> StatusCode {
    // A body that breaks off is not an outcome: the function has ended.
    let Ok(body) = to_bytes(body, usize::MAX).await else { return StatusCode::BAD_REQUEST };
    let answered = Instant::now();
    let Some((handed, end)) = shared.handed.lock().expect("unpoisoned").remove(&id) else {
        return StatusCode::NOT_FOUND;
    };
    let payload = if outcome == "response" { Ok(body) } else { Err(body) };
    // Nobody may wait for it any more.
    let _ = end.send(Invoked { handed, answered, payload });
    StatusCode::ACCEPTED
}
