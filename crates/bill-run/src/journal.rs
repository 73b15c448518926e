//! The journal: what was sent and what came back, as JSON lines in a file next to the plan.
//!
//! An intent is on the disk before its request is sent, so nothing that was sent is forgotten. An outcome that is lost
//! with the machine only means that the same request_id is sent once more.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{plan::Plan, rules::Outcome};

const VERSION: u32 = 1;

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Header(Header),
    Intent(Intent),
    Outcome(Answered),
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    /// The version of the format.
    journal: u32,
    /// The plan's digest.
    plan: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Intent {
    at: DateTime<Utc>,
    id: String,
    request_id: String,
}

/// What one request has led to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answered {
    pub at: DateTime<Utc>,
    pub id: String,
    /// Of the charge, or the one to repeat.
    pub request_id: String,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_at: Option<String>,
}

impl Answered {
    pub fn new(id: &str, request_id: &str, outcome: Outcome) -> Self {
        Self {
            at: Utc::now(),
            id: id.to_owned(),
            request_id: request_id.to_owned(),
            outcome,
            code: None,
            http_status: None,
            charged_at: None,
        }
    }
}

/// How a subscription of the plan stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub outcome: Outcome,
    /// The last one that was sent or named; the plan's, if there is none.
    pub request_id: Option<String>,
    pub code: Option<String>,
    pub http_status: Option<u16>,
    pub charged_at: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
}

/// Everything that a journal says.
#[derive(Debug)]
pub struct History {
    /// In the order of the plan.
    pub standings: Vec<Standing>,
    /// When its first and its last entry were made.
    pub time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The bytes that are whole entries. What follows is a torn one.
    whole: u64,
}

impl History {
    /// Reads the plan's journal, as far as it is written. Without one, nothing was sent.
    pub fn read(plan_path: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let path = path(plan_path);
        match File::open(&path) {
            Ok(file) => Self::parse(BufReader::new(file), plan),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::parse(io::empty(), plan),
            Err(error) => Err(error.into()),
        }
        .with_context(|| format!("{} cannot be read", path.display()))
    }

    fn parse(mut journal: impl BufRead, plan: &Plan) -> anyhow::Result<Self> {
        let places: HashMap<&str, usize> = plan.subscriptions.iter().map(|planned| &*planned.id).zip(0..).collect();
        let standings = vec![Standing::default(); plan.subscriptions.len()];
        let mut history = Self { standings, time: None, whole: 0 };
        let mut line = Vec::new();
        while journal.read_until(b'\n', &mut line)? > 0 {
            let entry = if line.ends_with(b"\n") { serde_json::from_slice(&line).ok() } else { None };
            let Some(entry) = entry else {
                // A process or a machine that died has left a part of its last entry.
                ensure!(journal.fill_buf()?.is_empty(), "the entry after byte {} is damaged", history.whole);
                break;
            };
            ensure!(history.whole > 0 || matches!(entry, Entry::Header(_)), "its first entry is not a header");
            history.take(entry, plan, &places)?;
            history.whole += line.len() as u64;
            line.clear();
        }
        Ok(history)
    }

    fn take(&mut self, entry: Entry, plan: &Plan, places: &HashMap<&str, usize>) -> anyhow::Result<()> {
        let place = |id: &str| places.get(id).copied().with_context(|| format!("{id} is not in the plan"));
        let at = match entry {
            Entry::Header(Header { journal, plan: digest }) => {
                ensure!(journal == VERSION, "it is of version {journal} of the format, and this is {VERSION}");
                ensure!(digest == plan.digest, "it belongs to another plan");
                return Ok(());
            }
            Entry::Intent(Intent { at, id, request_id }) => {
                let standing = &mut self.standings[place(&id)?];
                standing.attempts += 1;
                standing.request_id = Some(request_id);
                at
            }
            Entry::Outcome(Answered { at, id, request_id, outcome, code, http_status, charged_at }) => {
                let standing = &mut self.standings[place(&id)?];
                let (request_id, attempts) = (Some(request_id), standing.attempts);
                *standing = Standing { outcome, request_id, code, http_status, charged_at, attempts };
                at
            }
        };
        self.time = Some((self.time.map_or(at, |(first, _)| first), at));
        Ok(())
    }
}

fn path(plan_path: &Path) -> PathBuf {
    let mut path = plan_path.as_os_str().to_owned();
    path.push(".journal");
    path.into()
}

struct Line {
    json: Vec<u8>,
    /// Told when the line is on the disk.
    synced: Option<oneshot::Sender<()>>,
}

/// A journal that this process alone writes.
pub struct Journal {
    lines: mpsc::Sender<Line>,
    writer: JoinHandle<io::Result<()>>,
}

impl Journal {
    /// Opens the plan's journal, or begins it, and keeps others from it.
    pub fn open(plan_path: &Path, plan: &Plan) -> anyhow::Result<(Self, History)> {
        let path = path(plan_path);
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another apply of this plan is running: {} is locked", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let history = History::parse(BufReader::new(&file), plan)
            .with_context(|| format!("{} cannot be continued", path.display()))?;
        file.set_len(history.whole)?;
        file.seek(SeekFrom::End(0))?;
        if history.whole == 0 {
            let header = Entry::Header(Header { journal: VERSION, plan: plan.digest.clone() });
            file.write_all(&json(&header)?)?;
            file.sync_all()?;
        }
        let (lines, received) = mpsc::channel();
        let writer = std::thread::spawn(move || write(file, &received));
        Ok((Self { lines, writer }, history))
    }

