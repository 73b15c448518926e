//! The API over HTTP.

use std::{iter, time::Duration};

use anyhow::{Context, bail, ensure};
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, Request, Response, Url,
    header::{HeaderMap, LINK, RETRY_AFTER},
    redirect,
};
use thiserror::Error;

use crate::{
    rules::{Answer, Reply},
    signing::Signer,
};

const CONNECT: Duration = Duration::from_secs(10);
/// API Gateway gives up after 29 seconds.
const ANSWER: Duration = Duration::from_secs(35);
/// Ids of a page, unless fewer are wanted.
const PAGE: usize = 10_000;
const REPEATED_READS: usize = 4;
/// What RFC 3986 never needs encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The API refuses the caller, or there are no credentials to call it with.
#[derive(Debug, Error)]
#[error("not authorized: {0}")]
pub struct NotAuthorized(pub String);

/// Asking again may help.
#[derive(Debug, Error)]
#[error("{0}")]
struct Transient(String);

pub struct Client {
    http: reqwest::Client,
    api: Url,
    signer: Option<Signer>,
}

/// The list of eligible subscriptions, and the month in which it was read.
pub struct Eligible {
    pub ids: Vec<String>,
    pub month: String,
    /// Not all of them: more remain.
    pub is_cut: bool,
}

/// Longer each time, and never all at once.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
}

/// How long to wait before each further try.
pub fn backoff() -> impl Iterator<Item = Duration> {
    patience().without_max_times().build()
}

impl Client {
    pub async fn new(api: &Url, signed: bool) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("bill-run/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // What is asked again is decided by the rules, which know of request_ids.
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()?;
        let signer = if signed {
            let signer = Signer::of_gateway(api).await.map_err(|error| NotAuthorized(format!("{error:#}")))?;
            Some(signer)
        } else {
            None
        };
        Ok(Self { http, api: api.clone(), signer })
    }

    /// The current billing month.
    pub async fn month(&self) -> anyhow::Result<String> {
        Ok(self.page(self.eligible_url(1)).await?.0.month)
    }

    /// Reads the list, page by page, up to `limit` ids. Each page's total is told to `progress`.
    pub async fn eligible(&self, limit: Option<usize>, progress: impl Fn(usize)) -> anyhow::Result<Eligible> {
        let page_size = limit.map_or(PAGE, |limit| limit.min(PAGE));
        let (mut list, mut next) = self.page(self.eligible_url(page_size)).await?;
        while let Some(url) = next.filter(|_| limit.is_none_or(|limit| list.ids.len() < limit)) {
            progress(list.ids.len());
            let (page, following) = self.page(url).await?;
            ensure!(page.month == list.month, "the month {} ended while the list was read: plan again", list.month);
            list.ids.extend(page.ids);
            next = following;
            list.is_cut = next.is_some();
        }
        if let Some(limit) = limit
            && limit < list.ids.len()
        {
            list.ids.truncate(limit);
            list.is_cut = true;
        }
        progress(list.ids.len());
        Ok(list)
    }

    fn eligible_url(&self, limit: usize) -> Url {
        let mut url = self.url(["subscription", "eligible"]);
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        url
    }

    /// A page, and where the next one is. Reading is safe to repeat.
    async fn page(&self, url: Url) -> anyhow::Result<(Eligible, Option<Url>)> {
        (|| self.try_page(&url))
            .retry(patience().with_max_times(REPEATED_READS))
            .when(|error| error.is::<Transient>())
            .await
            .context("the list of eligible subscriptions cannot be read")
    }

    async fn try_page(&self, url: &Url) -> anyhow::Result<(Eligible, Option<Url>)> {
        let lost = |error: reqwest::Error| Transient(chain(&error.without_url()));
        let response = self.send(Method::GET, url.clone()).await?.map_err(lost)?;
        match response.status().as_u16() {
            200 => {}
            status @ (401 | 403) => bail!(NotAuthorized(format!("the API answers {status}"))),
            status @ (429 | 500..) => bail!(Transient(format!("the API answers {status}"))),
            status => bail!("the API answers {status} to GET {}", url.path()),
        }
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(lost)?;
        let month =
            headers.get("billing-month").context("the API does not say its billing month")?.to_str()?.to_owned();
        let next = next_page(url, &headers)?;
        let ids = serde_json::from_slice(&body).context("the API's list is not a list of ids")?;
        Ok((Eligible { ids, month, is_cut: next.is_some() }, next))
    }

    /// Charges a subscription for this month, once. What comes back is for the rules to judge.
    pub async fn charge(&self, id: &str, request_id: &str, month: &str) -> Reply {
        let mut url = self.url(["subscription", id, "charge", request_id]);
        url.query_pairs_mut().append_pair("month", month);
        let response = match self.send(Method::POST, url).await {
            Ok(Ok(response)) => response,
            Ok(Err(lost)) => return Reply::Lost(chain(&lost)),
            Err(error) => return Reply::NoCredentials(error.to_string()),
        };
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        match response.bytes().await {
            Ok(body) => {
                Reply::Answer(Answer { status, retry_after, body: serde_json::from_slice(&body).unwrap_or_default() })
            }
            Err(lost) => Reply::Lost(chain(&lost.without_url())),
        }
    }

    /// The outer error says that it could not be signed.
    async fn send(&self, method: Method, url: Url) -> anyhow::Result<reqwest::Result<Response>> {
        let mut request = Request::new(method, url);
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await.map_err(|error| NotAuthorized(format!("{error:#}")))?;
        }
        Ok(self.http.execute(request).await.map_err(reqwest::Error::without_url))
    }

    fn url<const N: usize>(&self, segments: [&str; N]) -> Url {
        let mut url = self.api.clone();
        let mut path = url.path().trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        url.set_path(&path);
        url
    }
}

/// Whether the id can stand in a URL's path. Clients and servers take the others for a part of the path's form.
pub fn is_sendable(id: &str) -> bool {
    !["", ".", ".."].contains(&id)
}

/// RFC 8288, as far as the API uses it: `<?limit=…&after=…>; rel="next"`.
fn next_page(url: &Url, headers: &HeaderMap) -> anyhow::Result<Option<Url>> {
    let Some(link) = headers.get(LINK) else { return Ok(None) };
    let target = link.to_str()?.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    let next = url.join(target.context("the API's link cannot be read")?)?;
    // Credentials go nowhere else.
    ensure!(next.origin() == url.origin() && next.path() == url.path(), "the API's link leads elsewhere");
    Ok(Some(next))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
