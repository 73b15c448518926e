//! An API that answers what a test tells it to.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub const MONTH: &str = "2026-11";

/// An answer to a charge.
#[derive(Clone)]
pub enum Reply {
    Charged,
    /// Status, code, and further members.
    Problem(u16, &'static str, Value),
    /// A status that has no problem with it.
    Bare(u16),
    /// With this header.
    RetryAfter(u64, Box<Reply>),
    /// Half of it arrives.
    Cut,
}

/// A request to charge.
#[derive(Clone)]
pub struct Charge {
    pub subscription: String,
    pub request_id: String,
    pub month: String,
    pub at: Instant,
}

#[derive(Default)]
struct Script {
    eligible: Mutex<Vec<String>>,
    /// Of the list.
    eligible_status: Mutex<Option<u16>>,
    month: Mutex<String>,
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    usual: Mutex<Option<Reply>>,
    charges: Mutex<Vec<Charge>>,
    held: watch::Sender<bool>,
}

/// It stops when this is dropped.
pub struct Scripted {
    pub url: String,
    script: Arc<Script>,
    server: JoinHandle<()>,
}

impl Scripted {
    pub async fn start(eligible: &[&str]) -> Self {
        let script = Arc::new(Script::default());
        *script.eligible.lock().unwrap() = eligible.iter().map(ToString::to_string).collect();
        *script.month.lock().unwrap() = MONTH.to_owned();
        let router = Router::new()
            .route("/stage/subscription/eligible", get(list))
            .route("/stage/subscription/{id}/charge/{request_id}", post(charge))
            .with_state(Arc::clone(&script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/stage/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script, server }
    }

    /// The first answers to a subscription's charges; then it is charged.
    pub fn replies(&self, subscription: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.script.replies.lock().unwrap().insert(subscription.to_owned(), replies);
    }

    /// The answer to every charge that has no other.
    pub fn usually(&self, reply: Reply) {
        *self.script.usual.lock().unwrap() = Some(reply);
    }

    pub fn is_eligible(&self, subscription: &str) {
        self.script.eligible.lock().unwrap().push(subscription.to_owned());
    }

    /// The list is answered with this status.
    pub fn list_answers(&self, status: u16) {
        *self.script.eligible_status.lock().unwrap() = Some(status);
    }

    /// Charges get no answer until they are released.
    pub fn hold(&self, held: bool) {
        self.script.held.send_replace(held);
    }

    pub fn charges(&self) -> Vec<Charge> {
        self.script.charges.lock().unwrap().clone()
    }

    pub fn charges_of(&self, subscription: &str) -> Vec<Charge> {
        self.charges().into_iter().filter(|charge| charge.subscription == subscription).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Parameters = Query<HashMap<String, String>>;

async fn list(State(script): State<Arc<Script>>, Query(query): Parameters) -> Response {
    if let Some(status) = *script.eligible_status.lock().unwrap() {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let all = script.eligible.lock().unwrap().clone();
    let limit: usize = query["limit"].parse().unwrap();
    let begin = query.get("after").map_or(0, |after| all.iter().position(|id| id == after).unwrap() + 1);
    let page = &all[begin..all.len().min(begin + limit)];
    let mut headers = HeaderMap::new();
    headers.insert("billing-month", script.month.lock().unwrap().parse().unwrap());
    if begin + page.len() < all.len() {
        let after = page.last().unwrap();
        headers.insert("link", format!("<?limit={limit}&after={after}>; rel=\"next\"").parse().unwrap());
    }
    (headers, Json(page)).into_response()
}

async fn charge(
    State(script): State<Arc<Script>>,
    Path((subscription, request_id)): Path<(String, String)>,
    Query(query): Parameters,
) -> Response {
    script.charges.lock().unwrap().push(Charge {
        subscription: subscription.clone(),
        request_id: request_id.clone(),
        month: query["month"].clone(),
        at: Instant::now(),
    });
    script.held.subscribe().wait_for(|held| !held).await.unwrap();
    let scripted = script.replies.lock().unwrap().get_mut(&subscription).and_then(VecDeque::pop_front);
    let reply = scripted.or_else(|| script.usual.lock().unwrap().clone()).unwrap_or(Reply::Charged);
    answer(reply, &subscription, &request_id)
}

fn answer(reply: Reply, subscription: &str, request_id: &str) -> Response {
    match reply {
        Reply::Charged => Json(json!({
            "subscription_id": subscription, "request_id": request_id, "month": MONTH,
            "charged_at": "2026-11-24T21:38:53Z", "already_charged": false, "order": null
        }))
        .into_response(),
        Reply::Problem(status, code, mut members) => {
            members["status"] = status.into();
            members["code"] = code.into();
            (StatusCode::from_u16(status).unwrap(), Json(members)).into_response()
        }
        Reply::Bare(status) => (StatusCode::from_u16(status).unwrap(), "<html>").into_response(),
        Reply::RetryAfter(seconds, reply) => {
            let mut response = answer(*reply, subscription, request_id);
            response.headers_mut().insert("retry-after", seconds.into());
            response
        }
        Reply::Cut => {
            let half = stream::iter([Ok(Bytes::from_static(b"{\"subscr"))]);
            let rest = stream::once(async { Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe)) });
            ([("content-length", "100")], Body::from_stream(half.chain(rest))).into_response()
        }
    }
}