    /// Says that this is about to be sent. It is on the disk when this returns.
    pub async fn intend(&self, id: &str, request_id: &str) -> anyhow::Result<()> {
        let (synced, wait) = oneshot::channel();
        let intent = Intent { at: Utc::now(), id: id.to_owned(), request_id: request_id.to_owned() };
        self.send(&Entry::Intent(intent), Some(synced))?;
        wait.await.context("the journal cannot be written")
    }

    pub fn record(&self, answered: Answered) -> anyhow::Result<()> {
        self.send(&Entry::Outcome(answered), None)
    }

    fn send(&self, entry: &Entry, synced: Option<oneshot::Sender<()>>) -> anyhow::Result<()> {
        let line = Line { json: json(entry)?, synced };
        self.lines.send(line).ok().context("the journal cannot be written")
    }

    /// Returns when everything is on the disk.
    pub fn close(self) -> anyhow::Result<()> {
        drop(self.lines);
        let written = self.writer.join().unwrap_or_else(|_| Err(io::Error::other("its writer panicked")));
        written.context("the journal cannot be written")
    }
}

fn json(entry: &Entry) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes what has come meanwhile, and syncs it at once: many requests share one sync.
fn write(mut file: File, lines: &mpsc::Receiver<Line>) -> io::Result<()> {
    let mut waiting = Vec::new();
    while let Ok(first) = lines.recv() {
        let mut bytes = Vec::new();
        for Line { json, synced } in std::iter::once(first).chain(lines.try_iter()) {
            bytes.extend(json);
            waiting.extend(synced);
        }
        file.write_all(&bytes)?;
        if !waiting.is_empty() {
            file.sync_data()?;
        }
        for waiter in waiting.drain(..) {
            // One that is not there any more does not send.
            let _ = waiter.send(());
        }
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::plan;

    fn planned(ids: &[&str]) -> (TempDir, PathBuf, Plan) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        let header = plan::Header::new(
            "https://example.com".to_owned(),
            false,
            "2026-11".to_owned(),
            "2026-11-24T21:38:53Z".to_owned(),
            None,
        );
        plan::write(&path, &header, &ids.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let plan = Plan::read(&path).unwrap();
        (folder, path, plan)
    }

    fn charged(id: &str) -> Answered {
        Answered {
            http_status: Some(200),
            charged_at: Some("2026-11-24T21:38:53Z".to_owned()),
            ..Answered::new(id, &format!("2026-11.{id}"), Outcome::Charged)
        }
    }

    fn outcomes(history: &History) -> Vec<(Outcome, u32)> {
        history.standings.iter().map(|standing| (standing.outcome, standing.attempts)).collect()
    }

    #[tokio::test]
    async fn a_journal_goes_on_after_a_torn_entry_wherever_it_is_torn() {
        let (_folder, plan_path, plan) = planned(&["a", "b"]);
        let (journal, history) = Journal::open(&plan_path, &plan).unwrap();
        assert_eq!(outcomes(&history), [(Outcome::Left, 0), (Outcome::Left, 0)]);
        journal.intend("a", "2026-11.a").await.unwrap();
        journal.record(charged("a")).unwrap();
        journal.intend("b", "2026-11.b").await.unwrap();
        journal.record(charged("b")).unwrap();
        journal.close().unwrap();

        let path = path(&plan_path);
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let expected = [(Outcome::Charged, 1), (Outcome::Left, 1)];
            assert_eq!(outcomes(&History::read(&plan_path, &plan).unwrap()), expected, "cut after {end} bytes");
            let (journal, history) = Journal::open(&plan_path, &plan).unwrap();
            assert_eq!(outcomes(&history), expected, "cut after {end} bytes");
            journal.record(charged("b")).unwrap();
            journal.close().unwrap();
            let healed = History::read(&plan_path, &plan).unwrap();
            assert_eq!(outcomes(&healed), [(Outcome::Charged, 1), (Outcome::Charged, 1)]);
        }
    }

    #[tokio::test]
    async fn a_journal_has_one_writer_and_one_plan() {
        let (_folder, plan_path, plan) = planned(&["a"]);
        let (journal, _) = Journal::open(&plan_path, &plan).unwrap();
        let second = Journal::open(&plan_path, &plan).err().unwrap();
        assert!(second.to_string().contains("another apply of this plan is running"), "{second}");
        journal.close().unwrap();

        let (_other_folder, _, other) = planned(&["a", "b"]);
        let foreign = Journal::open(&plan_path, &other).err().unwrap();
        assert!(format!("{foreign:#}").contains("belongs to another plan"), "{foreign:#}");
    }

    #[tokio::test]
    async fn a_journal_that_is_damaged_in_the_middle_is_refused() {
        let (_folder, plan_path, plan) = planned(&["a"]);
        let (journal, _) = Journal::open(&plan_path, &plan).unwrap();
        journal.intend("a", "2026-11.a").await.unwrap();
        journal.record(charged("a")).unwrap();
        journal.close().unwrap();
        let path = path(&plan_path);
        let damaged = fs::read_to_string(&path).unwrap().replacen("intent", "in\0ent", 1);
        fs::write(&path, damaged).unwrap();
        assert!(Journal::open(&plan_path, &plan).is_err());
    }
}
