//! A stand-in for the shop's e-commerce platform.
//!
//! `POST /order/{request_id}` checks the two headers and the payload, and keeps one order for each request_id: a repeat
//! gets the same order. `GET /orders` lists the orders that it received. `PUT /behaviour` says how it answers from now on.
//! `POST /behaviour` says how it answers one order; several wait in line.

mod connection;
mod order_book;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    connection::{Overridable, Override},
    order_book::{Entry, OrderBook},
};

/// An order is sent to this path and its request_id.
const ORDER_PATH: &str = "/order/";

/// The answer to an order, and when it comes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Milliseconds before it answers or breaks off.
    pub delay_ms: u64,
    /// It also waits until everything that is held is released.
    pub held: bool,
    pub answer: Answer,
}

impl Behaviour {
    /// An answer with this status and an empty object.
    pub fn status(status: u16) -> Self {
        let answer = Answer::Status { status, headers: BTreeMap::new(), body: "{}".to_owned() };
        Self { answer, ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Takes the order: 201, or 200 if it has the order already.
    #[default]
    Order,
    /// Takes the order if this is a 2xx.
    Status {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
    },
    /// Takes the order, and breaks off within the answer.
    CutBody,
    /// Breaks the connection off as soon as the order's first bytes arrive.
    ResetBeforeReading,
    /// Reads the order, takes it or not, and breaks the connection off.
    ResetAfterReading { take: bool },
    /// Reads the order, takes it or not, answers with these bytes, and ends the connection.
    Raw { take: bool, bytes: Vec<u8> },
}

/// An order that arrived whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    pub request_id: String,
    pub customer_id: String,
    pub sku_id: i64,
    /// The platform has the order.
    pub taken: bool,
    /// The answer rules out that the order was taken.
    pub refused: bool,
}

/// Callers must send these in `x-api-key` and `x-api-secret`.
#[derive(Clone)]
pub struct Credentials {
    pub key: String,
    pub secret: String,
}

/// A running stand-in; it stops when this is dropped.
pub struct Platform {
    address: SocketAddr,
    book: Arc<Mutex<OrderBook>>,
    server: tokio::task::JoinHandle<()>,
}

impl Platform {
    pub async fn start(port: u16, credentials: Credentials) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let book = Arc::<Mutex<OrderBook>>::default();
        let router = Router::new()
            .route(&format!("{ORDER_PATH}{{request_id}}"), post(order))
            .route("/orders", get(orders))
            .route("/behaviour", put(set_behaviour).post(add_behaviour))
            .fallback(stranger)
            .method_not_allowed_fallback(stranger)
            .with_state(App { book: Arc::clone(&book), credentials });
        let listener = Overridable { listener, book: Arc::clone(&book) };
        let service = router.into_make_service_with_connect_info::<Override>();
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self { address, book, server })
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        lock(&self.book).received.clone()
    }

    /// The requests that are not of this API, as `METHOD /path`.
    pub fn strangers(&self) -> Vec<String> {
        lock(&self.book).strangers.clone()
    }

    /// Releases everything that is held.
    pub fn release(&self) {
        lock(&self.book).release.send_replace(true);
    }

    /// Answers like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.book).usual = behaviour;
    }

    /// Answers the first order with this request_id like this.
    pub fn behave_for(&self, request_id: &str, behaviour: Behaviour) {
        lock(&self.book).for_request_id.insert(request_id.to_owned(), behaviour);
    }

    /// Answers one order like this, after the orders of earlier calls.
    pub fn behave_once(&self, behaviour: Behaviour) {
        lock(&self.book).next.push_back(behaviour);
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(book: &Mutex<OrderBook>) -> MutexGuard<'_, OrderBook> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct App {
    book: Arc<Mutex<OrderBook>>,
    credentials: Credentials,
}

#[derive(Deserialize)]
struct Payload {
    customer_id: String,
    sku_id: i64,
}

async fn order(
    State(app): State<App>,
    ConnectInfo(instead): ConnectInfo<Override>,
    Path(request_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let has = |name: &str, value: &str| headers.get(name).is_some_and(|sent| sent == value);
    if !has("x-api-key", &app.credentials.key) || !has("x-api-secret", &app.credentials.secret) {
        return refuse(StatusCode::UNAUTHORIZED, "x-api-key or x-api-secret is wrong");
    }
    let payload: Payload = match serde_json::from_slice(&body) {
        Ok(payload) => payload,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };

    let Entry { order, was_known, behaviour, mut released } = lock(&app.book).receive(request_id, payload);
    tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
    if behaviour.held {
        // An error means that the stand-in has ended.
        let _ = released.wait_for(|released| *released).await;
    }
    match behaviour.answer {
        Answer::Order => (if was_known { StatusCode::OK } else { StatusCode::CREATED }, Json(order)).into_response(),
        Answer::Status { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap_or_else(|error| refuse(StatusCode::BAD_GATEWAY, &error.to_string()))
        }
        Answer::CutBody => {
            let whole = order.to_string();
            let half = Bytes::copy_from_slice(&whole.as_bytes()[..whole.len() / 2]);
            // The half is sent before the rest fails.
            let rest = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            });
            let body = Body::from_stream(stream::iter([Ok(half)]).chain(rest));
            ([("content-length", whole.len().to_string())], body).into_response()
        }
        Answer::ResetBeforeReading | Answer::ResetAfterReading { .. } => {
            instead.reset();
            StatusCode::NO_CONTENT.into_response()
        }
        Answer::Raw { bytes, .. } => {
            instead.send(bytes);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}

async fn stranger(State(app): State<App>, method: Method, uri: Uri) -> Response {
    lock(&app.book).strangers.push(format!("{method} {}", uri.path()));
    refuse(StatusCode::NOT_FOUND, "there is no such route")
}

async fn orders(State(app): State<App>) -> Json<Vec<Received>> {
    Json(lock(&app.book).received.clone())
}

async fn set_behaviour(State(app): State<App>, Json(behaviour): Json<Behaviour>) -> Json<Behaviour> {
    lock(&app.book).usual = behaviour.clone();
    Json(behaviour)
}

async fn add_behaviour(State(app): State<App>, Json(behaviour): Json<Behaviour>) -> Json<Behaviour> {
    lock(&app.book).next.push_back(behaviour.clone());
    Json(behaviour)
}
