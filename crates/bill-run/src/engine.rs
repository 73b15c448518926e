//! A bill run. It keeps no state: it asks the API how the month stands, and goes on from there.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    num::NonZeroU32,
    pin::pin,
};

use anyhow::bail;
use futures_util::{Stream, StreamExt, TryStreamExt};
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{Client, MonthIsOver, NotAuthorized, is_sendable},
    month::{self, FIRST_PASS, LAST_PASS, Retry, SETTLING},
    rules::{Failures, Next, REPEATS, Reply},
    terminal,
};

/// Subscriptions that wait to be repeated while others are charged.
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
    /// There is a person to ask after so many failures.
    pub asks: bool,
    /// No subscription is begun after the first moment, and no request is sent after the second.
    pub until: Option<(Instant, Instant)>,
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
    Failed(anyhow::Error),
}

pub struct Run<'a> {
    pub client: &'a Client,
    pub options: Options,
    requests: Semaphore,
    rate: Option<Mutex<DefaultDirectRateLimiter>>,
    halt: watch::Sender<Option<Halt>>,
    /// Held while a person is asked whether to go on.
    question: Mutex<()>,
    so_far: RefCell<SoFar>,
}

#[derive(Default)]
struct SoFar {
    failures: Failures,
    charged: u64,
    /// The subscription that was begun last. All before it in the pass were begun or left.
    begun: Option<String>,
    /// The codes of the last answers for those that are not charged.
    codes: BTreeSet<String>,
}

/// A subscription to charge.
struct Planned {
    id: String,
    request_id: String,
    /// It has no attempt in the month yet.
    is_first: bool,
}

impl<'a> Run<'a> {
    pub fn new(client: &'a Client, options: Options) -> Self {
        // Evenly: a second's requests do not go out at once.
        let quota = |rate| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        Self {
            client,
            requests: Semaphore::new(options.concurrency),
            rate: options.rate.map(|rate| Mutex::new(DefaultDirectRateLimiter::direct(quota(rate)))),
            halt: watch::Sender::default(),
            question: Mutex::default(),
            so_far: RefCell::default(),
            options,
        }
    }

    /// Tells whom a run would charge now.
    pub async fn survey(&self, mut tell: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for pass in self.passes().filter(|pass| *pass <= FIRST_PASS) {
            let mut planned = pin!(self.planned(pass, None));
            while let Some(planned) = planned.try_next().await? {
                tell(&planned.id)?;
            }
        }
        Ok(())
    }

    /// Charges from this place on. If there was no time for the rest, the answer is from where to go on.
    pub async fn charge_from(&self, Place { pass: begin, mut after }: Place) -> Option<Place> {
        for pass in self.passes().filter(|pass| *pass >= begin) {
            let from = after.take();
            let before = self.charged();
            self.pass(pass, from.as_deref()).await;
            let begun = self.so_far.borrow_mut().begun.take();
            if self.is_halted() || self.options.until.is_some_and(|(begin, _)| begin <= Instant::now()) {
                return Some(Place { pass, after: begun.or(from) });
            }
            // A pass that began in another invocation may have charged somebody there.
            if pass >= FIRST_PASS && from.is_none() && self.charged() == before {
                break;
            }
        }
        None
    }

    fn passes(&self) -> impl Iterator<Item = u8> + use<> {
        SETTLING..=if self.options.is_current { LAST_PASS } else { SETTLING }
    }

    /// Whom this pass charges, after this subscription.
    fn planned<'b>(&'b self, pass: u8, after: Option<&'b str>) -> impl Stream<Item = anyhow::Result<Planned>> + 'b {
        let Options { month, retry, ids, .. } = &self.options;
        month::of_pass(self.client, month, pass, after).try_filter_map(move |subscription| async move {
            let is_wanted = after.is_none_or(|after| *subscription.id > *after)
                && ids.as_ref().is_none_or(|ids| ids.contains(&subscription.id));
            let request_id = subscription.request_id(month, pass, *retry).filter(|_| is_wanted);
            let is_first = subscription.attempts.is_empty();
            Ok(request_id.map(|request_id| Planned { id: subscription.id, request_id, is_first }))
        })
    }

