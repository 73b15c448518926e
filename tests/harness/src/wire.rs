//! A proxy between the functions and PostgreSQL. It counts round trips, records what the functions send, can go down, and
//! can answer with an error of its choice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinSet,
};
use url::Url;

use crate::database;

/// A client's messages after its start-up message. <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Debug)]
pub struct Message {
    /// Its first byte: `P` Parse, `B` Bind, `Q` Query and so on.
    pub kind: char,
    /// Bytes, with the first one and its length.
    pub size: usize,
    /// The SQL of a Parse or a Query; empty for others.
    pub sql: String,
}

/// The parameters of a start-up message, by name.
pub type StartUp = BTreeMap<String, String>;

pub struct Wire {
    state: Arc<State>,
    lines: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Default)]
struct State {
    round_trips: AtomicUsize,
    start_ups: Mutex<Vec<StartUp>>,
    messages: Mutex<Vec<Message>>,
    refused: AtomicUsize,
    down: AtomicBool,
    /// While this is set, the server's answers are not passed on.
    held: AtomicBool,
    /// The code of the error that answers a start-up message with options.
    refuses_options: Mutex<Option<&'static str>>,
    /// The code of the error that answers the next message.
    fails: Mutex<Option<&'static str>>,
}

impl Wire {
    /// In front of the server of this database; the database's URL through it.
    pub async fn before(database_url: &Url) -> (Self, Url) {
        let socket = database::socket(database_url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let wire = Self { state: Arc::default(), lines: Arc::default() };
        let (state, lines) = (wire.state.clone(), wire.lines.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if state.down.load(Ordering::Acquire) {
                    state.refused.fetch_add(1, Ordering::AcqRel);
                    continue;
                }
                let (socket, state) = (socket.clone(), state.clone());
                lines.lock().expect("unpoisoned").spawn(async move {
                    let Ok(server) = UnixStream::connect(&socket).await else { return };
                    state.forward(client, server).await;
                });
            }
        });
        (wire, database::at(database_url, "127.0.0.1", port, "sslmode=disable"))
    }

    /// The times that a client has sent something after the server had.
    pub fn round_trips(&self) -> usize {
        self.state.round_trips.load(Ordering::Acquire)
    }

    /// The start-up messages so far.
    pub fn start_ups(&self) -> Vec<StartUp> {
        self.state.start_ups.lock().expect("unpoisoned").clone()
    }

    /// Everything that clients have sent so far, but the start-up messages.
    pub fn messages(&self) -> Vec<Message> {
        self.state.messages.lock().expect("unpoisoned").clone()
    }

    /// The connections that it has refused while it was down.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Acquire)
    }

    /// Cuts every connection, and every new one until `come_up`.
    pub fn go_down(&self) {
        self.state.down.store(true, Ordering::Release);
        self.cut();
    }

    pub fn come_up(&self) {
        self.state.down.store(false, Ordering::Release);
    }

    /// Answers every start-up message that has options with a fatal error of this code, as a pooler does.
    pub fn refuse_options(&self, code: &'static str) {
        *self.state.refuses_options.lock().expect("unpoisoned") = Some(code);
    }

    /// Answers the next message after a start-up with a fatal error of this code. The server does not get it.
    pub fn fail_next(&self, code: &'static str) {
        *self.state.fails.lock().expect("unpoisoned") = Some(code);
    }

    /// Passes the client's messages on and holds the server's, until the connections are cut.
    pub fn hold_answers(&self) {
        self.state.held.store(true, Ordering::Release);
    }

    /// Cuts the open connections.
    pub fn cut(&self) {
        self.state.held.store(false, Ordering::Release);
        self.lines.lock().expect("unpoisoned").abort_all();
    }
}

impl State {
    async fn forward(&self, mut client: TcpStream, mut server: UnixStream) {
        let mut stream = ClientStream::default();
        let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut server_spoke = true;
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    let Ok(count @ 1..) = read else { return };
                    if std::mem::replace(&mut server_spoke, false) {
                        self.round_trips.fetch_add(1, Ordering::AcqRel);
                    }
                    if let Some(code) = self.receive(&mut stream, &from_client[..count]) {
                        let _ = client.write_all(&fatal_error(code)).await;
                        return;
                    }
                    if server.write_all(&from_client[..count]).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut from_server) => {
                    let Ok(count @ 1..) = read else { return };
                    server_spoke = true;
                    if self.held.load(Ordering::Acquire) {
                        // This client's answer is lost, even when the flag is cleared.
                        std::future::pending::<()>().await;
                    }
                    if client.write_all(&from_server[..count]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The code of the error that is the answer, if the server is not to answer.
    fn receive(&self, stream: &mut ClientStream, bytes: &[u8]) -> Option<&'static str> {
        let mut code = None;
        for received in stream.receive(bytes) {
            match received {
                Received::StartUp(start_up) => {
                    if start_up.contains_key("options") {
                        code = *self.refuses_options.lock().expect("unpoisoned");
                    }
                    self.start_ups.lock().expect("unpoisoned").push(start_up);
                }
                Received::Message(message) => {
                    code = code.or(self.fails.lock().expect("unpoisoned").take());
                    self.messages.lock().expect("unpoisoned").push(message);
                }
            }
        }
        code
    }
}

/// An ErrorResponse.
fn fatal_error(code: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mthe wire says so\0\0");
    let length = u32::try_from(4 + fields.len()).expect("a short error");
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

enum Received {
    StartUp(StartUp),
    Message(Message),
}

/// A client's bytes, cut into messages.
#[derive(Default)]
struct ClientStream {
    rest: Vec<u8>,
    started: bool,
}

impl ClientStream {
    fn receive(&mut self, bytes: &[u8]) -> Vec<Received> {
        self.rest.extend_from_slice(bytes);
        let mut received = Vec::new();
        loop {
            // The start-up message alone has no first byte that names its kind.
            let head = usize::from(self.started);
            let Some(length) = self.rest.get(head..head + 4).and_then(|bytes| bytes.try_into().ok()) else { break };
            let size = head + usize::try_from(u32::from_be_bytes(length)).expect("a length");
            if self.rest.len() < size {
                break;
            }
            let message: Vec<u8> = self.rest.drain(..size).collect();
            received.push(if std::mem::replace(&mut self.started, true) {
                Received::Message(Message { kind: message[0].into(), size, sql: sql(message[0], &message[5..]) })
            } else {
                Received::StartUp(parameters(&message[8..]))
            });
        }
        received
    }
}

/// Names and values by turns, after the length and the protocol's version.
fn parameters(body: &[u8]) -> StartUp {
    let texts: Vec<String> =
        body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).filter(|(name, _)| !name.is_empty()).collect()
}

fn sql(kind: u8, body: &[u8]) -> String {
    let mut texts = body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    match kind {
        // The name of the statement comes first.
        b'P' => texts.nth(1).unwrap_or_default(),
        b'Q' => texts.next().unwrap_or_default(),
        _ => String::new(),
    }
}
