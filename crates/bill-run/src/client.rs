//! The API over HTTP.

use std::{cell::Cell, iter, mem, time::Duration};

use anyhow::{Context, bail, ensure};
use indicatif::HumanDuration;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::{
    Method, Url,
    header::{HeaderMap, LINK, RETRY_AFTER},
    redirect,
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use crate::{
    month::{Attempt, LedgerCounts},
    rules::{self, Next, REPEATS, Reply},
    signing::Signer,
    terminal,
};

const CONNECT: Duration = Duration::from_secs(10);
/// API Gateway gives up after 29 seconds.
const ANSWER: Duration = Duration::from_secs(35);
/// A longer wait is announced.
const LONG: Duration = Duration::from_secs(60);
const PAGE: &str = "10000";
/// The characters that RFC 3986 never needs encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The API refuses the caller, or there are no credentials to call it with.
#[derive(Debug, Error)]
#[error("not authorized: {0}")]
pub struct NotAuthorized(pub String);

/// It is another month at the API.
#[derive(Debug, Error)]
#[error("the month {meant} is over: it is {current} at the API")]
pub struct MonthIsOver {
    pub meant: String,
    pub current: String,
}

pub struct Client {
    http: reqwest::Client,
    /// Without its credentials, so that it can be shown.
    pub api: Url,
    /// The user and the password of the URL, if it has them.
    credentials: Option<(String, Option<String>)>,
    /// Made when the API refuses a request that is not signed.
    signer: OnceCell<Signer>,
    /// Until when a long wait is announced.
    announced: Cell<Option<Instant>>,
}

/// An answer to a GET.
struct Page {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Client {
    pub fn new(mut api: Url) -> anyhow::Result<Self> {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (api.username() != "" || api.password().is_some())
            .then(|| (decode(api.username()), api.password().map(decode)));
        ensure!(
            matches!(api.scheme(), "http" | "https") && api.set_username("").is_ok() && api.set_password(None).is_ok(),
            "the API's URL begins with http:// or https://"
        );
        api.set_query(None);
        api.set_fragment(None);
        let http = reqwest::Client::builder()
            .user_agent(concat!("bill-run/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // The rules decide what is called again.
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()?;
        Ok(Self { http, api, credentials, signer: OnceCell::new(), announced: Cell::new(None) })
    }

    /// This month, or the current one, and whether it is the current one.
    pub async fn month(&self, month: Option<String>) -> anyhow::Result<(String, bool)> {
        let url = self.url(&["subscription", "eligible"], &[("due", "true"), ("limit", "1")]);
        let current = billing_month(&self.get(&url).await?).with_context(|| url.to_string())?;
        let month = month.unwrap_or_else(|| current.clone());
        ensure!(rules::is_month(&month), "{month} is not a month such as 2026-11");
        ensure!(month <= current, "the month {month} has not begun: it is {current} at the API");
        let is_current = month == current;
        Ok((month, is_current))
    }

    /// The subscriptions that are due, after this one. Their order is that of bytes.
    pub fn due(&self, month: &str, after: Option<&str>) -> Pages<'_, String> {
        let mut url = self.url(&["subscription", "eligible"], &[("due", "true"), ("limit", PAGE)]);
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let meant = month.to_owned();
        let read = move |page: &Page| {
            let current = billing_month(page)?;
            if current != meant {
                bail!(MonthIsOver { meant: meant.clone(), current });
            }
            parse(page)
        };
        Pages::new(self, url, read)
    }

    /// The attempts of a month that have one of these states, or all. They are ordered by their subscriptions' bytes.
    pub fn attempts(&self, month: &str, states: Option<&str>) -> Pages<'_, Attempt> {
        #[derive(serde::Deserialize)]
        struct Body {
            charges: Vec<Attempt>,
        }
        let mut url = self.url(&["charge"], &[("month", month), ("limit", PAGE)]);
        if let Some(states) = states {
            url.query_pairs_mut().append_pair("state", states);
        }
        Pages::new(self, url, |page| Ok(parse::<Body>(page)?.charges))
    }

    pub async fn counts(&self, month: &str) -> anyhow::Result<LedgerCounts> {
        #[derive(serde::Deserialize)]
        struct Body {
            counts: LedgerCounts,
        }
        let url = self.url(&["charge"], &[("month", month), ("limit", "1")]);
        let page = self.get(&url).await?;
        Ok(parse::<Body>(&page).with_context(|| url.to_string())?.counts)
    }

    /// Charges a subscription for this month, once. The rules judge the reply.
    pub async fn charge(&self, id: &str, request_id: &str, month: &str) -> Result<Reply, NotAuthorized> {
        let url = self.url(&["subscription", id, "charge", request_id], &[("month", month)]);
        Ok(match self.send(Method::POST, &url).await? {
            Ok((reply, _)) => reply,
            Err(lost) => Reply::Lost(lost),
        })
    }

    /// Reads a page. Reading is safe to repeat, and the rules of a charge say when.
    async fn get(&self, url: &Url) -> anyhow::Result<Page> {
        let mut repeats = 0;
        loop {
            let reply = match self.send(Method::GET, url).await? {
                Ok((reply, page)) if reply.next() == Next::Done => return Ok(page),
                Ok((reply, _)) => reply,
                Err(lost) => Reply::Lost(lost),
            };
            match reply.next() {
                Next::Repeat { after, .. } if repeats < REPEATS => {
                    if repeats == 0 {
                        terminal::say(format_args!("GET {url}: {reply}. It is repeated."));
                    }
                    repeats += 1;
                    self.announce(after, &reply);
                    sleep(after).await;
                }
                Next::NotAuthorized if self.signs_from_now_on().await? => {}
                Next::NotAuthorized => bail!(NotAuthorized(format!("GET {url}: {reply}"))),
                Next::Done | Next::Repeat { .. } | Next::Final | Next::MonthIsOver(_) => bail!("GET {url}: {reply}"),
            }
        }
    }

    /// True if a request was refused because it was not signed, and the later ones are.
    async fn signs_from_now_on(&self) -> Result<bool, NotAuthorized> {
        if self.credentials.is_some() || self.signer.initialized() {
            return Ok(false);
        }
        let signer = Signer::new(&self.api).await.map_err(|error| {
            NotAuthorized(format!("{} refuses requests that are not signed, and {error:#}", self.api))
        })?;
        Ok(self.signer.set(signer).is_ok())
    }

    /// Says that the run waits long, once for all that wait at the same time.
    pub fn announce(&self, wait: Duration, reply: &Reply) {
        let now = Instant::now();
        if wait > LONG && self.announced.get().is_none_or(|until| until < now) {
            self.announced.set(Some(now + wait));
            terminal::say(format_args!("{reply}: asked to wait for {}, and waits.", HumanDuration(wait)));
        }
    }

    /// The inner error is that no answer came, and why. The outer one is that the request cannot be signed.
    async fn send(&self, method: Method, url: &Url) -> Result<Result<(Reply, Page), String>, NotAuthorized> {
        let mut request = self.http.request(method, url.clone());
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, password.as_ref());
        }
        let mut request = match request.build() {
            Ok(request) => request,
            Err(error) => return Ok(Err(chain(&error))),
        };
        if let Some(signer) = self.signer.get() {
            signer.sign(&mut request).await.map_err(|error| NotAuthorized(format!("{error:#}")))?;
        }
        Ok(self.execute(request).await.map_err(|error| chain(&error.without_url())))
    }

    async fn execute(&self, request: reqwest::Request) -> reqwest::Result<(Reply, Page)> {
        let mut response = self.http.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), mem::take(response.headers_mut()));
        let body = Vec::from(response.bytes().await?);
        let problem = if status == 200 { None } else { serde_json::from_slice(&body).ok() };
        let retry_after = headers.get(RETRY_AFTER).map(|value| rules::retry_after(value.to_str().unwrap_or_default()));
        Ok((Reply::Answer { status, retry_after, problem: problem.unwrap_or_default() }, Page { headers, body }))
    }

    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.api.clone();
        let mut path = url.path().trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        url.set_path(&path);
        url.query_pairs_mut().extend_pairs(query);
        url
    }
}

