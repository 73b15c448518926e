//! A function's environment: its real binary, as a process on a Runtime API.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    time::timeout,
};

use crate::{
    gateway::Call,
    routes,
    runtime_api::{Invoked, RuntimeApi},
};

/// A function's answer, as the gateway passes it to the caller.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u64,
    /// By name, in lower case.
    pub headers: HashMap<String, String>,
    pub body: Value,
}

impl Answer {
    pub fn of(payload: Value) -> Self {
        // A REST API's answer has its headers as lists.
        let mut headers = HashMap::new();
        for name in ["headers", "multiValueHeaders"] {
            for (name, value) in payload[name].as_object().unwrap_or(&Map::new()) {
                let value = value.as_str().or_else(|| value[0].as_str()).unwrap_or_default();
                headers.insert(name.to_lowercase(), value.to_owned());
            }
        }
        let body = payload["body"].as_str().unwrap_or_default();
        Self {
            status: payload["statusCode"].as_u64().expect("a status"),
            headers,
            body: serde_json::from_str(body).unwrap_or_else(|_| body.into()),
        }
    }

    /// Checks a refusal: its status, its code, and that it is a problem in full.
    #[track_caller]
    pub fn refuses(&self, status: u64, code: &str) -> &Self {
        assert_eq!((self.status, self.text("code")), (status, code), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["access-control-allow-origin"], "*");
        assert_eq!(self.headers["access-control-expose-headers"], "billing-month,link,location,retry-after");
        assert_eq!(self.headers["x-content-type-options"], "nosniff");
        assert_eq!(self.body["status"], status);
        for member in ["type", "title", "detail", "instance"] {
            assert!(!self.text(member).is_empty(), "{member}: {self:?}");
        }
        self
    }

    /// The call for the next page of this route, if the answer names one.
    pub fn next_page(&self, path: &str) -> Option<Call> {
        let link = self.headers.get("link")?;
        let query = link.strip_prefix("<?").and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a next page");
        let mut call = Call::get(path);
        call.query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Some(call)
    }

    /// A string of the body, or nothing if that member is no string.
    pub fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }
}

/// The time that a function may take after its deadline, before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Environment {
    api: RuntimeApi,
    process: Mutex<std::process::Child>,
    pub started: Instant,
    log: Arc<Mutex<String>>,
}

impl Environment {
    pub async fn start(function: &str, settings: &HashMap<String, String>) -> Self {
        Self::start_in(Path::new("/"), function, settings).await
    }

