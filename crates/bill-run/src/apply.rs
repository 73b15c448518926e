//! Charges what is left of a plan.

use std::{
    collections::HashSet,
    io::{self, BufRead, IsTerminal},
    num::NonZeroU32,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use governor::{DefaultDirectRateLimiter, Quota};
use indicatif::HumanCount;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, Semaphore, watch},
    time::sleep,
};

use crate::{
    client::{Client, NotAuthorized, backoff, is_sendable},
    exit::Exit,
    journal::{Answered, History, Journal, Standing},
    plan::{Plan, Planned},
    progress::Progress,
    rules::{self, Answer, Next, Outcome, Reply, Stop},
    summary::Counts,
};

/// How often a charge of unknown outcome is repeated before it is left as unknown.
const FINDS: usize = 4;
/// Subscriptions under way for each simultaneous request: the others wait to be repeated.
const WAITING: usize = 20;

pub struct Options {
    /// Requests at the same time.
    pub concurrency: usize,
    /// Requests a second.
    pub rate: Option<NonZeroU32>,
    pub max_failures: u32,
    /// Nobody is asked.
    pub yes: bool,
}

/// Why no further request is sent.
#[derive(Clone, Debug)]
enum Halt {
    Interrupted,
    /// Failures in a row, of which this is the last.
    TooManyFailures(String),
    Rule(Stop),
}

struct Run<'a> {
    client: &'a Client,
    journal: &'a Journal,
    plan: &'a Plan,
    month_is_over: bool,
    requests: Semaphore,
    rate: Option<DefaultDirectRateLimiter>,
    halt: watch::Sender<Option<Halt>>,
    failures: AtomicU32,
    options: &'a Options,
    /// Held while a person is asked whether to go on.
    question: Mutex<()>,
    progress: Progress,
}

/// Charges what is left of the plan at `path`, then proves that nothing was left out.
pub async fn apply(path: &Path, options: &Options) -> anyhow::Result<Exit> {
    let plan = Plan::read(path)?;
    let client = Client::new(&plan.header.api.parse()?, plan.header.signed).await?;
    let (journal, history) = Journal::open(path, &plan)?;
    let current_month = client.month().await?;
    let month_is_over = current_month != plan.header.month;
    let before = Counts::of(&history.standings);
    let open: Vec<_> = plan
        .subscriptions
        .iter()
        .zip(history.standings)
        // What was sent in its month can still be settled after it.
        .filter(|(_, standing)| !standing.outcome.is_final() && (standing.attempts > 0 || !month_is_over))
        .collect();
    if month_is_over {
        eprintln!(
            "The month {} is over at {}: it is {current_month} there. Nobody new is charged; {} that were sent and have no \
             certain outcome are repeated.",
            plan.header.month,
            plan.header.api,
            open.len()
        );
    }
    if !open.is_empty() && !options.yes && !confirmed(&plan, &before, open.len())? {
        eprintln!("Nothing was sent.");
        return Ok(Exit::Interrupted);
    }

    let run = Run {
        client: &client,
        journal: &journal,
        plan: &plan,
        month_is_over,
        requests: Semaphore::new(options.concurrency),
        rate: options.rate.map(|rate| DefaultDirectRateLimiter::direct(quota(rate))),
        halt: watch::Sender::default(),
        failures: AtomicU32::new(0),
        options,
        question: Mutex::default(),
        progress: Progress::new(open.len()),
    };
    let result = tokio::select! {
        result = run.charge_all(open) => result,
        failed = run.listen_to_signals() => failed,
        never = run.progress.report() => match never {},
    };
    run.progress.finish();
    let halt = run.halt.borrow().clone();
    drop(run);
    journal.close()?;
    result?;
    conclude(path, &plan, &client, halt).await
}

fn quota(rate: NonZeroU32) -> Quota {
    // Evenly: a second's requests do not go out at once.
    Quota::per_second(rate).allow_burst(NonZeroU32::MIN)
}

fn confirmed(plan: &Plan, before: &Counts, open: usize) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(crate::cli::UsageError("there is no terminal to ask on: say --yes"));
    }
    eprintln!("Charge {} subscriptions for {} at {}?", HumanCount(open as u64), plan.header.month, plan.header.api);
    if before.done() > 0 {
        eprintln!("{} of the plan's {} are done before.", before.done(), before.planned());
    }
    ask("Type yes to go on: ")
}

