//! A witness for tests: cosigns checkpoints of the logs that it knows, one history each, and forgets everything when
//! it stops. Specification: C2SP tlog-witness, `add-checkpoint`. Check and store are one step under one lock, and
//! nothing is answered before it is stored.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use quittance_tlog::note::{KeyName, VerifierKey};
use quittance_tlog::proof::verify_consistency;
use quittance_tlog::witness::{AddCheckpoint, SIZE_CONTENT_TYPE};
use quittance_tlog::{Checkpoint, Cosigner, CosignerKey, Frontier, Hash};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::Clock;

/// The longest request: 63 hashes and a checkpoint with room for signatures.
const REQUEST_MAX: usize = 64 * 1024;

/// What goes wrong with the requests to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WitnessFault {
    /// Nothing.
    #[default]
    None,
    /// It answers 500.
    Down,
    /// It answers after this.
    Slow(Duration),
    /// It answers 200 with something that is no cosignature.
    Garbage,
    /// It answers 200 with the cosignature that it made last, of another checkpoint.
    Stale,
}

struct State {
    /// Keys of the logs that it knows.
    logs: Vec<VerifierKey>,
    /// The checkpoint that it cosigned last, by origin.
    cosigned: HashMap<String, (u64, Hash)>,
    /// Its last answer.
    last: String,
    fault: WitnessFault,
    asked: u64,
}

struct Shared {
    cosigner: Cosigner,
    clock: Clock,
    state: Mutex<State>,
}

impl Shared {
    /// A panic in one request shall not hide behind failures of all others.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running witness. Dropping it stops it.
pub struct Witness {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Witness {
    /// Starts a witness on loopback that knows no log yet. Its key follows from the seed.
    ///
    /// # Errors
    /// No port could be had.
    ///
    /// # Panics
    /// Never: the name is one that keys can have.
    pub async fn start(seed: u8, clock: Clock) -> io::Result<Witness> {
        let name = KeyName::new(format!("witness.example/w{seed}")).expect("a plain name");
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            cosigner: Cosigner::new(name, &[seed; 32]),
            clock,
            state: Mutex::new(State {
                logs: Vec::new(),
                cosigned: HashMap::new(),
                last: String::new(),
                fault: WitnessFault::None,
                asked: 0,
            }),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Witness {
            addr,
            shared,
            accepting,
        })
    }

    /// Where it is asked: `http://HOST:PORT/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Its key.
    #[must_use]
    pub fn vkey(&self) -> CosignerKey {
        self.shared.cosigner.verifier()
    }

    /// Cosigns for this log from now on.
    pub fn know(&self, log: VerifierKey) {
        self.shared.state().logs.push(log);
    }

    /// What it does with requests from now on.
    pub fn fault(&self, fault: WitnessFault) {
        self.shared.state().fault = fault;
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.shared.state().asked
    }

    /// The size that it cosigned last for this origin.
    #[must_use]
    pub fn cosigned(&self, origin: &str) -> Option<u64> {
        self.shared.state().cosigned.get(origin).map(|(size, _)| *size)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            // A client that went away is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Reply = Response<Full<Bytes>>;

fn text(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text.into())));
    *reply.status_mut() = status;
    reply
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    if head.uri.path() != "/add-checkpoint" {
        return Ok(text(StatusCode::NOT_FOUND, "no such endpoint\n"));
    }
    if head.method != Method::POST {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "POST\n"));
    }
    let Ok(body) = Limited::new(body, REQUEST_MAX).collect().await else {
        return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "too long\n"));
    };
    let fault = {
        let mut state = shared.state();
        state.asked += 1;
        state.fault
    };
    match fault {
        WitnessFault::Down => return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, "down\n")),
        WitnessFault::Garbage => return Ok(text(StatusCode::OK, "thank you\n")),
        WitnessFault::Slow(pause) => tokio::time::sleep(pause).await,
        WitnessFault::None | WitnessFault::Stale => {}
    }
    let request = String::from_utf8_lossy(&body.to_bytes()).parse::<AddCheckpoint>();
    Ok(match request {
        Ok(request) => add_checkpoint(&request, &shared, fault),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    })
}

/// The order of the checks is the specification's.
fn add_checkpoint(request: &AddCheckpoint, shared: &Shared, fault: WitnessFault) -> Reply {
    let claimed = request.checkpoint();
    let mut state = shared.state();
    let keys: Vec<VerifierKey> = state
        .logs
        .iter()
        .filter(|key| key.name().as_str() == claimed.origin)
        .cloned()
        .collect();
    if keys.is_empty() {
        return text(StatusCode::NOT_FOUND, "unknown log\n");
    }
    let Ok(checkpoint) = Checkpoint::verify(request.note(), &keys) else {
        return text(StatusCode::FORBIDDEN, "not signed by the log\n");
    };
    if request.old() > checkpoint.size {
        return text(StatusCode::BAD_REQUEST, "the old size is beyond the checkpoint\n");
    }
    let empty = (0, Frontier::default().root());
    let (old, root) = state.cosigned.get(&checkpoint.origin).copied().unwrap_or(empty);
    let conflict = || {
        let mut reply = text(StatusCode::CONFLICT, format!("{old}\n"));
        reply
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(SIZE_CONTENT_TYPE));
        reply
    };
    if request.old() != old || (old == checkpoint.size && old != 0 && root != checkpoint.root) {
        return conflict();
    }
    if verify_consistency(old, &root, checkpoint.size, &checkpoint.root, request.proof()).is_err() {
        return text(StatusCode::UNPROCESSABLE_ENTITY, "not consistent\n");
    }
    if fault == WitnessFault::Stale {
        return text(StatusCode::OK, state.last.clone());
    }
    let seconds = (shared.clock)().floor_s().seconds().unwrap_or_default();
    match shared.cosigner.sign(request.note(), seconds) {
        Ok(line) => {
            state
                .cosigned
                .insert(checkpoint.origin, (checkpoint.size, checkpoint.root));
            state.last = format!("{line}\n");
            text(StatusCode::OK, state.last.clone())
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
