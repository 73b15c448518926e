//! The tool, as a person or a script runs it.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use api_tests::environment;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

/// A folder that it runs in.
pub struct Desk {
    folder: TempDir,
    settings: HashMap<String, String>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A line of the report.
#[derive(Debug, Deserialize)]
pub struct Line {
    pub subscription_id: String,
    pub request_id: String,
    pub outcome: String,
    pub code: Option<String>,
    pub http_status: Option<u16>,
    pub charged_at: Option<String>,
    pub attempts: u32,
}

#[derive(Debug, Deserialize)]
pub struct Report {
    pub month: String,
    pub planned: usize,
    pub charged: usize,
    pub already_charged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub left: usize,
    pub subscriptions: Vec<Line>,
}

impl Desk {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With these variables in its environment.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self { folder: tempfile::tempdir().unwrap(), settings }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without a terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = environment::command("bill-run", &self.settings);
        command.args(arguments).current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        // The test serves the API meanwhile.
        spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
    }

    /// Makes a plan of this name.
    pub async fn plan(&self, api: &str, name: &str) {
        let ended = self.run(&["plan", "--api", api, "--output", name]).await;
        assert_eq!((ended.status, ended.stdout.trim()), (Some(0), name), "{ended:?}");
    }

    pub async fn report(&self, plan: &str) -> Report {
        let ended = self.run(&["report", plan, "--format", "json"]).await;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Report {
    pub fn line(&self, subscription: &str) -> &Line {
        self.subscriptions.iter().find(|line| line.subscription_id == subscription).unwrap()
    }

    /// How many there are of each outcome; as many as the report says.
    #[track_caller]
    pub fn outcomes(&self) -> BTreeMap<&str, usize> {
        let mut outcomes = BTreeMap::new();
        for line in &self.subscriptions {
            *outcomes.entry(&*line.outcome).or_default() += 1;
        }
        let told = [
            ("charged", self.charged),
            ("already_charged", self.already_charged),
            ("refused", self.refused),
            ("unknown", self.unknown),
            ("left", self.left),
        ];
        assert_eq!(outcomes, told.into_iter().filter(|(_, count)| *count > 0).collect());
        assert_eq!(outcomes.values().sum::<usize>(), self.planned);
        outcomes
    }
}

/// Sends a signal to a process.
pub fn signal(process: &std::process::Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(process), signal).unwrap();
}

/// Lines of the journal so far.
pub fn journal(plan: &Path) -> usize {
    let path = format!("{}.journal", plan.display());
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}
