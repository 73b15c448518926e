//! A bill run. It keeps no state: it asks the API how the month stands, and goes on from there.

use std::{
    collections::{BTreeSet, HashSet},
    future::pending,
    num::NonZeroU32,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt};
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::{
    sync::{self, Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{Client, MonthIsOver, NotAuthorized, is_sendable},
    month::{self, FIRST_PASS, LAST_PASS, Retry, SETTLING},
    rules::{Failures, Next, REPEATS, Reply},
    terminal::{self, Progress},
};

/// Subscriptions under way at most, besides those whose request is: they wait to be repeated.
const WAITING: usize = 1000;

pub struct Options {
    pub month: String,
    /// It is the billing month now. Else what is unknown is settled, and nobody else is charged.
    pub is_current: bool,
    pub retry: Retry,
    /// Only these are charged.
    pub ids: Option<HashSet<String>>,
    /// Requests at the same time.
    pub concurrency: usize,
    /// Requests a second.
    pub rate: Option<NonZeroU32>,
    pub max_failures: u32,
    /// A person is asked after so many failures.
    pub asks: bool,
    pub time: Option<Time>,
}

/// Until when a run works.
pub struct Time {
    /// No further subscription is begun after this.
    pub begin: Instant,
    /// No further request is sent after this.
    pub send: Instant,
}

/// How far a run is: in this pass, after this subscription.
#[derive(Debug)]
pub struct Place {
    pub pass: u8,
    pub after: Option<String>,
}

/// Why no further request is sent.
#[derive(Debug)]
pub enum Halt {
    Interrupted,
    /// This was the last of them.
    TooManyFailures(String),
    EcommerceUnauthorized,
    MonthIsOver(MonthIsOver),
    Failed(anyhow::Error),
}

pub struct Run<'a> {
    client: &'a Client,
    options: &'a Options,
    pub progress: Progress,
    requests: Semaphore,
    rate: Option<sync::Mutex<DefaultDirectRateLimiter>>,
    halt: watch::Sender<Option<Halt>>,
    failures: Mutex<Failures>,
    /// Held while a person is asked whether to go on.
    question: sync::Mutex<()>,
    /// The last subscription that was begun. All before it in the pass were begun or left.
    begun: Mutex<Option<String>>,
    charged: Mutex<u64>,
    /// The codes of the last answers for those that are not charged.
    codes: Mutex<BTreeSet<String>>,
}

/// A subscription to charge.
struct Planned {
    id: String,
    request_id: String,
    /// It has no attempt in the month yet.
    is_first: bool,
}

