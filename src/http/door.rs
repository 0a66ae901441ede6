//! The front door: an accept loop of our own around warp's filters, because warp's has no bounds. Every connection
//! has its place or is told at once that there is none; nobody is queued. What bounds there are says
//! `admission::Bounds`. Specification: RFC 9110 and 9112, as far as hyper leaves something to say: 503 with
//! `Retry-After`, `connection: close` while stopping, a last answer that is not reset.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::delivery::{Leaving, Marked};
use super::error;
use super::reply::Delivery;
use super::stream::ClientStream;
use crate::admission::{Bounds, Overload, Place, Seat};
use crate::limits::{BACKLOG, CONNECTION_BUFFER, LINGER_MAX, TURN_AWAY_TIME};
use crate::logs;
use crate::service::Service;

/// Pause after an accept that failed: the usual cause, too many open files, does not pass in a microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Held by all that must be over before the service may end.
#[derive(Clone)]
pub(super) struct UnderWay(#[expect(dead_code, reason = "it is only ever dropped")] mpsc::Sender<()>);

#[cfg(feature = "simulation")]
impl UnderWay {
    /// Work that no drain waits for.
    pub(super) fn of_nobody() -> UnderWay {
        UnderWay(mpsc::channel(1).0)
    }
}

/// What a request has been given at the door. Its task holds it to its end, whether or not the client waits.
#[derive(Clone)]
pub(super) struct Ticket(
    #[expect(dead_code, reason = "it is only ever dropped")] Arc<(Option<Seat>, UnderWay)>,
);

/// Listens there, with the bounds that the connections inherit.
///
/// # Errors
/// The operating system's word.
pub fn listen(addr: SocketAddr, bounds: &Bounds) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart must not wait for connections of before.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(bounds.send_buffer)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves connections until `stop` says so, then lets everything that has come in finish.
pub async fn serve(listener: TcpListener, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let bounds = service.admission.bounds;
    let (under_way, mut over) = mpsc::channel(1);
    let mut connections = JoinSet::new();
    let door = Door {
        filters: warp::service(super::routes(Arc::clone(&service))),
        service,
        stop: stop.clone(),
        under_way: UnderWay(under_way),
    };
    loop {
        tokio::select! {
            // An error means that the App is gone, which ends the service as well.
            _ = stop.changed() => break,
            Some(ended) = connections.join_next() => told(ended),
            accepted = listener.accept() => {
                if let Err(error) = door.take(accepted, &mut connections) {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    let until = Instant::now() + bounds.last_call;
    while let Ok(accepted) = timeout_at(until, listener.accept()).await {
        if let Err(error) = door.take(accepted, &mut connections) {
            tracing::warn!(%error, "a connection could not be accepted");
            break;
        }
    }
    drop((listener, door));
    let all = async {
        while let Some(ended) = connections.join_next().await {
            told(ended);
        }
        // Requests whose client hung up, and deliveries that are being recorded.
        while over.recv().await.is_some() {}
    };
    if timeout(bounds.drain_time, all).await.is_err() {
        tracing::warn!("requests were still under way when the time to finish them ran out");
    }
}

fn told(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = logs::ended(&error), "a connection's task failed");
    }
}

struct Door<F> {
    filters: F,
    service: Arc<Service>,
    stop: watch::Receiver<bool>,
    under_way: UnderWay,
}

impl<F> Door<F>
where
    F: tower_service::Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>
        + Clone
        + Send
        + 'static,
    F::Future: Send,
{
    fn take(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        connections: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let (stream, peer) = accepted?;
        // Answers are small; waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let admission = &self.service.admission;
        match admission.connection(peer.ip()) {
            Ok(place) => {
                connections.spawn(self.connection(stream, peer.ip(), place));
            }
            Err(overload) => {
                if let Some(leave) = admission.turn_away() {
                    let linger_time = admission.bounds.linger_time;
                    connections.spawn(turn_away(stream, overload, leave, linger_time));
                }
            }
        }
        Ok(())
    }

    /// One connection from its first byte to its last.
    fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        place: Place,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (service, filters) = (Arc::clone(&self.service), self.filters.clone());
        let (under_way, mut stop) = (self.under_way.clone(), self.stop.clone());
        let bounds = service.admission.bounds;
        let leaving = Leaving::new(under_way.clone());
        let io = ClientStream::new(stream, leaving.clone(), &bounds);
        let stopping = stop.clone();
        let answer = service_fn(move |mut request: Request<Incoming>| {
            let (mut filters, leaving, stopping) = (filters.clone(), leaving.clone(), stopping.clone());
            let admitted = service.admission.client(peer, forwarded(&request));
            let ticket = admitted.map(|seat| Ticket(Arc::new((seat, under_way.clone()))));
            async move {
                let mut response = match ticket {
                    Ok(ticket) => {
                        request.extensions_mut().insert(ticket);
                        filters.call(request).await?
                    }
                    Err(overload) => error::refused(&overload.into()),
                };
                if *stopping.borrow() {
                    let headers = response.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let delivery = response.extensions_mut().remove::<Delivery>();
                Ok::<_, Infallible>(response.map(|body| Marked {
                    body,
                    delivery,
                    leaving,
                }))
            }
        });
        async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.header_time)
                .max_header_size(bounds.head)
                .max_headers(bounds.header_fields)
                .max_buf_size(CONNECTION_BUFFER)
                .serve_connection(io, answer);
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                biased;
                ended = &mut connection => ended,
                _ = stop.changed() => match timeout(bounds.last_call, &mut connection).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        }
    }
}

/// The addresses that proxies say the request came through, in order.
fn forwarded(request: &Request<Incoming>) -> impl DoubleEndedIterator<Item = &str> {
    // A value that is no text counts as a word that is no address.
    let values = request.headers().get_all(X_FORWARDED_FOR).into_iter();
    values.flat_map(|value| value.to_str().unwrap_or("?").split(','))
}

/// Tells a connection that it is too much, and ends it.
async fn turn_away(mut stream: TcpStream, overload: Overload, leave: OwnedSemaphorePermit, linger: Duration) {
    let told = async {
        // An answer before the request confuses some clients. Who sends nothing is told all the same.
        if let Ok(readable) = timeout(TURN_AWAY_TIME, stream.readable()).await {
            readable?;
        }
        stream.write_all(&raw(overload)).await?;
        stream.shutdown().await?;
        let (mut buffer, mut discarded) = ([0; 4096], 0);
        while discarded <= LINGER_MAX {
            match stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => discarded += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok::<_, io::Error>(())
    };
    match timeout(TURN_AWAY_TIME + linger, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client was not told that there are too many"),
        Err(_) => tracing::debug!("a client that was turned away did not hang up"),
    }
    drop(leave);
}

/// A refusal as it goes over the wire where no request was read.
fn raw(overload: Overload) -> Vec<u8> {
    let refusal = overload.into();
    let head: Response<_> = error::refused(&refusal);
    let body = error::body(&refusal);
    let mut text = format!("HTTP/1.1 {}\r\n", head.status()).into_bytes();
    for (name, value) in head.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(&body);
    text
}
