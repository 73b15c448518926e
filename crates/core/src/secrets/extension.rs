//! The client of the AWS Parameters and Secrets extension.
//!
//! The extension is a process that Lambda runs next to the function. It caches a value for five minutes, so a rotated
//! secret is found without a restart.
//! <https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html>
//!
//! | environment | meaning | default |
//! | --- | --- | --- |
//! | `PARAMETERS_SECRETS_EXTENSION_HTTP_PORT` | where the extension listens | 2773 |
//! | `AWS_SESSION_TOKEN` | what it expects of its callers; Lambda sets it | |

use std::{env, time::Duration};

use http_body_util::BodyExt;
use lambda_http::http::{StatusCode, Uri};
use lambda_runtime_api_client::{BoxError, PooledClient, body::Body, build_request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use serde_json::Value;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::Reference;
use crate::clock::Stopwatch;

const DEFAULT_PORT: u16 = 2773;
const ONE_FETCH: Duration = Duration::from_secs(3);
/// The extension answers nobody before the environment's first invocation begins.
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

impl Reference {
    pub async fn fetch(&self) -> Result<SecretString, SecretError> {
        timeout(ONE_FETCH, self.ask_until_ready()).await.unwrap_or(Err(SecretError::TimedOut))
    }

    async fn ask_until_ready(&self) -> Result<SecretString, SecretError> {
        let port = env::var("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT").ok().and_then(|port| port.parse().ok());
        let endpoint = format!("http://localhost:{}", port.unwrap_or(DEFAULT_PORT));
        // The runtime's own client: most functions link no other HTTP client.
        let client = PooledClient::builder()
            .with_endpoint(Uri::try_from(endpoint).map_err(|error| SecretError::Unreachable(error.into()))?)
            .build();
        let started = Stopwatch::start();
        loop {
            let answer = self.ask(&client).await.map_err(SecretError::Unreachable);
            let error = match answer {
                Ok((StatusCode::OK, body)) => return self.value_in(&body).ok_or(SecretError::Malformed),
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
            .uri(self.path_and_query())
            .header("x-aws-parameters-secrets-token", env::var("AWS_SESSION_TOKEN").unwrap_or_default())
            .body(Body::empty())?;
        let response = client.call(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes().into()))
    }

    fn path_and_query(&self) -> String {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        match self {
            Self::Parameter { name } => {
                format!("/systemsmanager/parameters/get?withDecryption=true&name={}", encode(name))
            }
            Self::Secret { arn, version_stage, version_id, .. } => {
                let mut path_and_query = format!("/secretsmanager/get?secretId={}", encode(arn));
                for (name, value) in [("versionStage", version_stage), ("versionId", version_id)] {
                    if let Some(value) = value {
                        path_and_query += &format!("&{name}={}", encode(value));
                    }
                }
                path_and_query
            }
        }
    }

    fn value_in(&self, answer: &[u8]) -> Option<SecretString> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let value = match self {
            Self::Parameter { .. } => answer["Parameter"]["Value"].as_str()?.to_owned(),
            Self::Secret { member: None, .. } => answer["SecretString"].as_str()?.to_owned(),
            Self::Secret { member: Some(member), .. } => {
                let members: Value = serde_json::from_str(answer["SecretString"].as_str()?).ok()?;
                members.get(member)?.as_str()?.to_owned()
            }
        };
        Some(value.into())
    }
}

fn is_not_ready(answer: &[u8]) -> bool {
    String::from_utf8_lossy(answer).contains("not ready to serve traffic")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const PARAMETER: &str = "arn:aws:ssm:sa-east-1:123456789012:parameter/beer-club/secret";
    const SECRET: &str = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:beer-club";

    fn reference(arn: &str) -> Reference {
        Reference::parse(arn).expect("a reference")
    }

    #[test]
    fn an_arn_says_what_to_ask_the_extension() {
        let asked = |arn: &str| reference(arn).path_and_query();
        assert_eq!(asked(PARAMETER), "/systemsmanager/parameters/get?withDecryption=true&name=%2Fbeer%2Dclub%2Fsecret");
        assert!(asked("arn:aws:ssm:sa-east-1:123456789012:parameter/flat").ends_with("&name=flat"));
        assert!(!asked(SECRET).contains("version"));
        let member = asked(&format!("{SECRET}:password:AWSCURRENT:"));
        assert!(member.ends_with("&versionStage=AWSCURRENT"), "{member}");
        assert!(asked(&format!("{SECRET}:::v1")).ends_with("&versionId=v1"));
    }

    #[test]
    fn a_value_is_found_in_the_extensions_answer() {
        let found = |arn: &str, answer: &str| {
            reference(arn).value_in(answer.as_bytes()).map(|value| value.expose_secret().to_owned())
        };
        assert_eq!(found(PARAMETER, r#"{"Parameter":{"Name":"n","Value":"v"}}"#).as_deref(), Some("v"));
        assert_eq!(found(SECRET, r#"{"SecretString":"{\"a\":1}"}"#).as_deref(), Some("{\"a\":1}"));
        assert_eq!(found(SECRET, r#"{"SecretBinary":"p"}"#), None);
        let member = &format!("{SECRET}:password:AWSCURRENT:");
        assert_eq!(found(member, r#"{"SecretString":"{\"password\":\"p\"}"}"#).as_deref(), Some("p"));
        assert_eq!(found(member, r#"{"SecretString":"{\"user\":\"p\"}"}"#), None);
        assert_eq!(found(member, r#"{"SecretString":"p"}"#), None);
    }
}
