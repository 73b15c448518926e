//! Connections that break off, before an order is read or in place of its answer, or that answer with any bytes.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::{ORDER_PATH, lock, order_book::OrderBook};

/// A connection's act in place of its next answer.
#[derive(Clone, Default)]
pub struct Override(Arc<Mutex<Option<Instead>>>);

enum Instead {
    Reset,
    /// Sends the rest of these bytes, and ends.
    Send(Vec<u8>),
}

impl Override {
    pub fn reset(&self) {
        *self.lock() = Some(Instead::Reset);
    }

    pub fn send(&self, bytes: Vec<u8>) {
        *self.lock() = Some(Instead::Send(bytes));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, Overridable>> for Override {
    fn connect_info(stream: IncomingStream<'_, Overridable>) -> Self {
        stream.io().instead.clone()
    }
}

/// A listener whose connections can do something in place of an answer.
pub struct Overridable {
    pub listener: TcpListener,
    pub book: Arc<Mutex<OrderBook>>,
}

impl Listener for Overridable {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, instead: Override::default(), book: Arc::clone(&self.book) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub struct Connection {
    stream: TcpStream,
    instead: Override,
    book: Arc<Mutex<OrderBook>>,
}

impl Connection {
    fn end_with_reset<T>(&self) -> Poll<io::Result<T>> {
        // With it a dropped connection sends a reset, not an orderly end.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    /// True if an order begins here before which the connection is reset.
    fn resets_before_reading(&self, bytes: &[u8]) -> bool {
        let path = bytes.strip_prefix(b"POST ").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let request_id = path.and_then(|path| path.strip_prefix(ORDER_PATH.as_bytes()));
        let Some(Ok(request_id)) = request_id.map(str::from_utf8) else { return false };
        lock(&self.book).resets_before_reading(request_id)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.resets_before_reading(&buffer.filled()[before..]) { self.end_with_reset() } else { poll }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, instead, .. } = &mut *self;
        let mut instead = instead.lock();
        match &mut *instead {
            None => Pin::new(stream).poll_write(context, bytes),
            Some(Instead::Reset) => {
                drop(instead);
                self.end_with_reset()
            }
            Some(Instead::Send(rest)) => {
                while !rest.is_empty() {
                    let sent = ready!(Pin::new(&mut *stream).poll_write(context, rest))?;
                    rest.drain(..sent);
                }
                ready!(Pin::new(stream).poll_shutdown(context))?;
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
