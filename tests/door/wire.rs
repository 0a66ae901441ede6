//! A client that says exactly the bytes it is told to, from an address of its choice.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::Shop;

/// Far longer than anything takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    /// Read and not yet asked for.
    rest: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// It is the answer to too much, of this sort.
    pub(crate) fn is_overload(&self, detail: &str) {
        assert_eq!(self.status, 503, "{self:?}");
        assert_eq!(self.header("retry-after"), Some("2"));
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body = self.json();
        assert_eq!((&body["code"], &body["detail"]), (&77.into(), &detail.into()));
    }
}

impl Wire {
    /// From 127.0.0.`host`.
    pub(crate) async fn from(host: u8, to: SocketAddr) -> Wire {
        Wire::with_buffer(host, to, None).await
    }

    /// With a receive buffer of this many bytes at most.
    pub(crate) async fn with_buffer(host: u8, to: SocketAddr, buffer: Option<u32>) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(buffer) = buffer {
            socket.set_recv_buffer_size(buffer).unwrap();
        }
        socket
            .bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))
            .unwrap();
        let stream = socket.connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let rest = Vec::new();
        Wire { stream, rest }
    }

    pub(crate) async fn to(shop: &Shop) -> Wire {
        Wire::from(1, shop.app().addr()).await
    }

    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// As [`Wire::say`], where the other side may have hung up on it already.
    pub(crate) async fn try_to_say(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(text.as_ref()).await.is_ok()
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.rest));
        match read.await.expect("it says nothing and does not hang up") {
            Ok(bytes) => bytes > 0,
            // A reset is an end, too.
            Err(_) => false,
        }
    }

    /// The next answer; `None` where the connection ends before one is whole.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = String::from_utf8(self.rest.drain(..end + 4).collect()).unwrap();
        let mut answer = Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |text| text.parse().unwrap());
        while self.rest.len() < length {
            if !self.more().await {
                return None;
            }
        }
        answer.body = self.rest.drain(..length).collect();
        Some(answer)
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.next().await.expect("an answer")
    }

    /// The other side hangs up without another byte.
    pub(crate) async fn ends(&mut self) {
        assert!(
            !self.more().await && self.rest.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&self.rest)
        );
    }

    /// A whole request and its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.say(request).await;
        self.answer().await
    }
}

pub(crate) fn get(path: &str) -> String {
    get_with(path, "")
}

/// With further header lines, each ended.
pub(crate) fn get_with(path: &str, lines: &str) -> String {
    format!("GET /{path} HTTP/1.1\r\nhost: shop.example\r\n{lines}\r\n")
}

pub(crate) fn post(path: &str, body: &str) -> String {
    post_with(path, "", body)
}

pub(crate) fn post_with(path: &str, lines: &str, body: &str) -> String {
    format!(
        "POST /{path} HTTP/1.1\r\nhost: shop.example\r\n{lines}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
