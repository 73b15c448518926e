//! The operators' tool: a plan of 100,000, and charges per second, with an API that takes a tenth of a second for each.

use std::{
    fs,
    path::Path as FilePath,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use crate::{Bar, Bench, Report, progress};

const PLANNED: usize = 100_000;
/// Ids of a page, as the tool asks for them.
const PAGE: usize = 10_000;
const CONCURRENCY: u32 = 50;
/// How long a charge takes.
const CHARGE: Duration = Duration::from_millis(100);
/// Charges per second that are possible.
const POSSIBLE: f64 = 500.0;

impl Bench {
    pub async fn bill_run(&self, report: &mut Report) {
        progress("bill runs");
        let folder = self.output.join("bill-run");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder for results");

        let api = Api::start(PLANNED).await;
        let (time, memory) = measure(start(&folder, &["plan", "--api", &api.url, "--output", "whole"])).await;
        report.bar(Bar::at_most("bill run: plan of 100,000".to_owned(), "s", time.as_secs_f64(), None, 2.0));
        report.bar(Bar::at_most("bill run: peak memory of a plan of 100,000".to_owned(), "MB", memory, None, 100.0));

        let count = self.times(10_000, 3_000);
        let api = Api::start(count).await;
        measure(start(&folder, &["plan", "--api", &api.url, "--output", "part"])).await;
        let concurrency = CONCURRENCY.to_string();
        let (time, _) = measure(start(&folder, &["apply", "part", "--yes", "--concurrency", &concurrency])).await;
        let rate = count as f64 / time.as_secs_f64();
        report.bar(Bar::at_least(format!("bill run: {CONCURRENCY} at a time"), "charges/s", rate, 0.9 * POSSIBLE));
    }
}

/// An API without functions behind it. It stops when this is dropped.
struct Api {
    url: String,
    server: JoinHandle<()>,
}

/// Each page of the list, ready to be sent.
type Pages = Arc<Vec<Bytes>>;

impl Api {
    async fn start(count: usize) -> Self {
        let ids: Vec<String> = (0..count).map(|n| format!("{n:08}-0000-4000-8000-000000000000")).collect();
        let pages = ids.chunks(PAGE).map(|page| serde_json::to_vec(page).expect("ids").into()).collect();
        let router = Router::new()
            .route("/subscription/eligible", get(list))
            .route("/subscription/{id}/charge/{request_id}", post(charge))
            .with_state(Pages::new(pages));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, server }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Its `after` is the place of the page.
async fn list(State(pages): State<Pages>, RawQuery(query): RawQuery) -> (HeaderMap, Bytes) {
    let after = query.as_deref().and_then(|query| query.split_once("&after="));
    let place: usize = after.map_or(0, |(_, place)| place.parse().expect("a place"));
    let mut headers = HeaderMap::new();
    headers.insert("billing-month", "2026-11".parse().expect("a header"));
    if place + 1 < pages.len() {
        let link = format!("<?limit={PAGE}&after={}>; rel=\"next\"", place + 1);
        headers.insert("link", link.parse().expect("a header"));
    }
    (headers, pages[place].clone())
}

async fn charge(Path((id, request_id)): Path<(String, String)>) -> Json<Value> {
    sleep(CHARGE).await;
    Json(json!({
        "subscription_id": id, "request_id": request_id, "month": "2026-11", "charged_at": "2026-11-24T21:38:53Z",
        "already_charged": false, "order": null
    }))
}

fn start(folder: &FilePath, arguments: &[&str]) -> (Child, Instant) {
    // dev/bench.py builds both with one command.
    let binary = std::env::current_exe().expect("this program").with_file_name("bill-run");
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    (command.spawn().expect("the tool starts"), Instant::now())
}

/// How long it takes, and the most memory that it has, in MB. Linux only.
async fn measure((mut tool, started): (Child, Instant)) -> (Duration, f64) {
    let mut peak = 0.0;
    loop {
        if let Some(status) = tool.try_wait().expect("a child") {
            assert!(status.success(), "the tool ends with {status}");
            return (started.elapsed(), peak);
        }
        // A process that has ended, and was not waited for, has no memory any more.
        let status = fs::read_to_string(format!("/proc/{}/status", tool.id())).expect("Linux's /proc");
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
            peak = kibibytes * 1024.0 / 1e6;
        }
        sleep(Duration::from_millis(1)).await;
    }
}
