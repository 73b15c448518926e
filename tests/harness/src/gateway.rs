//! The events that gateways make of an HTTP call.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::routes::{Route, routes};

/// The gateway that passes the call to the function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gateway {
    /// REST API, payload 1.0: the path and its parameters as they were sent.
    Rest,
    /// HTTP API with routes, payload 2.0: the path and its parameters decoded.
    Http,
    /// A function's URL, payload 2.0: one route, no parameters. `cargo lambda watch` without its router is the same.
    FunctionUrl,
}

pub const GATEWAYS: [Gateway; 3] = [Gateway::Rest, Gateway::Http, Gateway::FunctionUrl];

/// The gateway's way to authenticate a customer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Authorizer {
    /// A REST API's Cognito user pool.
    UserPool,
    /// A REST API's Lambda authorizer.
    RestLambda,
    /// An HTTP API's JWT authorizer.
    Jwt,
    /// An HTTP API's Lambda authorizer.
    HttpLambda,
}

pub const AUTHORIZERS: [Authorizer; 4] =
    [Authorizer::UserPool, Authorizer::RestLambda, Authorizer::Jwt, Authorizer::HttpLambda];

impl Authorizer {
    fn gateway(self) -> Gateway {
        match self {
            Self::UserPool | Self::RestLambda => Gateway::Rest,
            Self::Jwt | Self::HttpLambda => Gateway::Http,
        }
    }

    /// The event's `requestContext.authorizer`.
    fn context(self, claims: Value) -> Value {
        match self {
            Self::UserPool => json!({ "claims": claims }),
            Self::RestLambda => {
                let mut context = json!({ "principalId": "a principal", "integrationLatency": 12 });
                context.as_object_mut().expect("an object").extend(claims.as_object().expect("claims").clone());
                context
            }
            Self::Jwt => json!({ "jwt": { "claims": claims, "scopes": null } }),
            Self::HttpLambda => json!({ "lambda": claims }),
        }
    }
}

/// An HTTP call. The path is as it goes over the wire, percent-encoded.
#[derive(Clone, Debug)]
pub struct Call {
    pub gateway: Gateway,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub base64: bool,
    /// The authorizer's part of the event, or null.
    authorizer: Value,
    method: &'static str,
}

impl Call {
    fn new(method: &'static str, path: impl Into<String>, body: Option<String>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self {
            gateway: Gateway::Rest,
            path: path.into(),
            query: Vec::new(),
            headers,
            body,
            base64: false,
            authorizer: Value::Null,
            method,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path, None)
    }

    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new("POST", path, Some(body.to_string()))
    }

    pub fn subscribe(club: i32, customer: &str) -> Self {
        Self::post(format!("/club/{club}/subscribe"), json!({ "customer_id": customer }))
    }

    pub fn charge(subscription: &str, request_id: &str) -> Self {
        Self::new("POST", format!("/subscription/{subscription}/charge/{request_id}"), None)
    }

    pub fn via(mut self, gateway: Gateway) -> Self {
        self.gateway = gateway;
        self
    }

    /// Through this authorizer and its gateway, with these claims.
    pub fn authorized(mut self, authorizer: Authorizer, claims: Value) -> Self {
        self.gateway = authorizer.gateway();
        self.authorizer = authorizer.context(claims);
        self
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The route that takes it, and the parameters of its path.
    fn route(&self) -> (&'static Route, Map<String, Value>) {
        let path = self.path.trim_end_matches('/');
        let found = routes().iter().filter_map(|route| {
            let mut parameters = Map::new();
            let (mut parts, mut segments) = (route.path.split('/'), path.split('/'));
            loop {
                match (parts.next(), segments.next()) {
                    (None, None) => return (route.method == self.method).then_some((route, parameters)),
                    (Some(part), Some(segment)) if part.starts_with('{') => {
                        parameters.insert(part.trim_matches(['{', '}']).to_owned(), segment.into());
                    }
                    (part, segment) if part == segment => {}
                    _ => return None,
                }
            }
        });
        // A literal path comes before one with a parameter.
        let found = found.min_by_key(|(_, parameters)| parameters.len());
        found.unwrap_or_else(|| panic!("no route takes {} {}", self.method, self.path))
    }

    pub fn function(&self) -> &'static str {
        self.route().0.function
    }

    /// The event that a function is invoked with.
    pub fn event(&self) -> Value {
        let (Route { path: template, .. }, parameters) = self.route();
        let encoded_query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        let headers: Map<String, Value> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let decoded: Map<String, Value> = parameters
            .iter()
            .map(|(name, value)| (name.clone(), decode(value.as_str().unwrap_or_default()).into()))
            .collect();
        let mut event = match self.gateway {
            Gateway::Rest => {
                let (mut single, mut multi) = (Map::new(), Map::new());
                for (name, value) in &self.query {
                    single.insert(name.clone(), value.clone().into());
                    multi.insert(name.clone(), json!([value]));
                }
                json!({
                    "resource": template, "path": self.path, "httpMethod": self.method,
                    "headers": headers,
                    "multiValueHeaders": headers.iter().map(|(name, value)| (name.clone(), json!([value]))).collect::<Map<_, _>>(),
                    "queryStringParameters": single, "multiValueQueryStringParameters": multi,
                    "pathParameters": parameters, "stageVariables": null,
                    "requestContext": {
                        "accountId": "123456789012", "apiId": "api", "httpMethod": self.method, "identity": {},
                        "path": format!("/dev{}", self.path), "protocol": "HTTP/1.1", "requestId": "r",
                        "resourceId": "x", "resourcePath": template, "stage": "dev"
                    },
                    "body": self.body, "isBase64Encoded": self.base64
                })
            }
            Gateway::Http | Gateway::FunctionUrl => {
                let routed = self.gateway == Gateway::Http;
                let path = if routed { decode(&self.path) } else { self.path.clone() };
                let route_key = if routed { format!("{} {template}", self.method) } else { "$default".to_owned() };
                json!({
                    "version": "2.0", "routeKey": route_key, "rawPath": path, "rawQueryString": encoded_query,
                    "headers": headers,
                    "pathParameters": if routed { Value::Object(decoded) } else { Value::Null },
                    "requestContext": {
                        "accountId": "123456789012", "apiId": "api", "domainName": "example.com",
                        "domainPrefix": "api", "requestId": "r", "routeKey": route_key, "stage": "$default",
                        "http": {
                            "method": self.method, "path": path, "protocol": "HTTP/1.1",
                            "sourceIp": "127.0.0.1", "userAgent": "tests"
                        },
                        "time": "23/Nov/2026:00:00:00 +0000", "timeEpoch": 1_795_392_000_000_u64
                    },
                    "body": self.body, "isBase64Encoded": self.base64
                })
            }
        };
        if !self.authorizer.is_null() {
            event["requestContext"]["authorizer"] = self.authorizer.clone();
        }
        event
    }
}
