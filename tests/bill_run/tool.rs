//! The command, as a person or a script runs it.

use std::{
    collections::{BTreeMap, HashMap},
    process::{Child, Command, Output, Stdio},
};

use harness::environment;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::spawn_blocking;

/// Runs the command on an API.
pub struct Tool {
    api: String,
    settings: HashMap<String, String>,
}

/// The exit status.
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
    pub request_id: Option<String>,
    pub state: String,
    pub upstream_status: Option<u16>,
    pub reason: Value,
    pub charged_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Report {
    pub month: String,
    pub eligible: usize,
    pub charged: usize,
    pub rejected: usize,
    pub unknown: usize,
    pub left: usize,
    pub subscriptions: Vec<Line>,
}

impl Tool {
    pub fn on(api: &str) -> Self {
        Self::with(api, &[])
    }

    /// With these variables in its environment.
    pub fn with(api: &str, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self { api: api.to_owned(), settings }
    }

    /// Without a terminal.
    pub fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut process = environment::command("bill-run", &self.settings);
        process.args([command, "--api", &self.api]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        process
    }

    /// A run that nobody is asked about.
    pub fn charging(&self, arguments: &[&str]) -> Command {
        let mut process = self.command("charge", &["--yes"]);
        process.args(arguments);
        process
    }

    pub async fn charge(&self, arguments: &[&str]) -> Ended {
        ended(self.charging(arguments)).await
    }

    pub async fn report(&self, arguments: &[&str]) -> Report {
        let mut command = self.command("report", &["--format", "json"]);
        command.args(arguments);
        let ended = ended(command).await;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

/// Runs it to its end. The test serves the API meanwhile.
pub async fn ended(mut command: Command) -> Ended {
    spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// The status, and what the month came to.
    pub fn line(&self) -> (Option<i32>, &str) {
        (self.status, self.stdout.trim_end())
    }
}

impl Report {
    pub fn line(&self, subscription: &str) -> &Line {
        self.subscriptions.iter().find(|line| line.subscription_id == subscription).unwrap()
    }

    /// The number in each state, as the report says.
    #[track_caller]
    pub fn states(&self) -> BTreeMap<&str, usize> {
        let mut states = BTreeMap::new();
        for line in &self.subscriptions {
            *states.entry(&*line.state).or_default() += 1;
        }
        let count = |words: &[&str]| words.iter().filter_map(|word| states.get(word)).sum::<usize>();
        assert_eq!(
            (self.charged, self.rejected, self.unknown, self.left, self.eligible),
            (
                count(&["charged"]),
                count(&["rejected"]),
                count(&["unknown", "in_flight"]),
                count(&["left", "not_sent"]),
                self.subscriptions.len()
            )
        );
        states
    }
}

/// Sends a signal to a process.
pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}
