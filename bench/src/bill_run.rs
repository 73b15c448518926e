//! A bill run with a million due: charges per second and memory, with an API that takes a tenth of a second for each.

use std::{
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    routing::{get, post},
};
use harness::environment::peak_memory;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use crate::{Bar, Bench, Report, megabytes, progress};

const DUE: usize = 1_000_000;
/// Ids of a page, as the command asks for them.
const PAGE: usize = 10_000;
/// The time that a charge takes.
const CHARGE: Duration = Duration::from_millis(100);

impl Bench {
    pub async fn bill_run(&self, report: &mut Report) {
        progress("bill runs");
        for concurrency in [50, 200] {
            let api = Api::start().await;
            let (until_first, rate, memory) = measure(&api, concurrency, self.times(10_000, 3_000)).await;
            if concurrency == 50 {
                let seconds = until_first.as_secs_f64();
                report.bar(Bar::at_most("bill run: a million counted".to_owned(), "s", seconds, None, 20.0));
            }
            let possible = f64::from(concurrency) / CHARGE.as_secs_f64();
            report.bar(Bar::at_least(format!("bill run: {concurrency} at a time"), "charges/s", rate, 0.9 * possible));
            let name = format!("bill run: peak memory, a million due, {concurrency} at a time");
            report.bar(Bar::at_most(name, "MB", memory, None, 60.0));
        }
    }
}

/// An API without functions behind it. It stops when this is dropped.
struct Api {
    url: String,
    state: Arc<Pages>,
    server: JoinHandle<()>,
}

struct Pages {
    /// Of the list, ready to be sent.
    pages: Vec<Bytes>,
    charges: Mutex<Charges>,
}

#[derive(Default)]
struct Charges {
    /// When the first one came.
    begin: Option<Instant>,
    answered: usize,
}

impl Api {
    async fn start() -> Self {
        let ids: Vec<String> = (0..DUE).map(|n| format!("{n:08}-0000-4000-8000-000000000000")).collect();
        let pages = ids.chunks(PAGE).map(|page| serde_json::to_vec(page).expect("ids").into()).collect();
        let state = Arc::new(Pages { pages, charges: Mutex::default() });
        let router = Router::new()
            .route("/subscription/eligible", get(due))
            .route("/charge", get(ledger))
            .route("/subscription/{id}/charge/{request_id}", post(charge))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, state, server }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Its `after` is the place of the page.
async fn due(State(state): State<Arc<Pages>>, RawQuery(query): RawQuery) -> (HeaderMap, Bytes) {
    let after = query.as_deref().and_then(|query| query.split_once("&after="));
    let place: usize = after.map_or(0, |(_, place)| place.parse().expect("a place"));
    let mut headers = HeaderMap::new();
    headers.insert("billing-month", "2026-11".parse().expect("a header"));
    if place + 1 < state.pages.len() {
        let link = format!("<?due=true&limit={PAGE}&after={}>; rel=\"next\"", place + 1);
        headers.insert("link", link.parse().expect("a header"));
    }
    (headers, state.pages[place].clone())
}

async fn ledger() -> Json<Value> {
    let counts = json!({ "charged": 0, "in_flight": 0, "unknown": 0, "rejected": 0, "not_sent": 0 });
    Json(json!({ "month": "2026-11", "counts": counts, "charges": [] }))
}

async fn charge(State(state): State<Arc<Pages>>, Path((id, request_id)): Path<(String, String)>) -> Json<Value> {
    state.charges.lock().expect("unpoisoned").begin.get_or_insert_with(Instant::now);
    sleep(CHARGE).await;
    state.charges.lock().expect("unpoisoned").answered += 1;
    Json(json!({
        "subscription_id": id, "request_id": request_id, "month": "2026-11", "charged_at": "2026-11-24T21:38:53Z",
        "already_charged": false, "order": null
    }))
}

/// Lets a run charge this number. Returns the time until the first one, charges per second, and the most memory in MB.
async fn measure(api: &Api, concurrency: u32, count: usize) -> (Duration, f64, f64) {
    // dev/bench.py builds both with one command.
    let binary = std::env::current_exe().expect("this program").with_file_name("bill-run");
    let mut command = Command::new(binary);
    command.args(["charge", "--api", &api.url, "--yes", "--concurrency", &concurrency.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let mut run = command.spawn().expect("the command starts");
    let mut peak = 0.0;
    let begin = loop {
        assert!(run.try_wait().expect("a child").is_none(), "the run ended early");
        peak = megabytes(peak_memory(run.id())).max(peak);
        if let Charges { begin: Some(begin), answered } = *api.state.charges.lock().expect("unpoisoned")
            && answered >= count
        {
            break begin;
        }
        sleep(Duration::from_millis(5)).await;
    };
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    run.kill().and_then(|()| run.wait()).expect("a child");
    (begin - started, rate, peak)
}