impl Options {
    /// Whom this pass charges, after this subscription.
    fn planned<'a>(
        &'a self,
        client: &'a Client,
        pass: u8,
        after: Option<&'a str>,
    ) -> impl futures_util::Stream<Item = anyhow::Result<Planned>> + 'a {
        month::of_pass(client, &self.month, pass, after).try_filter_map(move |subscription| async move {
            let is_wanted = after.is_none_or(|after| *subscription.id > *after)
                && self.ids.as_ref().is_none_or(|ids| ids.contains(&subscription.id));
            let request_id = subscription.request_id(&self.month, pass, self.retry).filter(|_| is_wanted);
            let is_first = subscription.attempts.is_empty();
            Ok(request_id.map(|request_id| Planned { id: subscription.id, request_id, is_first }))
        })
    }

    fn passes(&self) -> std::ops::RangeInclusive<u8> {
        SETTLING..=if self.is_current { LAST_PASS } else { SETTLING }
    }

    /// Whom a run would charge now. Each is told to `tell`.
    pub async fn survey(
        &self,
        client: &Client,
        mut tell: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let mut count = 0;
        for pass in self.passes().filter(|pass| *pass <= FIRST_PASS) {
            let mut planned = pin!(self.planned(client, pass, None));
            while let Some(planned) = planned.try_next().await? {
                tell(&planned.id)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

impl<'a> Run<'a> {
    pub fn new(client: &'a Client, options: &'a Options, progress: Progress) -> Self {
        // Evenly: a second's requests do not go out at once.
        let quota = |rate| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        Self {
            client,
            options,
            progress,
            requests: Semaphore::new(options.concurrency),
            rate: options.rate.map(|rate| sync::Mutex::new(DefaultDirectRateLimiter::direct(quota(rate)))),
            halt: watch::Sender::default(),
            failures: Mutex::default(),
            question: sync::Mutex::default(),
            begun: Mutex::default(),
            charged: Mutex::default(),
            codes: Mutex::default(),
        }
    }

    /// Charges from this place on. If there was no time for the rest, that is from where to go on.
    pub async fn charge_from(&self, Place { pass: begin, mut after }: Place) -> Option<Place> {
        for pass in self.options.passes().filter(|pass| *pass >= begin) {
            let from = after.take();
            let before = self.charged();
            self.pass(pass, from.as_deref()).await;
            if self.is_halted() || self.options.time.as_ref().is_some_and(|time| time.begin <= Instant::now()) {
                return Some(Place { pass, after: locked(&self.begun).take().or(from) });
            }
            locked(&self.begun).take();
            // A pass that began in another invocation may have charged somebody there.
            if pass >= FIRST_PASS && from.is_none() && self.charged() == before {
                break;
            }
        }
        None
    }

    async fn pass(&self, pass: u8, after: Option<&str>) {
        let no_further = async {
            tokio::select! {
                () = self.halted() => {}
                () = until(self.options.time.as_ref().map(|time| time.begin)) => {}
            }
        };
        self.options
            .planned(self.client, pass, after)
            .take_until(no_further)
            .map(|planned| async {
                match planned {
                    Ok(planned) => {
                        if pass > FIRST_PASS {
                            self.progress.expect_one_more();
                        }
                        let is_charged = self.charge(&planned).await;
                        *locked(&self.charged) += u64::from(is_charged);
                        self.progress.count(is_charged);
                    }
                    Err(error) => self.halt(error.into()),
                }
            })
            .buffer_unordered(self.options.concurrency + WAITING)
            .collect()
            .await
    }

    /// Whether it is charged.
    async fn charge(&self, planned: &Planned) -> bool {
        if !is_sendable(&planned.id) {
            locked(&self.codes).insert("id_not_sendable".to_owned());
            return false;
        }
        let mut request_id = planned.request_id.clone();
        for sending in 0..=REPEATS {
            let time = self.options.time.as_ref().map(|time| if sending == 0 { time.begin } else { time.send });
            let Some(turn) = self.turn(time).await else { return false };
            if sending == 0 {
                locked(&self.begun).replace(planned.id.clone());
            }
            let reply = match self.client.charge(&planned.id, &request_id, &self.options.month).await {
                Ok(reply) => reply,
                Err(not_authorized) => {
                    self.halt(Halt::Failed(not_authorized.into()));
                    return false;
                }
            };
            let next = reply.next();
            self.judge(&reply, planned.is_first && sending == 0).await;
            drop(turn);
            match next {
                Next::Done => return true,
                Next::Repeat { after, request_id: named } if sending < REPEATS => {
                    request_id = named.unwrap_or(request_id);
                    terminal::announce(after, &reply);
                    tokio::select! {
                        () = sleep(after) => {}
                        () = self.halted() => return false,
                        () = until(self.options.time.as_ref().map(|time| time.send)) => return false,
                    }
                }
                Next::Repeat { .. } | Next::Final => {
                    locked(&self.codes).insert(reply.code());
                    return false;
                }
                Next::MonthIsOver => {
                    self.halt(Halt::MonthIsOver(MonthIsOver {
                        meant: self.options.month.clone(),
                        current: reply.month().unwrap_or_default().to_owned(),
                    }));
                    return false;
                }
                Next::NotAuthorized => {
                    self.halt(Halt::Failed(NotAuthorized(format!("{} answers {reply}", self.client.api)).into()));
                    return false;
                }
            }
        }
        false
    }

    /// Waits for the right to send one request; none, if no further one is to be sent. The first come first, so the
    /// subscriptions are begun in the order of the list.
    async fn turn(&self, time: Option<Instant>) -> Option<SemaphorePermit<'_>> {
        let turn = async {
            drop(self.question.lock().await);
            let turn = self.requests.acquire().await;
            if let Some(rate) = &self.rate {
                rate.lock().await.until_ready().await;
            }
            turn
        };
        tokio::select! {
            biased;
            () = self.halted() => None,
            () = until(time) => None,
            turn = turn => turn.ok(),
        }
    }

    /// Counts failures. After too many in a row a person is asked, if there is one.
    async fn judge(&self, reply: &Reply, is_first: bool) {
        let too_many = {
            let mut failures = locked(&self.failures);
            failures.count(reply, is_first);
            if failures.is_unauthorized() {
                self.halt(Halt::EcommerceUnauthorized);
            }
            failures.in_a_row >= self.options.max_failures
        };
        if !too_many || !is_first {
            return;
        }
        let _question = self.question.lock().await;
        // Another subscription may have asked meanwhile.
        if locked(&self.failures).in_a_row < self.options.max_failures || self.is_halted() {
            return;
        }
        let question =
            format!("{} failures in a row, the last: {reply}. Type yes to go on: ", self.options.max_failures);
        let goes_on = self.options.asks
            && tokio::select! {
                goes_on = self.progress.ask(question) => goes_on,
                () = self.halted() => false,
            };
        if goes_on {
            *locked(&self.failures) = Failures::default();
        } else {
            self.halt(Halt::TooManyFailures(reply.to_string()));
        }
    }

    /// The first reason stays.
    pub fn halt(&self, why: Halt) {
        self.halt.send_if_modified(|halt| {
            let is_first = halt.is_none();
            halt.get_or_insert(why);
            is_first
        });
    }

    fn is_halted(&self) -> bool {
        self.halt.borrow().is_some()
    }

    async fn halted(&self) {
        // An error says that there is no sender, and this is the sender.
        let _ = self.halt.subscribe().wait_for(Option::is_some).await;
    }

    /// Why it was halted, if it was.
    pub fn why_halted(&self) -> Option<Halt> {
        self.halt.send_replace(None)
    }

    /// How many were charged.
    pub fn charged(&self) -> u64 {
        *locked(&self.charged)
    }

    /// The codes of those that were left.
    pub fn codes(&self) -> Vec<String> {
        // The ledger counts these as something else.
        let is_left = |code: &&String| !["order_rejected", "charge_outcome_unknown"].contains(&&***code);
        locked(&self.codes).iter().filter(is_left).cloned().collect()
    }
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast() {
            Ok(over) => Self::MonthIsOver(over),
            Err(error) => Self::Failed(error),
        }
    }
}

/// What a task that panicked has left is as good as the rest.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