type Read<'a, T> = dyn Fn(&Page) -> anyhow::Result<Vec<T>> + 'a;

/// A list that is read page by page.
pub struct Pages<'a, T> {
    client: &'a Client,
    next: Option<Url>,
    read: Box<Read<'a, T>>,
    page: std::vec::IntoIter<T>,
    head: Option<T>,
}

impl<'a, T> Pages<'a, T> {
    fn new(client: &'a Client, url: Url, read: impl Fn(&Page) -> anyhow::Result<Vec<T>> + 'a) -> Self {
        Self { client, next: Some(url), read: Box::new(read), page: Vec::new().into_iter(), head: None }
    }

    /// The next item, which stays there until it is taken.
    pub async fn peek(&mut self) -> anyhow::Result<Option<&T>> {
        while self.head.is_none() {
            self.head = self.page.next();
            if self.head.is_some() {
                break;
            }
            let Some(url) = self.next.take() else { break };
            let page = self.client.get(&url).await?;
            self.page = (self.read)(&page).with_context(|| url.to_string())?.into_iter();
            self.next = next_page(&url, &page.headers)?;
        }
        Ok(self.head.as_ref())
    }

    pub fn take(&mut self) -> Option<T> {
        self.head.take()
    }
}

fn parse<T: DeserializeOwned>(page: &Page) -> anyhow::Result<T> {
    serde_json::from_slice(&page.body).context("the answer is not that of the API")
}

fn billing_month(page: &Page) -> anyhow::Result<String> {
    let month = page.headers.get("billing-month").and_then(|month| month.to_str().ok());
    month.map(ToOwned::to_owned).context("the answer does not say the billing month, so it is not that of the API")
}

/// True if the id can stand in a URL's path. Clients and servers take the others for a part of the path's form.
pub fn is_sendable(id: &str) -> bool {
    !["", ".", ".."].contains(&id)
}

/// RFC 8288, as far as the API uses it: `<?limit=…&after=…>; rel="next"`.
fn next_page(url: &Url, headers: &HeaderMap) -> anyhow::Result<Option<Url>> {
    let Some(link) = headers.get(LINK) else { return Ok(None) };
    let target = link.to_str()?.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    let next = url.join(target.with_context(|| format!("GET {url}: the link cannot be read"))?)?;
    // Credentials go nowhere else.
    ensure!(next.origin() == url.origin() && next.path() == url.path(), "GET {url}: the link leads to {next}");
    Ok(Some(next))
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
