//! A stand-in for the shop's e-commerce platform.
//!
//! `POST /order/{request_id}` checks the two headers and the payload and keeps one order per number: the same number
//! again gives the same order. `GET /orders` lists what it received. `PUT /behaviour` changes how it answers from now
//! on, `POST /behaviour` how it answers one order, after those that were said before.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State, connect_info::Connected},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
    serve::{IncomingStream, Listener},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How it answers an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Before it answers or breaks off.
    pub delay_ms: u64,
    /// It waits, too, until everything that is held is released.
    pub held: bool,
    pub answer: Answer,
}

impl Behaviour {
    /// It answers with this status, and an empty object.
    pub fn status(status: u16) -> Self {
        let answer = Answer::Status { status, headers: BTreeMap::new(), body: "{}".to_owned() };
        Self { answer, ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Takes the order: 201, or 200 when it has it already.
    #[default]
    Order,
    /// Takes no order. A 2xx takes it.
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
}

/// An order that arrived whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    pub request_id: String,
    pub customer_id: String,
    pub sku_id: i64,
    /// Whether an order exists for it now.
    pub taken: bool,
    /// Whether the platform said no to it, and means it: any other order might have been taken.
    pub refused: bool,
}

#[derive(Default)]
struct Books {
    release: watch::Sender<bool>,
    received: Vec<Received>,
    /// Orders by their number.
    orders: BTreeMap<String, Value>,
    usual: Behaviour,
    next: VecDeque<Behaviour>,
    /// For one order with this number.
    for_number: BTreeMap<String, Behaviour>,
}

impl Books {
    /// How the order with this number is answered, now that it is here.
    fn behaviour(&mut self, number: &str) -> Behaviour {
        self.for_number.remove(number).or_else(|| self.next.pop_front()).unwrap_or_else(|| self.usual.clone())
    }

    /// Whether the order with this number is cut off.
    fn resets_before_reading(&mut self, number: &str) -> bool {
        let Some(next) = self.for_number.get(number).or(self.next.front()) else {
            return self.usual.answer == Answer::ResetBeforeReading;
        };
        next.answer == Answer::ResetBeforeReading && self.behaviour(number).answer == Answer::ResetBeforeReading
    }
}

/// What callers must send in `x-api-key` and `x-api-secret`.
#[derive(Clone)]
pub struct Credentials {
    pub key: String,
    pub secret: String,
}

/// A running stand-in; it stops when this is dropped.
pub struct Platform {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
    server: tokio::task::JoinHandle<()>,
}

impl Platform {
    pub async fn start(port: u16, credentials: Credentials) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let books = Arc::new(Mutex::new(Books::default()));
        let router = Router::new()
            .route("/order/{request_id}", post(order))
            .route("/orders", get(orders))
            .route("/behaviour", put(set_behaviour).post(add_behaviour))
            .with_state(App { books: Arc::clone(&books), credentials });
        let listener = Resettable { listener, books: Arc::clone(&books) };
        let service = router.into_make_service_with_connect_info::<Line>();
        let server = tokio::spawn(async move {
            // It only ever ends by being aborted.
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self { address, books, server })
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        lock(&self.books).received.clone()
    }

    /// Lets go of everything that is held.
    pub fn release(&self) {
        lock(&self.books).release.send_replace(true);
    }

    /// How it answers from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.books).usual = behaviour;
    }

    /// How it answers the first order with this number.
    pub fn behave_for(&self, number: &str, behaviour: Behaviour) {
        lock(&self.books).for_number.insert(number.to_owned(), behaviour);
    }

    /// How it answers one order, after those that were said before.
    pub fn behave_once(&self, behaviour: Behaviour) {
        lock(&self.books).next.push_back(behaviour);
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct App {
    books: Arc<Mutex<Books>>,
    credentials: Credentials,
}

#[derive(Deserialize)]
struct Payload {
    customer_id: String,
    sku_id: i64,
}

async fn order(
    State(app): State<App>,
    ConnectInfo(line): ConnectInfo<Line>,
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

    let (behaviour, known, order, mut released) = {
        let mut books = lock(&app.books);
        let behaviour = books.behaviour(&request_id);
        let (taken, refused) = match &behaviour.answer {
            Answer::Status { status: 408 | 409, .. } => (false, false),
            Answer::Status { status, .. } => ((200..300).contains(status), (400..500).contains(status)),
            Answer::Order | Answer::CutBody => (true, false),
            Answer::ResetAfterReading { take } => (*take, false),
            Answer::ResetBeforeReading => (false, false),
        };
        books.received.push(Received {
            request_id: request_id.clone(),
            customer_id: payload.customer_id.clone(),
            sku_id: payload.sku_id,
            taken,
            refused,
        });
        let known = books.orders.get(&request_id).cloned();
        let order = known.clone().unwrap_or_else(|| {
            json!({
                "order_id": books.orders.len() + 1,
                "request_id": request_id,
                "customer_id": payload.customer_id,
                "sku_id": payload.sku_id,
            })
        });
        if taken {
            books.orders.insert(request_id, order.clone());
        }
        (behaviour, known.is_some(), order, books.release.subscribe())
    };

    tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
    if behaviour.held {
        // An error says that nobody can release it any more.
        let _ = released.wait_for(|released| *released).await;
    }
    match behaviour.answer {
        Answer::Order => (if known { StatusCode::OK } else { StatusCode::CREATED }, Json(order)).into_response(),
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
            // The half goes out while the rest is waited for.
            let rest = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            });
            let body = Body::from_stream(stream::iter([Ok(half)]).chain(rest));
            ([("content-length", whole.len().to_string())], body).into_response()
        }
        Answer::ResetBeforeReading | Answer::ResetAfterReading { .. } => {
            line.0.store(true, Ordering::Release);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}

async fn orders(State(app): State<App>) -> Json<Vec<Received>> {
    Json(lock(&app.books).received.clone())
}

async fn set_behaviour(State(app): State<App>, Json(behaviour): Json<Behaviour>) -> Json<Behaviour> {
    lock(&app.books).usual = behaviour.clone();
    Json(behaviour)
}

async fn add_behaviour(State(app): State<App>, Json(behaviour): Json<Behaviour>) -> Json<Behaviour> {
    lock(&app.books).next.push_back(behaviour.clone());
    Json(behaviour)
}

/// Set when the connection is to be reset in place of its next answer.
#[derive(Clone, Default)]
struct Line(Arc<AtomicBool>);

impl Connected<IncomingStream<'_, Resettable>> for Line {
    fn connect_info(stream: IncomingStream<'_, Resettable>) -> Self {
        stream.io().line.clone()
    }
}

struct Resettable {
    listener: TcpListener,
    books: Arc<Mutex<Books>>,
}

impl Listener for Resettable {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, line: Line::default(), books: Arc::clone(&self.books) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    line: Line,
    books: Arc<Mutex<Books>>,
}

impl Connection {
    fn reset<T>(&self) -> Poll<io::Result<T>> {
        // So that dropping it sends a reset, not an orderly end.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    /// Whether the order that begins here is to be cut off.
    fn resets_before_reading(&self, bytes: &[u8]) -> bool {
        let number = bytes.strip_prefix(b"POST /order/").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let Some(Ok(number)) = number.map(str::from_utf8) else { return false };
        lock(&self.books).resets_before_reading(number)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.resets_before_reading(&buffer.filled()[before..]) { self.reset() } else { poll }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.line.0.load(Ordering::Acquire) {
            return self.reset();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
