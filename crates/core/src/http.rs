//! Reading paths, queries and bodies; building answers.

use std::{collections::BTreeMap, fmt};

use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LINK, RETRY_AFTER},
    },
    request::RequestContext,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use crate::{Error, clock::Budget, error::Extra, page::Page};

pub type Reply = Response<Body>;

/// A longer body is not read. A call of the API needs a few hundred bytes.
pub(crate) const LONGEST_BODY: usize = 16 * 1024;

/// The part of the path that `template` calls `name`, decoded: `path(request, "/club/{id}/subscribe", "id")`.
pub fn path(request: &Request, template: &str, name: &str) -> Result<String, Error> {
    let value = match request.path_parameters().first(name) {
        Some(value) => value.to_owned(),
        // No route of a gateway matched: the call came through a function URL.
        None => parameters(request.raw_http_path(), template)
            .and_then(|parameters| parameters.into_iter().find(|(parameter, _)| *parameter == name))
            .map(|(_, value)| value.to_owned())
            .ok_or_else(|| Error::invalid(format!("the path must be {template}")))?,
    };
    if gateway_decodes(request) {
        return Ok(value);
    }
    percent_decode_str(&value)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| Error::invalid(format!("the path's {name} must be UTF-8")))
}

/// An HTTP API decodes path parameters. A REST API and a function URL pass them on as sent. So does
/// `cargo lambda watch`, whose events are an HTTP API's with a function URL's route, `$default`.
fn gateway_decodes(request: &Request) -> bool {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.route_key.as_deref().is_some_and(|route| route != "$default")
        }
        _ => false,
    }
}

/// The names and values of a path's parameters, if it fits the template. Matches from the end, because a stage or a base
/// path may come first.
fn parameters<'a>(path: &'a str, template: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut found = Vec::new();
    let mut segments = path.trim_end_matches('/').rsplit('/');
    for part in template.rsplit('/').filter(|part| !part.is_empty()) {
        let segment = segments.next().filter(|segment| !segment.is_empty())?;
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => found.push((name, segment)),
            None if part == segment => {}
            None => return None,
        }
    }
    Some(found)
}

/// The route that the call took: the gateway says so, or it is the first whose template fits the path.
pub fn route<R: Copy>(request: &Request, routes: &[(&str, R)]) -> Result<R, Error> {
    let matched = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => context.resource_path.as_deref(),
        // A method and a path, or `$default`.
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.route_key.as_deref().and_then(|key| key.split_once(' ')).map(|(_, path)| path)
        }
        _ => None,
    };
    let path = request.raw_http_path();
    let by_gateway =
        matched.and_then(|matched| routes.iter().find(|(template, _)| matched.trim_end_matches('/') == *template));
    by_gateway
        .or_else(|| routes.iter().find(|(template, _)| parameters(path, template).is_some()))
        .map(|(_, route)| *route)
        .ok_or_else(|| Error::invalid("the path is none of this function's"))
}

/// A path of the API relative to the request's, so it works under any stage or base path. `template` is the request's.
pub fn relative(request: &Request, template: &str, path: &str) -> String {
    // From a path with a trailing slash it is one step more.
    let slashes = template.matches('/').count() + usize::from(request.raw_http_path().ends_with('/'));
    format!("{}{path}", "../".repeat(slashes - 1))
}

/// The first query parameter of this name.
pub fn query(request: &Request, name: &str) -> Option<String> {
    request.query_string_parameters_ref().and_then(|query| query.first(name)).map(ToOwned::to_owned)
}

/// The parameter `limit`: a whole number from 1 to `most`.
pub fn limit(request: &Request, most: u32) -> Result<Option<u32>, Error> {
    query(request, "limit")
        .map(|limit| {
            let digits = limit.bytes().all(|byte| byte.is_ascii_digit());
            let limit = limit.parse().ok().filter(|limit| digits && (1..=most).contains(limit));
            limit.ok_or_else(|| Error::invalid(format!("limit must be a whole number from 1 to {most}")))
        })
        .transpose()
}

/// A parameter that is `true` or `false`; if it is missing, `false`.
pub fn flag(request: &Request, name: &str) -> Result<bool, Error> {
    query(request, name)
        .map_or(Ok(false), |value| value.parse().map_err(|_| Error::invalid(format!("{name} must be true or false"))))
}

/// The body's JSON object, whatever its content-type.
pub fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    if request.body().len() > LONGEST_BODY {
        return Err(Error::TooLarge);
    }
    let text = str::from_utf8(request.body()).map_err(|_| Error::invalid("the body must be UTF-8"))?;
    serde_path_to_error::deserialize(Object(text)).map_err(|error| Error::invalid(detail(&error)))
}

/// The field that is wrong, and the reason. serde's own reasons quote the value that was sent, so only what it expected is kept.
fn detail(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let (path, error) = (error.path().to_string(), error.inner());
    let mut reason = error.to_string();
    if !error.is_data() {
        // The place, but not the text: the body is the caller's.
        return match path.as_str() {
            THE_BODY => format!(
                "the body must be a JSON object, and is not JSON at line {} column {}",
                error.line(),
                error.column()
            ),
            field => format!("{field} cannot be read"),
        };
    }
    // The line and column count from the field's beginning, not the body's.
    if error.line() > 0 {
        reason.truncate(reason.rfind(" at line ").unwrap_or(reason.len()));
    }
    if let Some((_, expected)) = reason.rsplit_once(", expected ") {
        let what = if path == THE_BODY { "the body" } else { &path };
        format!("{what} must be {expected}")
    } else if let Some(field) = reason.strip_prefix("missing field ") {
        format!("{} is missing", field.trim_matches('`'))
    } else {
        reason
    }
}

