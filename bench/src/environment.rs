//! A function's process on a Runtime API that only passes events and reads the clock.

use std::{
    collections::HashMap,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::timeout,
};

/// AWS: an invocation's time is up after 15 minutes at most.
const TIMEOUT: Duration = Duration::from_secs(900);

struct Api {
    events: Mutex<mpsc::Receiver<Bytes>>,
    asked: mpsc::UnboundedSender<Instant>,
    handed: mpsc::UnboundedSender<Instant>,
    answered: mpsc::UnboundedSender<(Instant, Bytes)>,
}

pub struct Environment {
    process: Process,
    server: JoinHandle<()>,
    spawned: Instant,
    events: mpsc::Sender<Bytes>,
    asked: mpsc::UnboundedReceiver<Instant>,
    handed: mpsc::UnboundedReceiver<Instant>,
    answered: mpsc::UnboundedReceiver<(Instant, Bytes)>,
}

impl Environment {
    pub async fn start(binary: &Path, settings: &HashMap<String, String>) -> Self {
        let (events, queue) = mpsc::channel(1);
        let (asks, asked) = mpsc::unbounded_channel();
        let (hands, handed) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let api = Arc::new(Api { events: Mutex::new(queue), asked: asks, handed: hands, answered: answers });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(outcome))
            .with_state(api);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        let mut command = Command::new(binary);
        command
            .env_clear()
            .envs(settings)
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let spawned = Instant::now();
        let process = Process(command.spawn().expect("the binary starts"));
        Self { process, server, spawned, events, asked, handed, answered }
    }

    /// From the process's start to its first question for an event.
    pub async fn first_next(&mut self) -> Duration {
        self.process.hears(&mut self.asked).await - self.spawned
    }

    /// From the process's start to its answer to this event.
    pub async fn first_answer(&mut self, event: &Value) -> Duration {
        self.events.send(event.to_string().into()).await.expect("the server runs");
        let (at, payload) = self.process.hears(&mut self.answered).await;
        check(&payload);
        at - self.spawned
    }

    /// From handing the event over to having the whole answer.
    pub async fn invoke(&mut self, event: &Value) -> (Duration, Bytes) {
        while self.handed.try_recv().is_ok() {}
        self.events.send(event.to_string().into()).await.expect("the server runs");
        let handed = self.process.hears(&mut self.handed).await;
        let (at, payload) = self.process.hears(&mut self.answered).await;
        (at - handed, payload)
    }

    /// The same, where it must be a success.
    pub async fn succeed(&mut self, event: &Value) -> Duration {
        let (duration, payload) = self.invoke(event).await;
        check(&payload);
        duration
    }

    /// The most memory that it has had, in MB. Linux only.
    pub fn peak_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("Linux's /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024.0 / 1e6
    }
}

fn check(payload: &Bytes) {
    // Only its beginning, because some are megabytes.
    let start = String::from_utf8_lossy(&payload[..payload.len().min(400)]).into_owned();
    assert!(start.contains("\"statusCode\":20"), "{start}");
}

struct Process(Child);

impl Process {
    /// What the Runtime API tells of it, as long as it lives.
    async fn hears<T>(&mut self, news: &mut mpsc::UnboundedReceiver<T>) -> T {
        loop {
            if let Ok(news) = timeout(Duration::from_secs(1), news.recv()).await {
                return news.expect("the server runs");
            }
            assert!(matches!(self.0.try_wait(), Ok(None)), "the function ended");
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        self.server.abort();
    }
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    let _ = api.asked.send(Instant::now());
    let Some(event) = api.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = SystemTime::now() + TIMEOUT;
    let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:bench".to_owned()),
    ];
    let _ = api.handed.send(Instant::now());
    (headers, event).into_response()
}

async fn outcome(State(api): State<Arc<Api>>, request: Request) -> StatusCode {
    // The check of the answer fails on the body of an error.
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    let _ = api.answered.send((Instant::now(), body));
    StatusCode::ACCEPTED
}
