//! A stand-in for the recorded exchange: it replies what the real one replied, byte for byte, and keeps what it was
//! asked. It signs nothing and knows no rules; what was not recorded it cannot answer.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use quittance_taler::{CoinPub, HashCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fixtures::{self, Recording};

/// What happens to a request.
enum Act {
    Reply(u16, Bytes),
    /// It arrives, and the connection closes.
    Lose,
}

/// A refund request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As the client thought of it: its host and its path.
    pub(crate) url: String,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn id(&self) -> u64 {
        self.json()["rtransaction_id"].as_u64().unwrap()
    }
}

#[derive(Default)]
struct State {
    /// By coin and id. The last act stays.
    acts: HashMap<(String, u64), VecDeque<Act>>,
    asked: Vec<Asked>,
    /// Replies to batches of deposits, by contract.
    deposits: HashMap<String, (u16, Bytes)>,
    deposits_asked: Vec<Asked>,
}

pub(crate) struct StandIn {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl StandIn {
    pub(crate) async fn start() -> StandIn {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&state)));
                tokio::spawn(
                    // A lost reply is an error of the connection, and wanted.
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        StandIn {
            addr,
            state,
            accepting,
        }
    }

    /// With the replies of these recordings.
    pub(crate) async fn replaying(recordings: &[&Recording]) -> StandIn {
        let stand_in = StandIn::start().await;
        for recording in recordings {
            stand_in.replies((recording.coin(), recording.id()), recording);
        }
        stand_in
    }

    fn act(&self, (coin, id): (CoinPub, u64), act: Act) {
        self.state
            .lock()
            .unwrap()
            .acts
            .entry((coin.to_string(), id))
            .or_default()
            .push_back(act);
    }

    /// To the next request for that permission the recorded reply, whatever was recorded to be asked.
    pub(crate) fn replies(&self, permission: (CoinPub, u64), recording: &Recording) {
        let body = Bytes::copy_from_slice(recording.reply_raw().as_bytes());
        self.act(permission, Act::Reply(recording.reply_status(), body));
    }

    /// The next request for that permission arrives, and no reply ever comes.
    pub(crate) fn loses(&self, permission: (CoinPub, u64)) {
        self.act(permission, Act::Lose);
    }

    /// To every batch of deposits for this contract.
    pub(crate) fn replies_to_deposits(&self, h_contract: HashCode, status: u16, body: &Value) {
        let reply = (status, Bytes::from(body.to_string()));
        let mut state = self.state.lock().unwrap();
        state.deposits.insert(h_contract.to_string(), reply);
    }

    /// All requests for deposits so far.
    pub(crate) fn deposits_asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().deposits_asked.clone()
    }

    /// All refund requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes()
        .to_vec();
    let path = head.uri.path();
    let header = |name| {
        head.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    if path == "/keys" {
        return Ok(reply(200, Bytes::from(fixtures::bytes("keys.body.json"))));
    }
    let asked = Asked {
        method: head.method.to_string(),
        url: format!("http://{}{path}", header(HOST)),
        content_type: header(CONTENT_TYPE),
        body,
    };
    if path == "/batch-deposit" {
        let mut state = state.lock().unwrap();
        let contract = asked.json()["h_contract_terms"].clone();
        state.deposits_asked.push(asked);
        let (status, body) = &state.deposits[contract.as_str().unwrap()];
        return Ok(reply(*status, body.clone()));
    }
    let coin = path
        .strip_prefix("/coins/")
        .and_then(|rest| rest.strip_suffix("/refund"));
    let coin = coin
        .unwrap_or_else(|| panic!("{} {path} was not recorded", head.method))
        .to_owned();
    let permission = (coin, asked.id());
    let mut state = state.lock().unwrap();
    state.asked.push(asked);
    let acts = state
        .acts
        .get_mut(&permission)
        .unwrap_or_else(|| panic!("{permission:?} was not recorded"));
    let act = if acts.len() > 1 { acts.pop_front() } else { None };
    match act.as_ref().unwrap_or(&acts[0]) {
        Act::Reply(status, body) => Ok(reply(*status, body.clone())),
        Act::Lose => Err(std::io::Error::other("the reply is lost")),
    }
}

fn reply(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}
