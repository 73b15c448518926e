//! Reading paths, queries and bodies; building answers.

use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LINK, RETRY_AFTER},
    },
    request::RequestContext,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, clock::Budget, error::Extra};

pub type Reply = Response<Body>;

/// The part of the path that `template` calls `name`, decoded: `path(request, "/club/{id}/subscribe", "id")`.
pub fn path(request: &Request, template: &str, name: &str) -> Result<String, Error> {
    let value = match request.path_parameters().first(name) {
        Some(value) => value.to_owned(),
        // A call without a route of the gateway's, such as a function's own URL.
        None => from_raw_path(request.raw_http_path(), template, name)?,
    };
    if gateway_decodes(request) {
        return Ok(value);
    }
    percent_decode_str(&value)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| Error::invalid(format!("the path's {name} must be UTF-8")))
}

/// REST APIs and function URLs hand on paths as they were sent; an HTTP API's routes are decoded before we see them.
/// `cargo lambda watch` sends the events of an HTTP API, but like a function URL, whose route is `$default`.
fn gateway_decodes(request: &Request) -> bool {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.route_key.as_deref().is_some_and(|route| route != "$default")
        }
        _ => false,
    }
}

/// From the end, because a stage or a base path may stand before.
fn from_raw_path(path: &str, template: &str, name: &str) -> Result<String, Error> {
    let mut found = None;
    let mut segments = path.trim_end_matches('/').rsplit('/');
    for part in template.rsplit('/').filter(|part| !part.is_empty()) {
        let segment = segments.next().unwrap_or_default();
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(parameter) if parameter == name => found = Some(segment.to_owned()),
            Some(_) => {}
            None if part == segment => {}
            None => return Err(Error::invalid(format!("the path must be {template}"))),
        }
    }
    found.ok_or_else(|| Error::Internal(format!("{template} has no {name}").into()))
}

/// A parameter of the query; the first, if it stands there more than once.
pub fn query(request: &Request, name: &str) -> Option<String> {
    request.query_string_parameters_ref().and_then(|query| query.first(name)).map(ToOwned::to_owned)
}

/// The body's JSON object, whatever the content-type says.
pub fn fields(request: &Request) -> Result<Fields, Error> {
    match serde_json::from_slice(request.body()) {
        Ok(Value::Object(fields)) => Ok(Fields(fields)),
        Ok(_) => Err(Error::invalid("the body must be a JSON object")),
        // Where, but not what: the body is the caller's.
        Err(error) => Err(Error::invalid(format!(
            "the body must be a JSON object, and is not JSON at line {} column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// The fields of a body. One that is `null` is one that is not there.
pub struct Fields(Map<String, Value>);

impl Fields {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn required(&self, name: &str) -> Result<&Value, Error> {
        self.get(name).ok_or_else(|| missing(name))
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        self.get(name)
            .map(|value| value.as_str().ok_or_else(|| Error::invalid(format!("{name} must be a string"))))
            .transpose()
    }

    pub fn required_text(&self, name: &str) -> Result<&str, Error> {
        self.text(name)?.ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("{name} is missing"))
}

/// The time that Lambda leaves this invocation.
pub fn time_left(request: &Request) -> Budget {
    Budget::until_lambda_deadline(request.lambda_context_ref().map_or(0, |context| context.deadline))
}

pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Reply, Error> {
    let body = serde_json::to_string(body).map_err(|error| Error::Internal(error.into()))?;
    Ok(answer(status, "application/json", body))
}

/// A JSON array that is text already, with the way to its next page if there is one: of so many, after that one.
pub fn list(json: String, next: Option<(u32, String)>) -> Result<Reply, Error> {
    let mut reply = answer(StatusCode::OK, "application/json", json);
    if let Some((limit, after)) = next {
        // Relative to the request, whatever stage or base path that was sent to.
        let after = utf8_percent_encode(&after, NON_ALPHANUMERIC);
        let link = HeaderValue::try_from(format!("<?limit={limit}&after={after}>; rel=\"next\""));
        reply.headers_mut().insert(LINK, link.map_err(|error| Error::Internal(error.into()))?);
    }
    Ok(reply)
}

/// RFC 9457. `instance` is the invocation's id, under which the log has more.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    instance: String,
    #[serde(flatten)]
    extra: Extra<'a>,
}

pub fn problem(error: &Error, invocation: &str) -> Reply {
    let (status, code) = error.kind();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: error.to_string(),
        code,
        instance: format!("urn:uuid:{invocation}"),
        extra: error.extra(),
    };
    // Strings and numbers alone always serialize.
    let mut reply = answer(status, "application/problem+json", serde_json::to_string(&problem).unwrap_or_default());
    if let Some(seconds) = problem.extra.retry_after {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    reply
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Body::Text(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