fn ask(question: &str) -> anyhow::Result<bool> {
    eprint!("{question}");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

impl Run<'_> {
    async fn charge_all(&self, open: Vec<(&Planned, Standing)>) -> anyhow::Result<()> {
        stream::iter(open)
            .map(|(planned, standing)| async move {
                let outcome = self.charge(planned, standing.request_id).await?;
                self.progress.count(outcome);
                anyhow::Ok(())
            })
            .buffer_unordered(self.options.concurrency * WAITING)
            .try_collect()
            .await
    }

    /// Asks until there is an outcome. Without one, the subscription is left.
    async fn charge(&self, planned: &Planned, sent_before: Option<String>) -> anyhow::Result<Outcome> {
        let mut request_id = sent_before.unwrap_or_else(|| planned.request_id.clone());
        if !is_sendable(&planned.id) {
            let code = Some("id_not_sendable".to_owned());
            self.journal.record(Answered { code, ..Answered::new(&planned.id, &request_id, Outcome::Refused) })?;
            return Ok(Outcome::Refused);
        }
        let mut pauses = backoff();
        let mut finds = 0;
        loop {
            let Some(reply) = self.send(planned, &request_id).await? else { return Ok(Outcome::Left) };
            let mut next = rules::next(&reply);
            if let Next::Find { .. } = next {
                finds += 1;
                if finds > FINDS {
                    next = Next::Done(Outcome::Unknown);
                }
            }
            if let (Next::Stop(Stop::MonthIsOver { .. }), true) = (&next, self.month_is_over) {
                next = Next::Done(Outcome::Left);
            }
            if let Next::Find { request_id: Some(named) } = &next {
                request_id.clone_from(named);
            }
            self.journal.record(answered(planned, &request_id, &reply, &next))?;
            let after = match next {
                Next::Done(outcome) => {
                    match outcome {
                        Outcome::Unknown => self.count_failure(&reply).await?,
                        Outcome::Charged | Outcome::AlreadyCharged | Outcome::Refused | Outcome::Left => {
                            self.failures.store(0, Ordering::Relaxed);
                        }
                    }
                    return Ok(outcome);
                }
                Next::Stop(stop) => {
                    self.halt(Halt::Rule(stop));
                    return Ok(Outcome::Left);
                }
                Next::Wait { after } => {
                    self.failures.store(0, Ordering::Relaxed);
                    after
                }
                Next::Repeat { after } => {
                    self.count_failure(&reply).await?;
                    after
                }
                Next::Find { .. } => {
                    self.count_failure(&reply).await?;
                    None
                }
            };
            let pause = pauses.next().unwrap_or_default();
            tokio::select! {
                // With jitter: those that were told the same do not come back at the same moment.
                () = sleep(after.map_or(pause, |after| after + pause / 4)) => {}
                () = self.halted() => return Ok(Outcome::Left),
            }
        }
    }

    /// Sends one request; none, if no further one is to be sent.
    async fn send(&self, planned: &Planned, request_id: &str) -> anyhow::Result<Option<Reply>> {
        let turn = async {
            drop(self.question.lock().await);
            let turn = self.requests.acquire().await;
            if let Some(rate) = &self.rate {
                rate.until_ready().await;
            }
            turn
        };
        let _turn = tokio::select! {
            biased;
            () = self.halted() => return Ok(None),
            turn = turn => turn?,
        };
        self.journal.intend(&planned.id, request_id).await?;
        Ok(Some(self.client.charge(&planned.id, request_id, &self.plan.header.month).await))
    }

    /// After too many failures in a row a person is asked, if there is one.
    async fn count_failure(&self, reply: &Reply) -> anyhow::Result<()> {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < self.options.max_failures {
            return Ok(());
        }
        let _question = self.question.lock().await;
        // Somebody else may have asked meanwhile.
        if self.failures.load(Ordering::Relaxed) < self.options.max_failures || self.halt.borrow().is_some() {
            return Ok(());
        }
        let last = describe(reply);
        let goes_on = io::stdin().is_terminal() && {
            let question =
                format!("{} failures in a row, the last: {last}. Type yes to go on: ", self.options.max_failures);
            let progress = self.progress.clone();
            tokio::select! {
                answer = tokio::task::spawn_blocking(move || progress.suspend(|| ask(&question))) => answer??,
                () = self.halted() => false,
            }
        };
        if goes_on {
            self.failures.store(0, Ordering::Relaxed);
        } else {
            self.halt(Halt::TooManyFailures(last));
        }
        Ok(())
    }

    /// The first reason stays.
    fn halt(&self, why: Halt) {
        self.halt.send_if_modified(|halt| {
            let is_first = halt.is_none();
            halt.get_or_insert(why);
            is_first
        });
    }

    async fn halted(&self) {
        // An error says that there is no sender, and this is the sender.
        let _ = self.halt.subscribe().wait_for(Option::is_some).await;
    }

    /// The first signal drains, the second stops.
    async fn listen_to_signals(&self) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        signals.next().await;
        self.halt(Halt::Interrupted);
        self.progress.say("Waiting for the answers to what was sent. Once more stops at once.");
        signals.next().await;
        std::process::exit(Exit::Interrupted.code().into());
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What the journal says of one request.
fn answered(planned: &Planned, request_id: &str, reply: &Reply, next: &Next) -> Answered {
    let outcome = match next {
        Next::Done(outcome) => *outcome,
        Next::Wait { .. } | Next::Repeat { .. } | Next::Find { .. } | Next::Stop(_) => Outcome::Left,
    };
    let answered = Answered::new(&planned.id, request_id, outcome);
    match reply {
        Reply::Answer(Answer { status, body, .. }) => {
            let http_status = Some(*status);
            let (code, charged_at) = (body.code.clone(), body.charged_at.clone());
            // A charge that was there before may have another request_id.
            let request_id = match next {
                Next::Done(Outcome::Charged | Outcome::AlreadyCharged) => body.request_id.clone(),
                _ => None,
            };
            let request_id = request_id.unwrap_or(answered.request_id);
            Answered { request_id, http_status, code, charged_at, ..answered }
        }
        Reply::Lost(_) => Answered { code: Some("connection_lost".to_owned()), ..answered },
        Reply::NoCredentials(_) => Answered { code: Some("no_credentials".to_owned()), ..answered },
    }
}

fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Answer(answer) => answer.to_string(),
        Reply::Lost(why) | Reply::NoCredentials(why) => why.clone(),
    }
}

