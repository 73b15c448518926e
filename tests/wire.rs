//! A proxy between the functions and PostgreSQL. It counts round trips, records what the functions send, and can go down.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    task::JoinSet,
};
use url::Url;

use crate::database;

/// What a client sent after its start-up message. <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Debug)]
pub struct Message {
    /// Its first byte: `P` Parse, `B` Bind, `Q` Query and so on.
    pub kind: char,
    /// Bytes, with the first one and its length.
    pub size: usize,
    /// The SQL of a Parse or a Query; empty for others.
    pub sql: String,
}

pub struct Wire {
    round_trips: Arc<AtomicUsize>,
    messages: Arc<Mutex<Vec<Message>>>,
    refused: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    /// While this is set, the server's answers are not passed on.
    held: Arc<AtomicBool>,
    lines: Arc<Mutex<JoinSet<()>>>,
}

impl Wire {
    /// In front of the server of this database; the database's URL through it.
    pub async fn before(database_url: &Url) -> (Self, Url) {
        let socket = database::socket(database_url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let wire = Self {
            round_trips: Arc::default(),
            messages: Arc::default(),
            refused: Arc::default(),
            down: Arc::default(),
            held: Arc::default(),
            lines: Arc::default(),
        };
        let (round_trips, messages, refused) = (wire.round_trips.clone(), wire.messages.clone(), wire.refused.clone());
        let (down, held, lines) = (wire.down.clone(), wire.held.clone(), wire.lines.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if down.load(Ordering::Acquire) {
                    refused.fetch_add(1, Ordering::AcqRel);
                    continue;
                }
                let (socket, round_trips, messages, held) =
                    (socket.clone(), round_trips.clone(), messages.clone(), held.clone());
                lines.lock().expect("unpoisoned").spawn(async move {
                    let Ok(server) = UnixStream::connect(&socket).await else { return };
                    forward(client, server, &round_trips, &messages, &held).await;
                });
            }
        });
        (wire, database::at(database_url, "127.0.0.1", port, "sslmode=disable"))
    }

    /// How often a client has sent something after the server had.
    pub fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::Acquire)
    }

    /// Everything that clients have sent so far, but the start-up messages.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("unpoisoned").clone()
    }

    /// How many connections it has refused while it was down.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Acquire)
    }

    /// Cuts every connection, and every new one until `come_up`.
    pub fn go_down(&self) {
        self.down.store(true, Ordering::Release);
        self.cut();
    }

    pub fn come_up(&self) {
        self.down.store(false, Ordering::Release);
    }

    /// Passes the client's messages on and holds the server's, until the connections are cut.
    pub fn hold_answers(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Cuts the open connections.
    pub fn cut(&self) {
        self.held.store(false, Ordering::Release);
        self.lines.lock().expect("unpoisoned").abort_all();
    }
}

async fn forward(
    mut client: tokio::net::TcpStream,
    mut server: UnixStream,
    round_trips: &AtomicUsize,
    messages: &Mutex<Vec<Message>>,
    held: &AtomicBool,
) {
    let mut said = Said::default();
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut server_spoke = true;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                if std::mem::replace(&mut server_spoke, false) {
                    round_trips.fetch_add(1, Ordering::AcqRel);
                }
                messages.lock().expect("unpoisoned").extend(said.hear(&from_client[..count]));
                if server.write_all(&from_client[..count]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                server_spoke = true;
                if held.load(Ordering::Acquire) {
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

/// A client's bytes, cut into messages.
#[derive(Default)]
struct Said {
    rest: Vec<u8>,
    started: bool,
}

impl Said {
    fn hear(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.rest.extend_from_slice(bytes);
        let mut heard = Vec::new();
        loop {
            // The start-up message alone has no first byte that names its kind.
            let head = usize::from(self.started);
            let Some(length) = self.rest.get(head..head + 4).and_then(|bytes| bytes.try_into().ok()) else { break };
            let size = head + usize::try_from(u32::from_be_bytes(length)).expect("a length");
            if self.rest.len() < size {
                break;
            }
            let message: Vec<u8> = self.rest.drain(..size).collect();
            if std::mem::replace(&mut self.started, true) {
                heard.push(Message { kind: message[0].into(), size, sql: sql(message[0], &message[5..]) });
            }
        }
        heard
    }
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
