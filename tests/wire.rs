//! A proxy between the functions and PostgreSQL, which counts round trips and can go down.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    task::JoinSet,
};

pub struct Wire {
    port: u16,
    round_trips: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    /// While it is held, answers of the server stay here.
    held: Arc<AtomicBool>,
    lines: Arc<Mutex<JoinSet<()>>>,
}

impl Wire {
    /// In front of the server whose URL names a socket directory.
    pub async fn before(database_url: &str) -> (Self, String) {
        let (scheme_and_user, rest) = database_url.split_once('@').expect("a user");
        let (directory, name) = rest.split_once('/').expect("a database");
        let socket = format!("{}/.s.PGSQL.5432", directory.replace("%2F", "/"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let wire = Self {
            port: listener.local_addr().expect("bound").port(),
            round_trips: Arc::default(),
            refused: Arc::default(),
            down: Arc::default(),
            held: Arc::default(),
            lines: Arc::default(),
        };
        let (round_trips, refused) = (wire.round_trips.clone(), wire.refused.clone());
        let (down, held, lines) = (wire.down.clone(), wire.held.clone(), wire.lines.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if down.load(Ordering::Acquire) {
                    refused.fetch_add(1, Ordering::AcqRel);
                    continue;
                }
                let (socket, round_trips, held) = (socket.clone(), round_trips.clone(), held.clone());
                lines.lock().expect("unpoisoned").spawn(async move {
                    let Ok(server) = UnixStream::connect(&socket).await else { return };
                    forward(client, server, &round_trips, &held).await;
                });
            }
        });
        let url = format!("{scheme_and_user}@127.0.0.1:{}/{name}?sslmode=disable", wire.port);
        (wire, url)
    }

    /// How often the client has spoken after the server had.
    pub fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::Acquire)
    }

    /// How many connections it has refused while it was down.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Acquire)
    }

    /// Cuts every connection, and every new one until it is up again.
    pub fn go_down(&self) {
        self.down.store(true, Ordering::Release);
        self.cut();
    }

    pub fn come_up(&self) {
        self.down.store(false, Ordering::Release);
    }

    /// Lets the client's words through and keeps the server's, until the connections are cut.
    pub fn hold_answers(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Cuts the connections that are there.
    pub fn cut(&self) {
        self.held.store(false, Ordering::Release);
        self.lines.lock().expect("unpoisoned").abort_all();
    }
}

async fn forward(
    mut client: tokio::net::TcpStream,
    mut server: UnixStream,
    round_trips: &AtomicUsize,
    held: &AtomicBool,
) {
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut server_spoke = true;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                if std::mem::replace(&mut server_spoke, false) {
                    round_trips.fetch_add(1, Ordering::AcqRel);
                }
                if server.write_all(&from_client[..count]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                server_spoke = true;
                if held.load(Ordering::Acquire) {
                    // Whatever becomes of the flag, this connection's client has lost its answer.
                    std::future::pending::<()>().await;
                }
                if client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
