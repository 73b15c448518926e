//! Signature Version 4 for the operators' routes, with the standard AWS credentials.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use reqwest::{
    Request, Url,
    header::{HeaderName, HeaderValue},
};
use tokio::sync::Mutex;

const GATEWAY: &str = "execute-api";
/// Credentials that end sooner than this are fetched again.
const LEAST_VALIDITY: Duration = Duration::from_secs(60);

pub struct Signer {
    provider: SharedCredentialsProvider,
    region: Region,
    /// The ones of the last request.
    credentials: Mutex<Option<Credentials>>,
}

/// The region of an API Gateway's own URL: `<api>.execute-api.<region>.amazonaws.com`.
fn region_of(api: &Url) -> Option<Region> {
    let mut labels = api.host_str()?.split('.').skip(1);
    let is_gateway = labels.next() == Some(GATEWAY);
    let region = labels.next()?;
    (is_gateway && labels.next() == Some("amazonaws")).then(|| Region::new(region.to_owned()))
}

impl Signer {
    /// Looks for credentials where the AWS CLI does: the environment, profiles, SSO, roles.
    pub async fn new(api: &Url) -> anyhow::Result<Self> {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        if let Some(region) = region_of(api) {
            loader = loader.region(region);
        }
        let config = loader.load().await;
        let region = config.region().cloned().context("the region is not known: set AWS_REGION")?;
        let provider = config.credentials_provider().context("there are no AWS credentials")?;
        let signer = Self { provider, region, credentials: Mutex::default() };
        signer.credentials().await?;
        Ok(signer)
    }

    pub async fn sign(&self, request: &mut Request) -> anyhow::Result<()> {
        let identity = self.credentials().await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region.as_ref())
            .name(GATEWAY)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        // With the host, and what the request has so far.
        let headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| Ok((name.as_str(), value.to_str()?)))
            .collect::<anyhow::Result<_>>()?;
        let body = SignableBody::Bytes(request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default());
        let signable =
            SignableRequest::new(request.method().as_str(), request.url().as_str(), headers.into_iter(), body)?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        for (name, value) in instructions.headers() {
            request.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(())
    }

    async fn credentials(&self) -> anyhow::Result<Credentials> {
        let mut credentials = self.credentials.lock().await;
        let soon = SystemTime::now() + LEAST_VALIDITY;
        let valid = credentials.take().filter(|held| held.expiry().is_none_or(|expiry| expiry > soon));
        let fresh = match valid {
            Some(held) => held,
            // The reason may quote a file of credentials, so only its kind is passed on.
            None => {
                self.provider.provide_credentials().await.map_err(|error| anyhow!("no AWS credentials: {error}"))?
            }
        };
        Ok(credentials.insert(fresh).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_gateway_s_own_url_names_its_region() {
        for (url, region) in [
            ("https://a1b2c3.execute-api.sa-east-1.amazonaws.com/prod", Some("sa-east-1")),
            ("https://a1b2c3.execute-api.cn-north-1.amazonaws.com.cn/prod", Some("cn-north-1")),
            ("https://execute-api.example.com/", None),
            ("https://a.execute-api.b.example.com/", None),
            ("http://127.0.0.1:9000/", None),
            ("https://billing.example.com/", None),
        ] {
            let found = region_of(&Url::parse(url).unwrap());
            assert_eq!(found.as_ref().map(AsRef::as_ref), region, "{url}");
        }
    }
}
