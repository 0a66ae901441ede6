//! The exchange on the network: HTTP/1.1 with hyper, the routes, the damage that faults do.
//! It decides nothing about refunds: the books do.
//!
//! Made for loopback: no TLS, no limit on connections, no authentication.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CONTENT_TYPE, HeaderValue,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use quittance_taler::{Amount, CoinPub, Micros};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::batch::{Batch, named_coins};
use crate::books::{Aggregate, Books, Deposit, Reply};
use crate::faults::{Fault, FaultKind, FaultPath, Faults};
use crate::keys::{Keys, Protocol, spoil};
use crate::purse::{Purse, WithdrawError};
use crate::{Clock, RecordedRequest, SandboxConfig};

/// The largest request body: far above a refund request (some 500 bytes), and enough for hundreds of deposits.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// How many requests are remembered; older ones are forgotten. More than any test makes.
pub const MAX_RECORDED_REQUESTS: usize = 65_536;

/// How many bytes of bodies are remembered, lest the one limit times the other fill the memory.
pub const MAX_RECORDED_BYTES: usize = 64 * 1024 * 1024;

/// How long to wait after a failed `accept`, which mostly means that the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections and the handle share.
pub(crate) struct Shared {
    addr: SocketAddr,
    clock: Clock,
    state: Mutex<State>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

pub(crate) struct State {
    pub(crate) keys: Keys,
    pub(crate) books: Books,
    pub(crate) faults: Faults,
    requests: VecDeque<RecordedRequest>,
    recorded_bytes: usize,
    /// How many coins were made.
    withdrawn: u64,
}

impl Shared {
    pub(crate) fn new(config: &SandboxConfig, addr: SocketAddr) -> Shared {
        let clock = Arc::clone(&config.clock);
        let state = State {
            keys: Keys::new(config.seed, config.currency, clock()),
            books: Books::new(config.currency),
            faults: Faults::default(),
            requests: VecDeque::new(),
            recorded_bytes: 0,
            withdrawn: 0,
        };
        Shared {
            addr,
            clock,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn now(&self) -> Micros {
        (self.clock)()
    }

    /// A panic in one request shall not hide behind failures of all others.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// What `/keys` says.
    pub(crate) fn keys(&self, met: Option<FaultKind>) -> Reply {
        let hide = met == Some(FaultKind::UnknownKey);
        Reply::ok(self.state().keys.body(&self.base_url(), hide))
    }

    /// Makes coins.
    pub(crate) fn withdraw(&self, amount: Amount) -> Result<Purse, WithdrawError> {
        let mut state = self.state();
        let state = &mut *state;
        Purse::withdrawn(&state.keys, &self.base_url(), amount, &mut state.withdrawn)
    }
}

/// Serves until the sender of `stopped` is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<Infallible>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// How a connection ends without a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Closed.
    Close,
    /// Reset.
    Reset,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault ends the connection")
    }
}

impl std::error::Error for Broken {}

type Answer = Result<Response<Full<Bytes>>, Broken>;

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service =
        hyper::service::service_fn(move |request| -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            Box::pin(answer(request, Arc::clone(&shared)))
        });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let broken = ended.err().and_then(|error| {
        std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Broken>().copied())
    });
    let stream = connection.into_parts().io.into_inner();
    if broken == Some(Broken::Reset) {
        // Where the option cannot be set the client sees a close instead: the nearest thing to it.
        let _ = stream.set_zero_linger();
    }
}

/// What a request asks for.
enum Route {
    Keys,
    Wire,
    BatchDeposit,
    Refund { coin: String },
    Deposits,
    Faults,
    Books,
    Aggregate,
    Rotate,
    Renew,
    Protocol,
}

impl Route {
    fn of(path: &str) -> Option<(Route, &'static str)> {
        Some(match path.strip_prefix('/')?.split('/').collect::<Vec<_>>()[..] {
            ["keys"] => (Route::Keys, "GET"),
            ["wire"] => (Route::Wire, "GET"),
            ["batch-deposit"] => (Route::BatchDeposit, "POST"),
            ["coins", coin, "refund"] => (
                Route::Refund {
                    coin: coin.to_owned(),
                },
                "POST",
            ),
            ["sandbox", "deposits"] => (Route::Deposits, "POST"),
            ["sandbox", "faults"] => (Route::Faults, "POST"),
            ["sandbox", "books"] => (Route::Books, "GET"),
            ["sandbox", "aggregate"] => (Route::Aggregate, "POST"),
            ["sandbox", "rotate"] => (Route::Rotate, "POST"),
            ["sandbox", "renew"] => (Route::Renew, "POST"),
            ["sandbox", "protocol"] => (Route::Protocol, "POST"),
            _ => return None,
        })
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Answer {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(send(&Reply::error(
                413,
                32,
                "The body of the request is too large.",
            )));
        }
        // The client went away in the middle of its body: there is nobody left to answer.
        Err(_) => return Err(Broken::Close),
    };
    let path = head.uri.path();
    shared.state().record(head.method.as_str(), path, &body);

