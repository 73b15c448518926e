//! Values that may be kept elsewhere: in the SSM Parameter Store, or in Secrets Manager.
//!
//! Where a setting's value is such an ARN, the value is fetched from the AWS Parameters and Secrets extension, a process
//! of Lambda's beside the function that caches it for five minutes, so a rotated secret is found without a restart.
//! <https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html>

use std::{env, time::Duration};

use http_body_util::BodyExt;
use lambda_http::http::{StatusCode, Uri};
use lambda_runtime_api_client::{BoxError, PooledClient, body::Body, build_request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::clock::Stopwatch;

/// Where the extension listens, if `PARAMETERS_SECRETS_EXTENSION_HTTP_PORT` does not say.
const PORT: u16 = 2773;
const ONE_FETCH: Duration = Duration::from_secs(3);
/// The extension serves nobody before the environment's first invocation begins.
const UNTIL_READY: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(25);

/// Why a secret could not be read; never what it is.
#[derive(Debug, Error)]
pub enum SecretError {
    #[error("the secrets extension does not answer: is its layer there?")]
    Unreachable(#[source] BoxError),
    #[error("the secrets extension did not answer in time")]
    TimedOut,
    #[error("the secrets extension answered {0}: may the function read the secret?")]
    Refused(StatusCode),
    #[error("the secrets extension's answer has no such value")]
    Malformed,
}

/// A value, or where it is kept.
pub enum Secret {
    Value(SecretString),
    Kept(Reference),
}

impl Secret {
    /// Any text is a value, but an ARN: that must be one of a parameter or of a secret.
    pub fn parse(text: String) -> Option<Self> {
        if text.starts_with("arn:") { Reference::parse(&text).map(Self::Kept) } else { Some(Self::Value(text.into())) }
    }

    pub async fn reveal(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Kept(reference) => reference.fetch().await,
        }
    }
}

/// As ECS has it in `valueFrom`: a parameter's ARN, or a secret's with, if need be, `:json-key:version-stage:version-id`.
#[derive(Debug, PartialEq)]
pub struct Reference {
    path_and_query: String,
    found: Found,
}

/// Where in the extension's answer the value is.
#[derive(Debug, PartialEq)]
enum Found {
    Parameter,
    Secret,
    /// The secret is a JSON object, and the value a member of it.
    SecretMember(String),
}

impl Reference {
    fn parse(arn: &str) -> Option<Self> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let parts: Vec<_> = arn.split(':').collect();
        match *parts.as_slice() {
            ["arn", _, "ssm", _, _, parameter] => {
                let name = parameter.strip_prefix("parameter/").filter(|name| !name.is_empty())?;
                // The ARN of a name in a hierarchy leaves out the name's first slash.
                let slash = if name.contains('/') { "/" } else { "" };
                let name = encode(&format!("{slash}{name}"));
                let path_and_query = format!("/systemsmanager/parameters/get?withDecryption=true&name={name}");
                Some(Self { path_and_query, found: Found::Parameter })
            }
            ["arn", _, "secretsmanager", _, _, "secret", name, ref selectors @ ..]
                if !name.is_empty() && selectors.len() <= 3 =>
            {
                let selector = |index: usize| selectors.get(index).filter(|selector| !selector.is_empty());
                let mut path_and_query = format!("/secretsmanager/get?secretId={}", encode(&parts[..7].join(":")));
                for (index, parameter) in [(1, "versionStage"), (2, "versionId")] {
                    if let Some(value) = selector(index) {
                        path_and_query += &format!("&{parameter}={}", encode(value));
                    }
                }
                let found = selector(0).map_or(Found::Secret, |key| Found::SecretMember((*key).to_owned()));
                Some(Self { path_and_query, found })
            }
            _ => None,
        }
    }

    pub async fn fetch(&self) -> Result<SecretString, SecretError> {
        timeout(ONE_FETCH, self.ask_until_ready()).await.unwrap_or(Err(SecretError::TimedOut))
    }

    async fn ask_until_ready(&self) -> Result<SecretString, SecretError> {
        let port = env::var("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT").ok().and_then(|port| port.parse().ok());
        let endpoint = format!("http://localhost:{}", port.unwrap_or(PORT));
        // The runtime's own client: no other HTTP is linked into most functions.
        let client = PooledClient::builder()
            .with_endpoint(Uri::try_from(endpoint).map_err(|error| SecretError::Unreachable(error.into()))?)
            .build();
        let started = Stopwatch::start();
        loop {
            let answer = self.ask(&client).await.map_err(SecretError::Unreachable);
            let error = match answer {
                Ok((StatusCode::OK, body)) => return self.found.in_answer(&body).ok_or(SecretError::Malformed),
                Ok((status, body)) if is_not_ready(&body) => SecretError::Refused(status),
                Ok((status, _)) => return Err(SecretError::Refused(status)),
                Err(error) => error,
            };
            if started.elapsed() >= UNTIL_READY {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask(&self, client: &PooledClient) -> Result<(StatusCode, Vec<u8>), BoxError> {
        let request = build_request()
            .uri(&self.path_and_query)
            .header("x-aws-parameters-secrets-token", env::var("AWS_SESSION_TOKEN").unwrap_or_default())
            .body(Body::empty())?;
        let response = client.call(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes().into()))
    }
}

fn is_not_ready(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("not ready to serve traffic")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ParameterAnswer {
    parameter: ParameterValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ParameterValue {
    value: SecretString,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretAnswer {
    secret_string: SecretString,
}

impl Found {
    fn in_answer(&self, body: &[u8]) -> Option<SecretString> {
        let secret = || serde_json::from_slice(body).ok().map(|answer: SecretAnswer| answer.secret_string);
        match self {
            Self::Parameter => serde_json::from_slice(body).ok().map(|answer: ParameterAnswer| answer.parameter.value),
            Self::Secret => secret(),
            Self::SecretMember(key) => {
                let mut members: Value = serde_json::from_str(secret()?.expose_secret()).ok()?;
                match members.get_mut(key)?.take() {
                    Value::String(value) => Some(value.into()),
                    _ => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_says_where_a_value_is_kept() {
        let kept = |arn: &str| match Secret::parse(arn.to_owned()) {
            Some(Secret::Kept(reference)) => reference,
            _ => panic!("{arn} is a reference"),
        };
        let parameter = kept("arn:aws:ssm:sa-east-1:123456789012:parameter/beer-club/secret");
        assert_eq!(
            parameter.path_and_query,
            "/systemsmanager/parameters/get?withDecryption=true&name=%2Fbeer%2Dclub%2Fsecret"
        );
        assert!(kept("arn:aws:ssm:sa-east-1:123456789012:parameter/flat").path_and_query.ends_with("&name=flat"));

        let arn = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:beer-club";
        let secret = kept(arn);
        assert!(!secret.path_and_query.contains("version") && secret.found == Found::Secret);
        let member = kept(&format!("{arn}:password:AWSCURRENT:"));
        assert!(member.path_and_query.ends_with("&versionStage=AWSCURRENT"), "{}", member.path_and_query);
        assert_eq!(member.found, Found::SecretMember("password".to_owned()));
        assert!(kept(&format!("{arn}:::v1")).path_and_query.ends_with("&versionId=v1"));
    }

    #[test]
    fn other_texts_are_values_and_other_arns_are_nothing() {
        for value in ["", "hunter2", "https://example.com/arn:aws"] {
            assert!(matches!(Secret::parse(value.to_owned()), Some(Secret::Value(_))), "{value}");
        }
        for arn in ["arn:aws:s3:::bucket", "arn:aws:ssm:r:1:document/x", "arn:aws:secretsmanager:r:1:secret:n:a:b:c:d"]
        {
            assert!(Secret::parse(arn.to_owned()).is_none(), "{arn}");
        }
    }

    #[test]
    fn a_value_is_found_in_the_extensions_answer() {
        let found =
            |found: Found, body: &str| found.in_answer(body.as_bytes()).map(|value| value.expose_secret().to_owned());
        assert_eq!(found(Found::Parameter, r#"{"Parameter":{"Name":"n","Value":"v"}}"#).as_deref(), Some("v"));
        assert_eq!(found(Found::Secret, r#"{"SecretString":"{\"a\":1}"}"#).as_deref(), Some("{\"a\":1}"));
        let member = || Found::SecretMember("password".to_owned());
        assert_eq!(found(member(), r#"{"SecretString":"{\"password\":\"p\"}"}"#).as_deref(), Some("p"));
        assert_eq!(found(member(), r#"{"SecretString":"{\"user\":\"p\"}"}"#), None);
        assert_eq!(found(member(), r#"{"SecretString":"p"}"#), None);
        assert_eq!(found(Found::Secret, r#"{"SecretBinary":"p"}"#), None);
    }
}
