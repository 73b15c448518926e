//! The API over HTTP, as a gateway has it: each request is an invocation of one of a function's environments.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Method,
    response::Response,
};
use harness::{Api, Call, Environment};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

/// A function's environments that have nothing to do.
struct Idle {
    give_back: mpsc::UnboundedSender<Environment>,
    take: Mutex<mpsc::UnboundedReceiver<Environment>>,
}

impl Idle {
    fn new(environments: Vec<Environment>) -> Self {
        let (give_back, take) = mpsc::unbounded_channel();
        for environment in environments {
            give_back.send(environment).ok().unwrap();
        }
        Self { give_back, take: Mutex::new(take) }
    }

    async fn answer(&self, call: &Call) -> harness::Answer {
        let environment = self.take.lock().await.recv().await.unwrap();
        let answer = environment.call(call).await;
        self.give_back.send(environment).ok().unwrap();
        answer
    }
}

type Functions = Arc<HashMap<&'static str, Idle>>;

/// It stops when this is dropped.
pub struct Front {
    pub url: String,
    server: JoinHandle<()>,
}

impl Front {
    /// `charges` is the number of charge's environments.
    pub async fn start(api: &Api, charges: usize) -> Self {
        let mut functions = HashMap::new();
        for (function, count) in [("charge", charges), ("eligible", 1), ("lookup", 1)] {
            let mut environments = Vec::new();
            for _ in 0..count {
                environments.push(api.environment(function).await);
            }
            functions.insert(function, Idle::new(environments));
        }
        let router = Router::new().fallback(answer).with_state(Functions::new(functions));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, server }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(functions): State<Functions>, request: Request) -> Response {
    let path = request.uri().path();
    let mut call = if request.method() == Method::GET { Call::get(path) } else { Call::post(path, ().into()) };
    call.body = None;
    call.query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    // A gateway's invocation goes on when its caller is gone.
    let invocation = tokio::spawn(async move { functions[call.function()].answer(&call).await });
    let answer = invocation.await.unwrap();
    let mut response = Response::builder().status(u16::try_from(answer.status).unwrap());
    for name in ["content-type", "retry-after", "link", "billing-month"] {
        if let Some(value) = answer.headers.get(name) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.body.to_string())).unwrap()
}