    let known = Route::of(path).filter(|(route, _)| {
        // Its content moved into `/keys`.
        !matches!(route, Route::Wire) || shared.state().keys.protocol == Protocol::V14
    });
    let Some((route, method)) = known else {
        let hint = "There is no endpoint defined for the URL provided by the client.";
        let mut reply = Reply::error(404, 21, hint);
        reply.body["detail"] = json!(path);
        return Ok(send(&reply));
    };
    if head.method != method {
        let mut response = send(&Reply::error(
            405,
            20,
            "The HTTP method is invalid for this endpoint.",
        ));
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(method));
        return Ok(response);
    }
    match route {
        Route::Refund { coin } => {
            let coins: Vec<CoinPub> = coin.parse().into_iter().collect();
            let met = shared.state().faults.take(FaultPath::Refund, &coins);
            let now = shared.now();
            let kind = met.map(|fault| fault.kind);
            faulty(met, || shared.state().refund(&coin, &body, kind, now)).await
        }
        Route::Keys => {
            let met = shared.state().faults.take(FaultPath::Keys, &[]);
            faulty(met, || shared.keys(met.map(|fault| fault.kind))).await
        }
        Route::BatchDeposit => {
            let met = shared
                .state()
                .faults
                .take(FaultPath::Deposit, &named_coins(&body));
            let now = shared.now();
            let kind = met.map(|fault| fault.kind);
            faulty(met, || shared.state().batch_deposit(&body, kind, now)).await
        }
        Route::Wire => Ok(send(&Reply::ok(shared.state().keys.wire()))),
        other => Ok(send(&command(&other, &body, &shared))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deposits {
    deposits: Vec<Deposit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Speaks {
    protocol: Protocol,
}

/// The sandbox's own commands.
fn command(route: &Route, body: &[u8], shared: &Shared) -> Reply {
    let now = shared.now();
    let done = match route {
        Route::Books => Ok(shared.state().books.show()),
        Route::Rotate => Ok(json!({ "key": shared.state().keys.rotate(now) })),
        Route::Renew => {
            shared.state().keys.renew_denominations(now);
            Ok(json!({}))
        }
        Route::Protocol => read::<Speaks>(body).map(|Speaks { protocol }| {
            shared.state().keys.protocol = protocol;
            json!({})
        }),
        Route::Aggregate => read::<Aggregate>(if body.is_empty() { b"{}" } else { body })
            .map(|which| json!({ "aggregated": shared.state().books.aggregate(which, now) })),
        Route::Faults => read(body).and_then(|fault| {
            shared
                .state()
                .faults
                .add(fault)
                .map(|()| json!({}))
                .map_err(|error| detailed(&error))
        }),
        Route::Deposits => read::<Deposits>(body).and_then(|Deposits { deposits }| {
            let mut state = shared.state();
            let booked = deposits
                .into_iter()
                .try_for_each(|deposit| state.books.deposit(deposit, now));
            booked.map(|()| json!({})).map_err(|error| detailed(&error))
        }),
        Route::Keys | Route::Wire | Route::BatchDeposit | Route::Refund { .. } => {
            unreachable!("the exchange's own endpoints are answered before")
        }
    };
    done.map_or_else(|refusal| refusal, Reply::ok)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| detailed(&error))
}

fn detailed(error: &dyn fmt::Display) -> Reply {
    let mut reply = Reply::json_invalid();
    reply.body["detail"] = json!(error.to_string());
    reply
}

/// Does the work, or not, and answers as the fault wants it. The work is done before the delay, so that a client
/// that gives up waiting does not know what it does not know.
async fn faulty(met: Option<Fault>, work: impl FnOnce() -> Reply) -> Answer {
    let answer = match damaged(met.map(|fault| fault.kind), work) {
        Ok(Sent::Json(status, body)) => Ok(bytes(status, body)),
        Ok(Sent::Html) => Ok(html()),
        Err(broken) => Err(broken),
    };
    if let Some(fault) = met.filter(|fault| !fault.delay.is_zero()) {
        tokio::time::sleep(fault.delay).await;
    }
    answer
}

/// What goes out.
pub(crate) enum Sent {
    Json(u16, Bytes),
    /// The page of a proxy.
    Html,
}

/// Does the work, or not, and what the fault makes of the reply.
pub(crate) fn damaged(met: Option<FaultKind>, work: impl FnOnce() -> Reply) -> Result<Sent, Broken> {
    let whole = |reply: Reply| Ok(Sent::Json(reply.status, render(&reply.body)));
    match met {
        None | Some(FaultKind::Delay | FaultKind::UnknownKey) => whole(work()),
        Some(FaultKind::Reset) => Err(Broken::Reset),
        Some(FaultKind::Status { status, code }) => {
            let hint = "The sandbox was asked to fail like this.";
            whole(Reply::error(status, code, hint))
        }
        Some(FaultKind::Html) => Ok(Sent::Html),
        Some(FaultKind::LostReply) => {
            work();
            Err(Broken::Close)
        }
        Some(FaultKind::Garbage) => {
            let garbage = Bytes::from_static(b"\x00\xff{\"exchange_sig\":\x80");
            Ok(Sent::Json(work().status, garbage))
        }
        Some(FaultKind::Truncated) => {
            let reply = work();
            let body = render(&reply.body);
            Ok(Sent::Json(reply.status, body.slice(..body.len() / 2)))
        }
        Some(FaultKind::WrongSignature) => {
            let mut reply = work();
            spoil_signatures(&mut reply.body);
            whole(reply)
        }
    }
}

fn spoil_signatures(body: &mut Value) {
    let listed = body
        .get_mut("signkeys")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for sig in listed.filter_map(|key| key.get_mut("master_sig")) {
        *sig = json!(spoil(sig.as_str().expect("a signature is text")));
    }
    let confirmed = body
        .get_mut("exchange_sigs")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for sig in confirmed.filter_map(|coin| coin.get_mut("exchange_sig")) {
        *sig = json!(spoil(sig.as_str().expect("a signature is text")));
    }
    if let Some(sig) = body.get_mut("exchange_sig") {
        *sig = json!(spoil(sig.as_str().expect("a signature is text")));
    }
}

impl State {
    /// Asks the books for a refund.
    pub(crate) fn refund(&mut self, coin: &str, body: &[u8], met: Option<FaultKind>, now: Micros) -> Reply {
        self.books.refund(coin, body, self.keys.signer(met), now)
    }

    /// Asks the books for a batch of deposits.
    pub(crate) fn batch_deposit(&mut self, body: &[u8], met: Option<FaultKind>, now: Micros) -> Reply {
        let signer = self.keys.signer(met);
        match Batch::read(body, &self.keys, signer, now) {
            Ok(batch) => self.books.deposit_batch(&batch, signer, self.keys.protocol, now),
            Err(refusal) => refusal,
        }
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.iter().cloned().collect()
    }

    fn record(&mut self, method: &str, path: &str, body: &[u8]) {
        self.recorded_bytes += body.len();
        self.requests.push_back(RecordedRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.to_vec(),
        });
        while self.requests.len() > MAX_RECORDED_REQUESTS || self.recorded_bytes > MAX_RECORDED_BYTES {
            let Some(forgotten) = self.requests.pop_front() else {
                break;
            };
            self.recorded_bytes -= forgotten.body.len();
        }
    }
}

fn render(body: &Value) -> Bytes {
    // Indented by two, as the recorded exchange prints it.
    Bytes::from(serde_json::to_vec_pretty(body).expect("a JSON value can be printed"))
}

fn send(reply: &Reply) -> Response<Full<Bytes>> {
    bytes(reply.status, render(&reply.body))
}

fn bytes(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() =
        StatusCode::from_u16(status).expect("statuses are constants or checked when set");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    response
}

/// The proxy's page.
pub(crate) const HTML: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
     <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

fn html() -> Response<Full<Bytes>> {
    let mut response = bytes(502, Bytes::from_static(HTML.as_bytes()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_oldest_requests_are_forgotten_by_number_and_by_size() {
        let config = SandboxConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            currency: "KUDOS".parse().unwrap(),
            seed: 1,
            clock: crate::system_clock(),
        };
        let shared = Shared::new(&config, config.bind);
        let mut state = shared.state();
        state.record("GET", "/first", b"");
        for _ in 0..MAX_RECORDED_REQUESTS {
            state.record("GET", "/keys", b"");
        }
        assert_eq!(state.requests.len(), MAX_RECORDED_REQUESTS);
        assert_eq!(state.requests[0].path, "/keys");

        let half = vec![0; MAX_RECORDED_BYTES / 2];
        for path in ["/a", "/b", "/c"] {
            state.record("POST", path, &half);
        }
        let left: Vec<_> = state
            .requests
            .iter()
            .map(|request| request.path.as_str())
            .collect();
        assert_eq!(left, ["/b", "/c"]);
        assert_eq!(state.recorded_bytes, MAX_RECORDED_BYTES);
    }
}
