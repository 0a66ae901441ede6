//! The accept loop: connections with bounds, and the moment at which an answer has left.
//!
//! Our own loop around warp's filters, because warp's has neither a time limit for request heads nor a cap on
//! connections, and cannot tell when a reply's last byte was handed to the network.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_service::Service as _;

use super::reply::Delivery;
use crate::limits::{CONNECTIONS_MAX, DRAIN_TIME, HEADER_TIME};
use crate::service::Service;

/// Pause after an accept that failed: the usual cause, too many open files, does not pass in a microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `stop` ends, then lets requests under way finish.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: impl Future<Output = ()>) {
    let filters = warp::service(super::routes(service));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let (stream, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Answers are small; waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let leaving = Leaving::default();
        let io = Watched {
            io: TokioIo::new(stream),
            leaving: leaving.clone(),
        };
        let filters = filters.clone();
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            let (mut filters, leaving) = (filters.clone(), leaving.clone());
            async move {
                let mut response = filters.call(request).await?;
                let delivery = response.extensions_mut().remove::<Delivery>();
                Ok::<_, Infallible>(response.map(|body| Marked {
                    body,
                    delivery,
                    leaving,
                }))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .serve_connection(io, answer);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still under way when the time to finish them ran out");
    }
}

/// Answers whose last byte is written but may still stand in a buffer.
#[derive(Clone, Default)]
struct Leaving(Arc<Mutex<Vec<Delivery>>>);

impl Leaving {
    fn push(&self, delivery: Delivery) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(delivery);
    }

    fn gone(&self) {
        let gone = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        gone.into_iter().for_each(Delivery::delivered);
    }
}

/// A body that reports when its last byte was taken over for writing.
struct Marked<B> {
    body: B,
    delivery: Option<Delivery>,
    leaving: Leaving,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Marked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let failed = matches!(frame, Some(Err(_)));
        if !failed
            && (frame.is_none() || self.body.is_end_stream())
            && let Some(delivery) = self.delivery.take()
        {
            self.leaving.push(delivery);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that knows when all that was written has gone out: a flush succeeds only after the last write did.
struct Watched {
    io: TokioIo<TcpStream>,
    leaving: Leaving,
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.leaving.gone();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
