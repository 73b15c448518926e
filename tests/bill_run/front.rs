//! The API over HTTP, as a gateway has it: each request is an invocation of one of a function's environments.

use std::{collections::HashMap, sync::Arc};

use api_tests::{Api, Call, Environment};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Method,
    response::Response,
};
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

    async fn answer(&self, call: &Call) -> api_tests::Answer {
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
        let router = Router::new().fallback(answer).with_state((Functions::new(functions), api.sql.clone()));
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

async fn answer(State((functions, sql)): State<(Functions, sqlx::PgPool)>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/charge" {
        let query = request.uri().query().unwrap();
        let q: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let states = q.get("state").map_or("in_flight,unknown,charged,rejected,not_sent", |s| s).replace(',', "','");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "with l as (select *, row_number() over (partition by subscription_id order by live desc, claimed_at desc) n from charge_ledger
               where billing_month = '{0}-01' and not orphaned)
             select json_build_object('month', '{0}', 'counts', (select json_build_object('charged', count(*) filter (where state='charged'),
               'in_flight', count(*) filter (where state='in_flight'), 'unknown', count(*) filter (where state='unknown'),
               'rejected', count(*) filter (where state='rejected'), 'not_sent', count(*) filter (where state='not_sent')) from l where n = 1),
              'charges', coalesce((select json_agg(to_json(l) order by subscription_id collate \"C\", claimed_at, id) from l where state in ('{states}')), '[]'))::text", q["month"]))).fetch_one(&sql).await.unwrap();
        return Response::new(Body::from(text));
    }
    let is_due = request.uri().query().is_some_and(|q| q.contains("due=true"));
    let mut call = if request.method() == Method::GET { Call::get(path) } else { Call::post(path, ().into()) };
    call.body = None;
    call.query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    // A gateway's invocation goes on when its caller is gone.
    let invocation = tokio::spawn(async move { functions[call.function()].answer(&call).await });
    let mut answer = invocation.await.unwrap();
    if is_due && answer.status == 200 {
        let month = &answer.headers["billing-month"];
        let charged: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select subscription_id from charge_ledger where state = 'charged' and not orphaned and billing_month = '{month}-01'"))).fetch_all(&sql).await.unwrap();
        answer.body.as_array_mut().unwrap().retain(|id| !charged.iter().any(|c| c == id.as_str().unwrap()));
        if let Some(link) = answer.headers.get_mut("link") {
            *link = link.replace("<?", "<?due=true&");
        }
    }
    let mut response = Response::builder().status(u16::try_from(answer.status).unwrap());
    for name in ["content-type", "retry-after", "link", "billing-month"] {
        if let Some(value) = answer.headers.get(name) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.body.to_string())).unwrap()
}