/// Says how the plan stands now, from what the journal has. Only a plan of which nothing is left is complete.
async fn conclude(path: &Path, plan: &Plan, client: &Client, halt: Option<Halt>) -> anyhow::Result<Exit> {
    let counts = Counts::of(&History::read(path, plan)?.standings);
    println!("{counts}");
    let go_on = format!("Go on with: bill-run apply {}", path.display());
    match halt {
        Some(Halt::Interrupted) => {
            eprintln!("Interrupted. {go_on}");
            return Ok(Exit::Interrupted);
        }
        Some(Halt::TooManyFailures(last)) => {
            eprintln!("Stopped after too many failures in a row, the last: {last}. {go_on}");
            return Ok(Exit::Interrupted);
        }
        Some(Halt::Rule(Stop::NotAuthorized(why))) => bail!(NotAuthorized(format!("{why}. {go_on}"))),
        Some(Halt::Rule(Stop::MonthIsOver { month })) => bail!(
            "the month {} is over: it is {month} there, and nothing of it was charged. What was sent and has no certain \
             outcome can still be settled. {go_on}",
            plan.header.month
        ),
        None if counts.left > 0 => {
            bail!("the month {} is over, and {} are not charged", plan.header.month, counts.left)
        }
        None => {}
    }
    let eligible = client
        .eligible(None, |_| {})
        .await
        .context("the plan is done, but who became eligible meanwhile is not known")?;
    let planned: HashSet<&str> = plan.subscriptions.iter().map(|planned| &*planned.id).collect();
    let others: Vec<_> = eligible.ids.iter().filter(|id| !planned.contains(id.as_str())).collect();
    if eligible.month != plan.header.month {
        eprintln!("The month {} is over. Who is eligible now is of {}.", plan.header.month, eligible.month);
    } else if plan.header.limited_to.is_some() {
        eprintln!("{} more are eligible. The plan was limited, so make another one for them.", others.len());
    } else {
        eprintln!(
            "{} became eligible after the plan was made{}",
            others.len(),
            if others.is_empty() { "." } else { ":" }
        );
        for id in others {
            println!("{id}");
        }
    }
    Ok(match counts {
        Counts { unknown: 1.., .. } => Exit::Unknown,
        Counts { refused: 1.., .. } => Exit::Refused,
        Counts { .. } => Exit::Complete,
    })
}
