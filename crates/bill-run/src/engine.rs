//! A bill run. It keeps no state: it asks the API how the month stands, and goes on from there.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    num::NonZeroU32,
    pin::pin,
};

use anyhow::bail;
use clap::{Args, value_parser};
use futures_util::{Stream, StreamExt, TryStreamExt};
use governor::{DefaultDirectRateLimiter, Quota};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{Client, MonthIsOver, NotAuthorized, is_sendable},
    month::{self, FIRST_PASS, LAST_PASS, SETTLING},
    rules::{Failures, Next, REPEATS, Reply},
    terminal,
};

const CONCURRENCY: u16 = 20;
const MAX_FAILURES: NonZeroU32 = NonZeroU32::new(100).expect("not 0");
/// Subscriptions that wait to be repeated while others are charged.
const WAITING: usize = 1000;

/// Options of the command, and members of the function's event.
#[derive(Args, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Charge also those that the platform rejected
    #[arg(long)]
    pub retry_rejected: bool,
    /// Under another request_id, for a platform that remembers its refusals
    #[arg(long, requires = "retry_rejected")]
    pub new_number: bool,
    /// Requests at the same time
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY, value_parser = value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,
    /// The most requests a second
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU32>,
    /// Failures in a row after which it asks whether to go on; without a terminal it stops
    #[arg(long, value_name = "N", default_value_t = MAX_FAILURES)]
    pub max_failures: NonZeroU32,
}

impl Default for Options {
    fn default() -> Self {
        let (concurrency, max_failures) = (CONCURRENCY, MAX_FAILURES);
        Self { retry_rejected: false, new_number: false, concurrency, rate: None, max_failures }
    }
}

/// A run's place: in this pass, after this subscription.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
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
    pub month: String,
    /// It is the billing month now. Else what is unknown is settled, and nobody else is charged.
    pub is_current: bool,
    options: Options,
    /// Only these are charged.
    pub ids: Option<HashSet<String>>,
    /// There is a person to ask after too many failures.
    pub asks: bool,
    /// No subscription is begun after the first moment, and no request is sent after the second.
    pub until: Option<(Instant, Instant)>,
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
    pub async fn new(client: &'a Client, month: Option<String>, options: Options) -> anyhow::Result<Self> {
        let (month, is_current) = client.month(month).await?;
        // Evenly: a second's requests do not go out at once.
        let quota = |rate| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        Ok(Self {
            client,
            month,
            is_current,
            ids: None,
            asks: false,
            until: None,
            requests: Semaphore::new(options.concurrency.into()),
            rate: options.rate.map(|rate| Mutex::new(DefaultDirectRateLimiter::direct(quota(rate)))),
            halt: watch::Sender::default(),
            question: Mutex::default(),
            so_far: RefCell::default(),
            options,
        })
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
            if self.is_halted() || self.until.is_some_and(|(begin, _)| begin <= Instant::now()) {
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
        SETTLING..=if self.is_current { LAST_PASS } else { SETTLING }
    }

    /// Whom this pass charges, after this subscription.
    fn planned<'b>(&'b self, pass: u8, after: Option<&'b str>) -> impl Stream<Item = anyhow::Result<Planned>> + 'b {
        month::of_pass(self.client, &self.month, pass, after).try_filter_map(move |subscription| async move {
            let is_wanted = after.is_none_or(|after| *subscription.id > *after)
                && self.ids.as_ref().is_none_or(|ids| ids.contains(&subscription.id));
            let request_id = subscription.request_id(&self.month, pass, &self.options).filter(|_| is_wanted);
            let is_first = subscription.attempts.is_empty();
            Ok(request_id.map(|request_id| Planned { id: subscription.id, request_id, is_first }))
        })
    }

    async fn pass(&self, pass: u8, after: Option<&str>) {
        // One begins after the other, in the order of the list, so that a later invocation can go on after the last one.
        let begin = async |planned: anyhow::Result<Planned>| {
            let planned = planned?;
            let turn = if is_sendable(&planned.id) { self.turn(0).await } else { None };
            if turn.is_some() {
                self.so_far.borrow_mut().begun = Some(planned.id.clone());
            }
            Ok((planned, turn))
        };
        let charge = async |begun: anyhow::Result<(Planned, Option<SemaphorePermit<'_>>)>| {
            let charged = match begun {
                Ok((planned, turn)) => self.charge(planned, turn).await,
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
        planned
            .then(begin)
            .map(charge)
            .buffer_unordered(usize::from(self.options.concurrency) + WAITING)
            .collect()
            .await
    }

    /// Charges a subscription whose first turn has come, if there is one. Returns true if it is charged.
    async fn charge(
        &self,
        Planned { id, mut request_id, is_first }: Planned,
        mut turn: Option<SemaphorePermit<'_>>,
    ) -> anyhow::Result<bool> {
        let leave = |code: String| {
            self.so_far.borrow_mut().codes.insert(code);
            Ok(false)
        };
        if !is_sendable(&id) {
            return leave("id_not_sendable".to_owned());
        }
        let mut sent = 0;
        loop {
            if sent > 0 {
                turn = self.turn(sent).await;
            }
            let Some(turn) = turn.take() else { return Ok(false) };
            let reply = self.client.charge(&id, &request_id, &self.month).await?;
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
                Next::MonthIsOver(current) => bail!(MonthIsOver { meant: self.month.clone(), current }),
                Next::NotAuthorized => bail!(NotAuthorized(format!("{} answers {reply}", self.client.api))),
            }
        }
    }

    /// Waits for the right to send one request; none, if no further one is to be sent.
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
        let is_too_many = || self.so_far.borrow().failures.in_a_row >= self.options.max_failures.get();
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
        let goes_on = self.asks
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
        // It fails only without a sender, and this is the sender.
        let _ = self.halt.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until a subscription for which `sent` requests were sent gets no further one.
    async fn is_to_end(&self, sent: u32) {
        match self.until {
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
