//! An API that answers what a test tells it to. It has a ledger, a due list and pages, as the contract says.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub const MONTH: &str = "2026-11";
const NOW: &str = "2026-11-24T21:38:53Z";

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
    /// It is charged, and half of the answer arrives.
    Cut,
}

pub fn problem(status: u16, code: &'static str) -> Reply {
    Reply::Problem(status, code, json!({}))
}

pub fn rejected(status: u16, answer: Value) -> Reply {
    Reply::Problem(502, "order_rejected", json!({ "upstream_status": status, "upstream_answer": answer }))
}

pub fn unauthorized() -> Reply {
    problem(502, "ecommerce_unauthorized")
}

/// It can be repeated without a wait.
pub fn at_once(reply: Reply) -> Reply {
    Reply::RetryAfter(0, Box::new(reply))
}

/// A request to charge.
#[derive(Clone)]
pub struct Charge {
    pub subscription: String,
    pub request_id: String,
    pub month: String,
    pub authorization: Option<String>,
    pub at: Instant,
}

/// An attempt of the ledger.
#[derive(Clone, Serialize)]
pub struct Attempt {
    pub subscription_id: String,
    pub request_id: String,
    pub state: &'static str,
    pub settled_at: Option<&'static str>,
    pub upstream_status: Option<Value>,
    pub upstream_answer: Option<Value>,
    pub decided_by: Option<&'static str>,
    #[serde(skip)]
    pub month: String,
}

#[derive(Default)]
struct Script {
    eligible: Mutex<BTreeSet<String>>,
    /// By subscription, the oldest first.
    ledger: Mutex<BTreeMap<String, Vec<Attempt>>>,
    /// Of every page that is read.
    page_status: Mutex<Option<u16>>,
    page: Mutex<usize>,
    month: Mutex<String>,
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    usual: Mutex<Option<Reply>>,
    charges: Mutex<Vec<Charge>>,
    /// Those that become eligible when this one is charged.
    followers: Mutex<HashMap<String, String>>,
    held: watch::Sender<bool>,
    /// Requests that are not signed are refused.
    is_closed: AtomicBool,
}

/// It stops when this is dropped.
pub struct Scripted {
    pub url: String,
    script: Arc<Script>,
    server: JoinHandle<()>,
}

