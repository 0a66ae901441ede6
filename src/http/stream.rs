//! A client's connection as bytes: it tells when all that was written has gone out, cuts off a client that does not
//! take its answer, and ends so that the last answer is not destroyed by what the client still sends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::delivery::Leaving;
use crate::admission::Bounds;
use crate::limits::{LINGER_MAX, WRITE_STEP};

/// Read at once of what is thrown away.
const DISCARD: usize = 4096;

pub(super) struct ClientStream {
    io: TokioIo<TcpStream>,
    leaving: Leaving,
    write_time: Duration,
    linger_time: Duration,
    /// Runs while the client does not take what is written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Taken since it runs.
    taken: usize,
    /// Runs once all is answered and our side is closed.
    lingering: Option<Pin<Box<Sleep>>>,
    /// Thrown away since.
    discarded: usize,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, leaving: Leaving, bounds: &Bounds) -> ClientStream {
        ClientStream {
            io: TokioIo::new(stream),
            leaving,
            write_time: bounds.write_time,
            linger_time: bounds.linger_time,
            stalled: None,
            taken: 0,
            lingering: None,
            discarded: 0,
        }
    }

    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                self.taken += bytes;
                if self.taken >= WRITE_STEP {
                    self.stalled = None;
                    self.taken = 0;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if self.stalled.is_none() {
                    self.stalled = Some(Box::pin(sleep(self.write_time)));
                    self.taken = 0;
                }
                if let Some(timer) = &mut self.stalled {
                    ready!(timer.as_mut().poll(cx));
                }
                // What the kernel holds for this client is thrown away at once, and not offered to it for minutes.
                self.io.inner().set_zero_linger()?;
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }
}

impl Read for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        // A flush succeeds only after the last write did.
        self.stalled = None;
        self.leaving.gone();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let timer = match &mut this.lingering {
            Some(timer) => timer,
            None => {
                ready!(Pin::new(this.io.inner_mut()).poll_shutdown(cx))?;
                this.lingering.insert(Box::pin(sleep(this.linger_time)))
            }
        };
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut buffer = [0; DISCARD];
            let mut buffer = ReadBuf::new(&mut buffer);
            // However the client ends it, it has ended.
            let ended = ready!(Pin::new(this.io.inner_mut()).poll_read(cx, &mut buffer)).is_err();
            let bytes = buffer.filled().len();
            this.discarded += bytes;
            if ended || bytes == 0 || this.discarded > LINGER_MAX {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }
}
