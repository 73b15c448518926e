//! The tool on a terminal, where it asks.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use harness::eventually;
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::task::spawn_blocking;

use crate::{
    scripted::{Reply, Scripted, at_once, problem},
    tool::{Tool, signal},
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
        // The next question comes after this.
        self.read.clear();
        writeln!(self.screen, "{answer}").unwrap();
    }
}

const ASKED: &str = "Type yes to go on: ";

#[tokio::test]
async fn it_asks_before_it_begins_and_after_too_many_failures() {
    let api = Scripted::start(&["a", "b", "c"]).await;
    let tool = Tool::with(&api.url, &[("TERM", "xterm")]);
    let command = || tool.command("charge", &["--concurrency", "1", "--max-failures", "2"]);
    let mut terminal = Terminal::start(command());
    let url = api.url.clone();
    let ended = spawn_blocking(move || {
        terminal.reads("3 are to be charged for 2026-11 at ");
        terminal.reads(&url);
        terminal.answers(ASKED, "no");
        terminal.reads("Nothing was sent.");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!((ended.await.unwrap(), api.charges().len()), (Some(5), 0));

    api.usually(at_once(problem(503, "ecommerce_unavailable")));
    let mut terminal = Terminal::start(command());
    let ended = spawn_blocking(move || {
        terminal.answers(ASKED, "yes");
        terminal.answers("2 failures in a row, the last: 503 (ecommerce_unavailable). Type yes to go on: ", "no");
        terminal.reads("Stopped after too many failures in a row");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(ended.await.unwrap(), Some(5));

    api.usually(Reply::Charged);
    let mut terminal = Terminal::start(tool.command("charge", &[]));
    let ended = spawn_blocking(move || {
        terminal.answers(ASKED, "yes");
        // The bar.
        terminal.reads(" of 3, ");
        terminal.reads("3 = 3 charged");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(ended.await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_person_can_go_on_after_too_many_failures() {
    let ids: Vec<String> = (0..9).map(|n| format!("s{n}")).collect();
    let api = Scripted::start(&ids).await;
    for id in &ids {
        api.replies(id, [problem(502, "order_rejected")]);
    }
    let tool = Tool::with(&api.url, &[("TERM", "xterm")]);
    let mut terminal = Terminal::start(tool.charging(&["--concurrency", "1", "--max-failures", "4"]));
    let ended = spawn_blocking(move || {
        terminal.answers("4 failures in a row", "yes");
        terminal.answers("4 failures in a row", "yes");
        terminal.reads("9 = 0 charged + 9 rejected");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(ended.await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_terminal_that_cannot_draw_gets_plain_lines() {
    for (settings, has_bar) in
        [(&[("TERM", "dumb")][..], false), (&[], false), (&[("TERM", "xterm"), ("NO_COLOR", "1")], true)]
    {
        let api = Scripted::start(&["a", "b"]).await;
        api.hold(true);
        let mut terminal = Terminal::start(Tool::with(&api.url, settings).charging(&[]));
        let progress = spawn_blocking(move || {
            terminal.reads("0 of 2, 0 a second");
            terminal
        });
        let mut terminal = progress.await.unwrap();
        api.hold(false);
        let ended = spawn_blocking(move || {
            terminal.reads("2 = 2 charged");
            (terminal.child.wait().unwrap().code(), terminal.read)
        });
        let (status, read) = ended.await.unwrap();
        assert_eq!(status, Some(0));
        assert_eq!(read.contains('\x1b'), has_bar, "{read:?}");
        // A colour.
        assert!(!read.replace("\x1b[2K", "").contains('m') || !read.contains("\x1b[3"), "{read:?}");
    }
}

#[tokio::test]
async fn a_run_goes_on_when_its_output_is_closed() {
    for closed in ["terminal", "pipe", "full"] {
        let ids: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        let api = Scripted::start(&ids).await;
        api.hold(true);
        let tool = Tool::with(&api.url, &[("TERM", "xterm")]);
        let mut command = tool.charging(&["--concurrency", "2"]);
        let mut run = match closed {
            "terminal" => {
                let terminal = Terminal::start(command);
                eventually("it has begun", async || api.charges().len() == 2).await;
                // The screen is closed here.
                terminal.child
            }
            "pipe" => {
                let mut run = command.spawn().unwrap();
                eventually("it has begun", async || api.charges().len() == 2).await;
                drop((run.stdout.take(), run.stderr.take()));
                run
            }
            _ => {
                let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
                let run = command.stdout(full()).stderr(full()).spawn().unwrap();
                eventually("it has begun", async || api.charges().len() == 2).await;
                run
            }
        };
        // It says a line.
        signal(&run, Signal::INT);
        api.hold(false);
        let status = spawn_blocking(move || run.wait().unwrap().code()).await.unwrap();
        assert_eq!(status, Some(5), "{closed}");
        let again = crate::tool::ended(tool.charging(&[])).await;
        assert_eq!(again.line(), (Some(0), "40 = 40 charged + 0 rejected + 0 unknown + 0 left"), "{closed}");

        for (mut command, pipe, full) in
            [(tool.command("report", &[]), 0, 1), (tool.command("charge", &["--dry-run"]), 0, 0)]
        {
            let status = match closed {
                "full" => {
                    command.stdout(File::options().write(true).open("/dev/full").unwrap());
                    full
                }
                _ => {
                    let (reader, writer) = std::io::pipe().unwrap();
                    drop(reader);
                    command.stdout(writer);
                    pipe
                }
            };
            let ended = crate::tool::ended(command).await;
            assert_eq!(ended.status, Some(status), "{ended:?}");
            assert_eq!(ended.stderr.contains("stdout"), status == 1, "{ended:?}");
        }
    }
}

#[tokio::test]
async fn a_second_interrupt_stops_at_once_under_the_bar_and_in_a_question() {
    let api = Scripted::start(&["a", "b"]).await;
    api.hold(true);
    let tool = Tool::with(&api.url, &[("TERM", "xterm")]);
    let mut terminal = Terminal::start(tool.charging(&[]));
    let ended = spawn_blocking(move || {
        terminal.reads("0 of 2");
        signal(&terminal.child, Signal::INT);
        terminal.reads("Once more stops at once");
        signal(&terminal.child, Signal::INT);
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap(), Some(5));

    api.hold(false);
    api.usually(problem(502, "order_rejected"));
    let mut terminal = Terminal::start(tool.charging(&["--max-failures", "1", "--concurrency", "1"]));
    let ended = spawn_blocking(move || {
        terminal.reads("1 failures in a row");
        signal(&terminal.child, Signal::INT);
        terminal.reads("Interrupted");
        terminal.child.wait().unwrap().code()
    });
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap(), Some(5));
}