    async fn pass(&self, pass: u8, after: Option<&str>) {
        let charge = async |planned: anyhow::Result<Planned>| {
            let charged = match planned {
                Ok(planned) => self.charge(planned).await,
                Err(error) => Err(error),
            };
            match charged {
                Ok(is_charged) => {
                    self.so_far.borrow_mut().charged += u64::from(is_charged);
                    // Those that were not begun before a halt are not counted.
                    if is_charged || !self.is_halted() {
                        terminal::count(is_charged, pass <= FIRST_PASS);
                    }
                }
                Err(error) => self.halt(Halt::Failed(error)),
            }
        };
        let planned = self.planned(pass, after).take_until(self.is_to_end(0));
        planned.map(charge).buffer_unordered(self.options.concurrency + WAITING).collect().await
    }

    /// Whether it is charged.
    async fn charge(&self, Planned { id, mut request_id, is_first }: Planned) -> anyhow::Result<bool> {
        let leave = |code: String| {
            self.so_far.borrow_mut().codes.insert(code);
            Ok(false)
        };
        if !is_sendable(&id) {
            return leave("id_not_sendable".to_owned());
        }
        let mut sent = 0;
        loop {
            let Some(turn) = self.turn(sent).await else { return Ok(false) };
            if sent == 0 {
                self.so_far.borrow_mut().begun = Some(id.clone());
            }
            let reply = self.client.charge(&id, &request_id, &self.options.month).await?;
            self.judge(&reply, is_first && sent == 0).await;
            drop(turn);
            sent += 1;
            match reply.next() {
                Next::Done => return Ok(true),
                Next::Repeat { after, request_id: named } if sent <= REPEATS => {
                    request_id = named.unwrap_or(request_id);
                    self.client.announce(after, &reply);
                    tokio::select! {
                        () = sleep(after) => {}
                        () = self.is_to_end(sent) => return Ok(false),
                    }
                }
                Next::Repeat { .. } | Next::Final => return leave(reply.code()),
                Next::MonthIsOver(current) => bail!(MonthIsOver { meant: self.options.month.clone(), current }),
                Next::NotAuthorized => bail!(NotAuthorized(format!("{} answers {reply}", self.client.api))),
            }
        }
    }

    /// Waits for the right to send one request; none, if no further one is to be sent. The first come first, so the
    /// subscriptions are begun in the order of the list.
    async fn turn(&self, sending: u32) -> Option<SemaphorePermit<'_>> {
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
            () = self.is_to_end(sending) => None,
            turn = turn => turn.ok(),
        }
    }

    /// Counts failures. After too many in a row a person is asked, if there is one.
    async fn judge(&self, reply: &Reply, is_first: bool) {
        let is_too_many = || self.so_far.borrow().failures.in_a_row >= self.options.max_failures;
        self.so_far.borrow_mut().failures.count(reply, is_first);
        if self.so_far.borrow().failures.is_unauthorized() {
            self.halt(Halt::EcommerceUnauthorized);
        }
        if !is_first || !is_too_many() {
            return;
        }
        let _question = self.question.lock().await;
        // Another subscription may have asked meanwhile.
        if !is_too_many() || self.is_halted() {
            return;
        }
        let count = self.options.max_failures;
        let question = format!("{count} failures in a row, the last: {reply}. Type yes to go on: ");
        let goes_on = self.options.asks
            && tokio::select! {
                goes_on = terminal::ask_during_run(question) => goes_on,
                () = self.halted() => false,
            };
        if goes_on {
            self.so_far.borrow_mut().failures = Failures::default();
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

    /// Waits until no further request is to be sent for a subscription that has had so many.
    async fn is_to_end(&self, sent: u32) {
        match self.options.until {
            Some((begin, send)) => tokio::select! {
                () = self.halted() => {}
                () = sleep_until(if sent == 0 { begin } else { send }) => {}
            },
            None => self.halted().await,
        }
    }

    /// Why it was halted, if it was.
    pub fn why_halted(&self) -> Option<Halt> {
        self.halt.send_replace(None)
    }

    pub fn charged(&self) -> u64 {
        self.so_far.borrow().charged
    }

    /// The codes of those that the ledger counts neither as charged, nor as rejected, nor as unknown.
    pub fn codes_of_left(&self) -> Vec<String> {
        let is_left = |code: &&String| !["order_rejected", "charge_outcome_unknown"].contains(&&***code);
        self.so_far.borrow().codes.iter().filter(is_left).cloned().collect()
    }
}