    /// With its working directory there.
    pub async fn start_in(directory: &Path, function: &str, settings: &HashMap<String, String>) -> Self {
        let mut command = command(function, settings);
        Self::of(command.current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped())).await
    }

    /// Starts this command. The log has what the command pipes.
    pub async fn of(command: &mut Command) -> Self {
        let api = RuntimeApi::start().await;
        command
            .env("AWS_LAMBDA_RUNTIME_API", &api.address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "function")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_REGION", "us-east-1");
        let started = Instant::now();
        let mut process = command.spawn().expect("the function starts");
        let log = Arc::new(Mutex::new(String::new()));
        if let Some(output) = process.stdout.take() {
            collect(tokio::process::ChildStdout::from_std(output).expect("async"), &log);
        }
        if let Some(output) = process.stderr.take() {
            collect(tokio::process::ChildStderr::from_std(output).expect("async"), &log);
        }
        Self { api, process: Mutex::new(process), started, log }
    }

    pub async fn call(&self, call: &Call) -> Answer {
        self.invoke(call.event(), Duration::from_secs(29)).await
    }

    /// The same for a function that may die during the call, which then has no answer.
    pub async fn try_call(&self, call: &Call) -> Option<Answer> {
        // The tests look at what a function does after a long stop. Lambda would have ended it.
        self.invoke_raw(call.event(), Duration::from_secs(900)).await.ok().map(Answer::of)
    }

    /// Invokes it with this event, and this time until Lambda's deadline.
    pub async fn invoke(&self, event: Value, time: Duration) -> Answer {
        let payload = self.invoke_raw(event, time).await;
        Answer::of(payload.unwrap_or_else(|error| panic!("{error}\n{}", self.log())))
    }

    /// The answer that the function handed to the Runtime API, or the error that it reported.
    pub async fn invoke_raw(&self, event: Value, time: Duration) -> Result<Value, String> {
        let Invoked { payload, .. } = self.invoke_timed(&event, time).await?;
        let payload = payload.map_err(|error| String::from_utf8_lossy(&error).into_owned())?;
        Ok(serde_json::from_slice(&payload).expect("JSON"))
    }

    /// The same, unread, with its times; an error if the process ends before.
    pub async fn invoke_timed(&self, event: &Value, time: Duration) -> Result<Invoked, String> {
        self.wait_for(time + PATIENCE, self.api.invoke(event, time)).await
    }

    /// From the start of the process to its first request for an event.
    pub async fn first_next(&self) -> Duration {
        let asked = self.wait_for(PATIENCE, self.api.first_next()).await;
        asked.unwrap_or_else(|ended| panic!("{ended}\n{}", self.log())) - self.started
    }

    /// Waits as long as the process lives.
    async fn wait_for<T>(&self, patience: Duration, event: impl Future<Output = T>) -> Result<T, String> {
        let (mut event, began) = (pin!(event), Instant::now());
        loop {
            // Looks before it waits, because the process may have answered and ended.
            let ended = self.process.lock().expect("unpoisoned").try_wait().expect("a child");
            if let Ok(event) = timeout(Duration::from_millis(50), &mut event).await {
                return Ok(event);
            }
            if let Some(status) = ended {
                return Err(format!("the function ended: {status}"));
            }
            assert!(began.elapsed() < patience, "no answer at all:\n{}", self.log());
        }
    }

    /// Stops the process, as Lambda does between two invocations.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the process, as the kernel does when memory is short.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.process_id(), signal).expect("the process is there");
    }

    /// See [`peak_memory`].
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.process.lock().expect("unpoisoned").id())
    }

    /// True if the process is stopped.
    pub fn is_frozen(&self) -> bool {
        // `NOWAIT` leaves the answer there for the next question.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.process_id()), options), Ok(Some(status)) if status.stopped())
    }

    fn process_id(&self) -> Pid {
        Pid::from_child(&self.process.lock().expect("unpoisoned"))
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("unpoisoned").clone()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let mut process = self.process.lock().expect("unpoisoned");
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The most memory that this process has had so far, in bytes. Linux only.
pub fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB"));
    peak.expect("a peak").trim().parse::<u64>().expect("a number") * 1024
}

/// The function's binary with these settings and no others.
pub fn command(function: &str, settings: &HashMap<String, String>) -> Command {
    static BINARIES: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(build);
    let mut command = Command::new(&BINARIES[function]);
    command.env_clear().envs(settings).stdin(Stdio::null());
    command
}

/// Builds the functions; where they are.
///
/// The packages and features are those of `make test`, so that it has compiled all but the functions themselves. The
/// failpoints do nothing where `FAILPOINTS` is not set.
fn build() -> HashMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo sets these for a test. The build script of ring reads them, and would compile ring and its dependents again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo
        .args(["build", "--locked", "--message-format=json-render-diagnostics", "--workspace"])
        .args(["--features", "charge/failpoints"])
        .args(routes::functions().chain(["bill-run"]).flat_map(|binary| ["--bin", binary]))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the functions do not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let executable = message["executable"].as_str()?;
            Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(executable)))
        })
        .collect()
}

fn collect(output: impl AsyncRead + Send + Unpin + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().expect("unpoisoned");
            log.push_str(&line);
            log.push('\n');
        }
    });
}
