//! The bootstrap: telemetry, shared state, errors to answers. Written once.

mod sanitize;
mod telemetry;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    process,
    sync::Arc,
    time::Instant,
};

use futures_util::{FutureExt, TryFutureExt};
use lambda_http::{
    Adapter, LambdaEvent, Request, RequestExt,
    http::{
        HeaderValue,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, X_CONTENT_TYPE_OPTIONS},
    },
    service_fn,
    tower::ServiceExt,
};
use sanitize::sanitize_event;
use serde::{Serialize, de::IgnoredAny};
use tracing::Instrument;

use crate::{
    Error,
    clock::Budget,
    config::{ConfigError, DatabaseSettings, Settings},
    database::Database,
    http::{self, Reply},
};

/// A task that yields this often lets the runtime ask for the first request before, with some to spare.
const YIELDS_BEFORE_WARMING: usize = 8;

/// The headers of the answers that a page of another origin may read, besides those that any page may.
const EXPOSED_HEADERS: &str = "billing-month,link,location,retry-after";

/// The state that an environment keeps between requests.
pub trait State: Send + Sync + Sized + 'static {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError>;

    /// Opens connections ahead of the first request.
    fn warm(&self) -> impl Future<Output = ()> + Send;
}

impl State for Database {
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let DatabaseSettings { options, password, idle_timeout } = settings.database()?;
        Ok(Self::new(options, password, idle_timeout))
    }

    async fn warm(&self) {
        self.connect_ahead().await;
    }
}

/// Serves a function that the gateway calls.
pub async fn run<S, H, F>(handler: H) -> Result<(), lambda_http::Error>
where
    S: State,
    H: Fn(Arc<S>, Request) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    let (state, cors_allow_origin) = start::<S>();
    let service = service_fn(move |request: Request| {
        let (state, handler, origin) = (Arc::clone(&state), handler.clone(), cors_allow_origin.clone());
        async move {
            let reply = respond(request, origin, move |request| handler(state, request)).await;
            Ok::<_, lambda_http::Error>(reply)
        }
    });
    lambda_runtime::run_concurrent(Adapter::from(service).map_request(sanitize_event)).await
}

/// Serves a function that a schedule calls. It reads nothing of the event. An error fails the invocation: Lambda counts
/// it and tries again.
pub async fn run_scheduled<S, H, F, R>(handler: H) -> Result<(), lambda_http::Error>
where
    S: State,
    H: Fn(Arc<S>, Budget) -> F + Clone + Send + 'static,
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: Serialize + Send + 'static,
{
    let (state, _) = start::<S>();
    let service = service_fn(move |event: LambdaEvent<IgnoredAny>| {
        let span = tracing::error_span!("invocation", requestId = event.context.request_id);
        let work = handler(Arc::clone(&state), Budget::until_lambda_deadline(event.context.deadline));
        let logged = async move {
            work.await.inspect_err(|error| {
                let source = std::error::Error::source(error);
                tracing::error!(error.code = error.kind().1, error = source, "failed");
            })
        };
        logged.map_err(lambda_http::Error::from).instrument(span)
    });
    lambda_runtime::run_concurrent(service).await
}

/// Reads the settings and opens connections. A setting that is missing or wrong ends the process with one line that
/// says so.
fn start<S: State>() -> (Arc<S>, HeaderValue) {
    #[cfg(feature = "failpoints")]
    std::mem::forget(fail::FailScenario::setup());
    telemetry::log_to_stdout();
    let settings = Settings::load()
        .and_then(|settings| Ok((Arc::new(S::from_settings(&settings)?), settings.cors_allow_origin()?)));
    let (state, cors_allow_origin) = settings.unwrap_or_else(|error| {
        tracing::error!("{error}");
        process::exit(1);
    });
    // The runtime shares this thread. It asks for the first request before any connection is opened.
    let warming = Arc::clone(&state);
    tokio::spawn(async move {
        for _ in 0..YIELDS_BEFORE_WARMING {
            tokio::task::yield_now().await;
        }
        warming.warm().await;
    });
    (state, cors_allow_origin)
}

/// Answers whatever happens, and logs it once.
async fn respond<F>(request: Request, cors_allow_origin: HeaderValue, handle: impl FnOnce(Request) -> F) -> Reply
where
    F: Future<Output = Result<Reply, Error>>,
{
    let started = Instant::now();
    let invocation = request.lambda_context().request_id;
    // At error level: the runtime's own span is missing when only errors are logged.
    let span = tracing::error_span!("request", requestId = invocation);
    // The handler may panic before its future runs, too.
    let result = match catch_unwind(AssertUnwindSafe(|| handle(request))) {
        Ok(future) => AssertUnwindSafe(future.instrument(span.clone())).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    let result = result.unwrap_or_else(|_| Err(Error::Internal("the handler panicked".into())));

    let _in_span = span.entered();
    let duration_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut reply = match result {
        Ok(reply) => {
            tracing::info!(http.status = reply.status().as_u16(), duration_ms, "answered");
            reply
        }
        Err(error) => {
            let (status, code) = error.kind();
            let (http_status, source) = (status.as_u16(), std::error::Error::source(&error));
            if status.is_server_error() {
                tracing::error!(http.status = http_status, error.code = code, error = source, duration_ms, "failed");
            } else {
                tracing::info!(http.status = http_status, error.code = code, duration_ms, "refused");
            }
            http::problem(&error, &invocation)
        }
    };
    reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, cors_allow_origin);
    reply.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use lambda_http::{Body, Context, http::StatusCode};

    use super::*;

    async fn respond_to(handle: impl FnOnce(Request) -> Result<Reply, Error>) -> Reply {
        let request = Request::default().with_lambda_context(Context::default());
        respond(request, HeaderValue::from_static("*"), |request| async move { handle(request) }).await
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_like_any_other() {
        let reply = respond_to(|_| panic!("not for the caller")).await;
        assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(reply.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let Body::Text(body) = reply.body() else { panic!("a text") };
        assert!(body.contains("\"code\":\"internal_error\"") && !body.contains("not for the caller"), "{body}");
    }
}