/// The path of the whole body in an error.
const THE_BODY: &str = ".";

/// Reads a struct from the text of a JSON object. Fields that the struct does not have are skipped, not collected. A
/// field that is `null` counts as missing. Of two fields with one name, the last counts.
struct Object<'de>(&'de str);

impl<'de> Deserializer<'de> for Object<'de> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let mut json = serde_json::Deserializer::from_str(self.0);
        let mut fields = json.deserialize_map(Fields(names))?;
        json.end()?;
        fields.retain(|_, value| value.get() != "null");
        visitor.visit_map(MapDeserializer::new(fields.into_iter()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_struct("", &[], visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields of an object that have these names.
struct Fields(&'static [&'static str]);

impl<'de> Visitor<'de> for Fields {
    type Value = BTreeMap<&'static str, &'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.0.iter().find(|known| **known == name) {
                Some(known) => {
                    fields.insert(*known, map.next_value()?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// The time that Lambda leaves this invocation.
pub fn time_left(request: &Request) -> Budget {
    Budget::until_lambda_deadline(request.lambda_context().deadline)
}

pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Reply, Error> {
    let body = serde_json::to_string(body).map_err(|error| Error::Internal(error.into()))?;
    Ok(answer(status, "application/json", body))
}

/// A page, with a link to the next one.
pub fn page(Page { json, next }: Page) -> Result<Reply, Error> {
    let reply = answer(StatusCode::OK, "application/json", json);
    let Some(next) = next else { return Ok(reply) };
    let query: Vec<_> =
        next.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
    // Relative to the request, so it works under any stage or base path.
    with_header(reply, LINK, &format!("<?{}>; rel=\"next\"", query.join("&")))
}

pub fn with_header(mut reply: Reply, name: HeaderName, value: &str) -> Result<Reply, Error> {
    let value = HeaderValue::from_str(value).map_err(|error| Error::Internal(error.into()))?;
    reply.headers_mut().insert(name, value);
    Ok(reply)
}

/// RFC 9457. `instance` is the invocation's id, which the log has too.
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
    // Strings and numbers always serialize.
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::model::{BillingMonth, CustomerId, Status, When};

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "what is refused matters here")]
    struct Fields {
        customer_id: CustomerId,
        effect_date: Option<When>,
        skip: Option<BillingMonth>,
        status_id: Option<Status>,
        tags: Option<Vec<u8>>,
    }

    #[test]
    fn a_refusal_names_the_field_and_never_repeats_its_value() {
        for (text, detail) in [
            ("7", "the body must be a JSON object"),
            ("{", "the body must be a JSON object, and is not JSON at line 1 column 1"),
            ("{}", "customer_id is missing"),
            (r#"{"customer_id":null}"#, "customer_id is missing"),
            (r#"{"customer_id":7}"#, "customer_id must be a string"),
            (r#"{"customer_id":""}"#, "customer_id must be 1 to 36 characters long"),
            (r#"{"customer_id":["a, expected b"]}"#, "customer_id must be a string"),
            (r#"{"status_id":"a, expected b"}"#, "status_id must be 1 (activate), 2 (cancel) or 3 (pause)"),
            (r#"{"effect_date":{}}"#, "effect_date must be an ISO 8601 date or time of the years 1 to 9999"),
            (
                r#"{"effect_date":"a, expected b"}"#,
                "effect_date must be an ISO 8601 date or time of the years 1 to 9999",
            ),
            (r#"{"skip":"a, expected b"}"#, "skip must be a month such as 2026-11"),
            (r#"{"tags":[1,"a, expected b"]}"#, "tags[1] must be u8"),
            (r#"{"tags":[1,"a at line 7"]}"#, "tags[1] must be u8"),
            (r#"{"tags":1e999}"#, "tags cannot be read"),
            (r#"{"customer_id":"c"} 7"#, "the body must be a JSON object, and is not JSON at line 1 column 21"),
            (r#"["c"]"#, "the body must be a JSON object"),
            (r#""customer_id""#, "the body must be a JSON object"),
        ] {
            let refused = body::<Fields>(&Request::new(text.into())).err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), Some(detail), "{text}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_the_last_of_two_counts() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        for text in [
            r#"{"customer_id":"c"}"#.to_owned(),
            r#"{"customer_id":7,"customer_id":"b","customer_id":"c","skip":null}"#.to_owned(),
            format!(r#"{{"":{deep},"x":1e999,"customer_id":"c","y":"\ud800"}}"#),
        ] {
            let read = body::<Fields>(&Request::new(text.as_str().into()));
            assert_eq!(read.ok().as_ref().map(|fields| fields.customer_id.as_str()), Some("c"), "{text}");
        }
        for (length, code) in [(LONGEST_BODY, "invalid_request"), (LONGEST_BODY + 1, "too_large")] {
            let refused = body::<Fields>(&Request::new("[".repeat(length).into())).err();
            assert_eq!(refused.map(|error| error.kind().1), Some(code));
        }
    }
}
