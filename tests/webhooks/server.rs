//! A shop's own server: keeps what it hears and answers as it is told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The event's number, of a request that is signed with this secret.
    pub(crate) fn checked(&self, secret: &str) -> u64 {
        let event = &self.headers["quittance-event"];
        let (time, given) = self.headers["quittance-signature"].split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{time}.{event}.{}", self.body).as_bytes());
        mac.verify_slice(&HEXLOWER.decode(given.as_bytes()).unwrap())
            .unwrap();
        event.parse().unwrap()
    }
}

struct Shared {
    /// None: it never answers.
    answer: Mutex<Option<String>>,
    heard: Mutex<Vec<Heard>>,
}

pub(crate) struct Server {
    scheme: &'static str,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_with(None).await
    }

    /// One that speaks TLS, if it is told how.
    pub(crate) async fn start_with(acceptor: Option<TlsAcceptor>) -> Server {
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Some("204 No Content\r\n".into())),
            heard: Mutex::default(),
        });
        let kept = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&kept), acceptor.clone());
                tokio::spawn(async move {
                    let Some(acceptor) = acceptor else {
                        return hear(stream, &shared).await;
                    };
                    // A client that does not trust us is gone here.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        hear(stream, &shared).await;
                    }
                });
            }
        });
        Server { scheme, addr, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/hook?of=shop", self.scheme, self.addr)
    }

    /// Status line and headers of all answers from now on.
    pub(crate) fn answers(&self, head: &str) {
        *self.shared.answer.lock().unwrap() = Some(format!("{head}\r\n"));
    }

    /// Takes what comes from now on and says nothing to it.
    pub(crate) fn says_nothing(&self) {
        *self.shared.answer.lock().unwrap() = None;
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }
}

async fn hear(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut chunk).await.unwrap() {
            0 => return,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let read = stream.read(&mut chunk).await.unwrap();
        body.extend_from_slice(&chunk[..read]);
    }
    let body = String::from_utf8(body).unwrap();
    shared.heard.lock().unwrap().push(Heard { line, headers, body });
    let answer = shared.answer.lock().unwrap().clone();
    let Some(answer) = answer else {
        return std::future::pending().await;
    };
    let answer = format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).await;
}