impl Scripted {
    pub async fn start<S: ToString>(eligible: &[S]) -> Self {
        let script = Arc::new(Script::default());
        *script.eligible.lock().unwrap() = eligible.iter().map(ToString::to_string).collect();
        *script.month.lock().unwrap() = MONTH.to_owned();
        *script.page.lock().unwrap() = 3;
        let router = Router::new()
            .route("/stage/subscription/eligible", get(due))
            .route("/stage/charge", get(attempts))
            .route("/stage/subscription/{id}/charge/{request_id}", post(charge))
            .layer(from_fn_with_state(Arc::clone(&script), authorize))
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

    /// This subscription becomes eligible when the other one is charged.
    pub fn follows(&self, subscription: &str, other: &str) {
        self.script.followers.lock().unwrap().insert(other.to_owned(), subscription.to_owned());
    }

    pub fn is_not_eligible(&self, subscription: &str) {
        self.script.eligible.lock().unwrap().remove(subscription);
    }

    /// Items of a page.
    pub fn pages_have(&self, items: usize) {
        *self.script.page.lock().unwrap() = items;
    }

    /// Pages are answered with this status.
    pub fn pages_answer(&self, status: Option<u16>) {
        *self.script.page_status.lock().unwrap() = status;
    }

    /// The billing month from now on.
    pub fn it_is(&self, month: &str) {
        *self.script.month.lock().unwrap() = month.to_owned();
    }

    /// The operators' routes are closed from now on.
    pub fn close(&self) {
        self.script.is_closed.store(true, Ordering::Relaxed);
    }

    /// Charges get no answer until they are released.
    pub fn hold(&self, held: bool) {
        self.script.held.send_replace(held);
    }

    /// Records an attempt of the month.
    pub fn record(&self, subscription: &str, request_id: &str, state: &'static str, decided_by: Option<&'static str>) {
        self.script.record(subscription, request_id, state, &json!({}));
        self.script.ledger.lock().unwrap().get_mut(subscription).unwrap().last_mut().unwrap().decided_by = decided_by;
    }

    pub fn charges(&self) -> Vec<Charge> {
        self.script.charges.lock().unwrap().clone()
    }

    pub fn forget_charges(&self) {
        self.script.charges.lock().unwrap().clear();
    }

    /// The request_ids of a subscription's charges.
    pub fn charges_of(&self, subscription: &str) -> Vec<String> {
        let charges = self.charges().into_iter().filter(|charge| charge.subscription == subscription);
        charges.map(|charge| charge.request_id).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn authorize(State(script): State<Arc<Script>>, request: Request, next: Next) -> Response {
    let authorization =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_signed = authorization.starts_with("AWS4-HMAC-SHA256 Credential=the-key/")
        && authorization.contains("/sa-east-1/execute-api/aws4_request");
    if script.is_closed.load(Ordering::Relaxed) && !is_signed {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

type Parameters = Query<HashMap<String, String>>;

impl Script {
    /// A live attempt is settled; without one, another attempt is recorded.
    fn record(&self, subscription: &str, request_id: &str, state: &'static str, problem: &Value) {
        let mut ledger = self.ledger.lock().unwrap();
        let attempts = ledger.entry(subscription.to_owned()).or_default();
        let attempt = Attempt {
            subscription_id: subscription.to_owned(),
            request_id: request_id.to_owned(),
            state,
            settled_at: Some(NOW),
            upstream_status: problem.get("upstream_status").cloned(),
            upstream_answer: problem.get("upstream_answer").cloned(),
            decided_by: None,
            month: self.month.lock().unwrap().clone(),
        };
        match attempts.iter_mut().find(|attempt| ["unknown", "in_flight", "charged"].contains(&attempt.state)) {
            // An order that may have been sent is charged, or it stays unknown.
            Some(live) if state == "charged" => *live = Attempt { month: live.month.clone(), ..attempt },
            Some(_) => {}
            None => attempts.push(attempt),
        }
        if state == "charged" {
            let follower = self.followers.lock().unwrap().remove(subscription);
            self.eligible.lock().unwrap().extend(follower);
        }
    }

    fn reply(&self, reply: Reply, subscription: &str, request_id: &str) -> Response {
        match reply {
            Reply::Charged => {
                self.record(subscription, request_id, "charged", &json!({}));
                Json(json!({
                    "subscription_id": subscription, "request_id": request_id, "month": MONTH,
                    "charged_at": NOW, "already_charged": false, "order": null
                }))
                .into_response()
            }
            Reply::Problem(status, code, mut members) => {
                let state = match code {
                    "order_rejected" => Some("rejected"),
                    "charge_outcome_unknown" => Some("unknown"),
                    "ecommerce_unavailable" | "ecommerce_unauthorized" => Some("not_sent"),
                    _ => None,
                };
                if let Some(state) = state {
                    self.record(subscription, request_id, state, &members);
                }
                members["status"] = status.into();
                members["code"] = code.into();
                (StatusCode::from_u16(status).unwrap(), Json(members)).into_response()
            }
            Reply::Bare(status) => (StatusCode::from_u16(status).unwrap(), "<html>").into_response(),
            Reply::RetryAfter(seconds, reply) => {
                let mut response = self.reply(*reply, subscription, request_id);
                response.headers_mut().insert("retry-after", seconds.into());
                response
            }
            Reply::Cut => {
                self.record(subscription, request_id, "charged", &json!({}));
                let half = stream::iter([Ok(Bytes::from_static(b"{\"subscr"))]);
                let rest = stream::once(async { Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe)) });
                ([("content-length", "100")], Body::from_stream(half.chain(rest))).into_response()
            }
        }
    }
}

async fn due(State(script): State<Arc<Script>>, Query(query): Parameters) -> Response {
    if let Some(status) = *script.page_status.lock().unwrap() {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    assert_eq!(query["due"], "true");
    let limit = query["limit"].parse::<usize>().unwrap().min(*script.page.lock().unwrap());
    let after = query.get("after").map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
    let (eligible, ledger) = (script.eligible.lock().unwrap(), script.ledger.lock().unwrap());
    let month = script.month.lock().unwrap().clone();
    let is_due = |id: &&String| {
        let mut attempts = ledger.get(*id).into_iter().flatten();
        !attempts.any(|attempt| attempt.state == "charged" && attempt.month == month)
    };
    let mut ids = eligible.range((after, Bound::Unbounded)).filter(is_due);
    let page: Vec<&String> = ids.by_ref().take(limit).collect();
    let mut headers = HeaderMap::new();
    headers.insert("billing-month", month.parse().unwrap());
    if ids.next().is_some() {
        let after = page.last().unwrap();
        headers.insert("link", format!("<?due=true&limit={limit}&after={after}>; rel=\"next\"").parse().unwrap());
    }
    (headers, Json(page)).into_response()
}

async fn attempts(State(script): State<Arc<Script>>, Query(query): Parameters) -> Response {
    if let Some(status) = *script.page_status.lock().unwrap() {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let month = &query["month"];
    let limit = query["limit"].parse::<usize>().unwrap().min(*script.page.lock().unwrap());
    // The place of an attempt among those of its subscription, after the subscription.
    let begin = query.get("begin").map(|begin| begin.split_once('/').unwrap());
    let begin = begin.map_or(("", 0), |(place, id)| (id, place.parse().unwrap()));
    let states: Option<Vec<&str>> = query.get("state").map(|states| states.split(',').collect());
    let ledger = script.ledger.lock().unwrap();
    let of_month = |attempt: &&Attempt| attempt.month == *month;
    let mut counts = json!({ "charged": 0, "in_flight": 0, "unknown": 0, "rejected": 0, "not_sent": 0 });
    for attempts in ledger.values() {
        let mut of_month = attempts.iter().filter(of_month);
        let live = of_month.clone().find(|attempt| ["unknown", "in_flight", "charged"].contains(&attempt.state));
        if let Some(attempt) = live.or(of_month.next_back()) {
            counts[attempt.state] = (counts[attempt.state].as_u64().unwrap() + 1).into();
        }
    }
    let wanted = |attempt: &&Attempt| states.as_ref().is_none_or(|states| states.contains(&attempt.state));
    let places = ledger.iter().flat_map(|(id, attempts)| (1..).map(|place| (&**id, place)).zip(attempts));
    let mut charges = places.filter(|(place, charge)| *place > begin && of_month(charge) && wanted(charge));
    let (places, page): (Vec<(&str, usize)>, Vec<&Attempt>) = charges.by_ref().take(limit).unzip();
    let mut headers = HeaderMap::new();
    if charges.next().is_some() {
        let mut next = query.clone();
        let (id, place) = places.last().unwrap();
        next.insert("begin".to_owned(), format!("{place}/{id}"));
        let next = form_urlencoded::Serializer::new(String::new()).extend_pairs(next).finish();
        headers.insert("link", format!("<?{next}>; rel=\"next\"").parse().unwrap());
    }
    (headers, Json(json!({ "month": month, "counts": counts, "charges": page }))).into_response()
}

async fn charge(
    State(script): State<Arc<Script>>,
    Path((subscription, request_id)): Path<(String, String)>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Response {
    script.charges.lock().unwrap().push(Charge {
        subscription: subscription.clone(),
        request_id: request_id.clone(),
        month: query["month"].clone(),
        authorization: headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()),
        at: Instant::now(),
    });
    script.held.subscribe().wait_for(|held| !held).await.unwrap();
    let scripted = script.replies.lock().unwrap().get_mut(&subscription).and_then(VecDeque::pop_front);
    let reply = scripted.or_else(|| script.usual.lock().unwrap().clone()).unwrap_or(Reply::Charged);
    script.reply(reply, &subscription, &request_id)
}
