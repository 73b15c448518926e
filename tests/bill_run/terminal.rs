//! The tool on a terminal, where it asks.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    scripted::{Reply, Scripted},
    tool::Desk,
};

/// A person at a terminal, who reads what a command says and answers.
struct Terminal {
    screen: File,
    read: String,
    child: Child,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = File::options().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.to_bytes())).unwrap();
        command.stdin(line.try_clone().unwrap()).stdout(line.try_clone().unwrap()).stderr(line);
        let child = command.spawn().unwrap();
        Self { screen: screen.into(), read: String::new(), child }
    }

    /// Reads on until this is on the screen, or everything is.
    fn reads(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.read.contains(text) {
            // An error says that nobody writes any more.
            let count = self.screen.read(&mut bytes).unwrap_or_default();
            assert!(count > 0, "{text:?} is not in {}", self.read);
            self.read += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    /// Types an answer once it is asked this.
    fn answers(&mut self, question: &str, answer: &str) {
        self.reads(question);
        // What is asked next comes after this.
        self.read.clear();
        writeln!(self.screen, "{answer}").unwrap();
    }
}

#[tokio::test]
async fn it_asks_before_it_begins_and_after_too_many_failures() {
    let api = Scripted::start(&["a", "b", "c"]).await;
    let desk = Desk::with(&[("TERM", "xterm")]);
    desk.plan(&api.url, "plan").await;

    let command = || desk.command(&["apply", "plan", "--concurrency", "1", "--max-failures", "2"]);
    let mut terminal = Terminal::start(command());
    let url = api.url.clone();
    let ended = spawn_blocking(move || {
        terminal.reads("Charge 3 subscriptions for 2026-11 at ");
        terminal.reads(&url);
        terminal.answers("Type yes to go on: ", "no");
        terminal.reads("Nothing was sent.");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!((ended.await.unwrap(), api.charges().len()), (Some(5), 0));

    api.usually(Reply::RetryAfter(0, Box::new(Reply::Problem(503, "ecommerce_unavailable", json!({})))));
    let mut terminal = Terminal::start(command());
    let ended = spawn_blocking(move || {
        terminal.answers("Type yes to go on: ", "yes");
        terminal.answers("2 failures in a row, the last: 503 (ecommerce_unavailable). Type yes to go on: ", "yes");
        terminal.answers("2 failures in a row, the last: 503 (ecommerce_unavailable). Type yes to go on: ", "no");
        terminal.reads("Stopped after too many failures in a row");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(ended.await.unwrap(), Some(5));

    api.usually(Reply::Charged);
    let mut terminal = Terminal::start(desk.command(&["apply", "plan"]));
    let ended = spawn_blocking(move || {
        terminal.answers("Type yes to go on: ", "yes");
        // The bar.
        terminal.reads(" of 3, ");
        terminal.reads("3 planned = 3 charged");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(ended.await.unwrap(), Some(0));
}
