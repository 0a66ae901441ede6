//! What these tests need beside the shop: raw requests, the number of events, spellings of base32, an exchange that
//! says what a test wants.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quittance_sandbox::{Sandbox, SandboxConfig};
use quittance_taler::{CoinPub, HashCode};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Coin, NOON_S, Options, Shop, TestClock};

/// How many events the ledger of a running service has.
pub(crate) fn count(shop: &Shop) -> i64 {
    let file = Connection::open_with_flags(shop.ledger(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    file.query_row("SELECT count(*) FROM event", [], |row| row.get(0))
        .unwrap()
}

/// A token in a file as an operator keeps it.
pub(crate) fn token_file(folder: &Path, name: &str, token: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, token).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    file
}

/// Sends bytes as they are, and reads what comes until the server closes: status and body.
pub(crate) async fn raw(addr: SocketAddr, request: &[u8]) -> (u16, Vec<u8>) {
    let reply = raw_whole(addr, request).await;
    let head = find(&reply, b"\r\n\r\n").unwrap_or_else(|| panic!("no reply to {:?}", lossy(request)));
    let status = lossy(&reply[..head]).split(' ').nth(1).unwrap().parse().unwrap();
    (status, reply[head + 4..].to_vec())
}

/// The same, with the head as it came.
pub(crate) async fn raw_whole(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // A server that has refused a long body need not read the rest of it.
    let _ = stream.write_all(request).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    reply
}

/// The beginning of it as text, for messages.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Another text for the same coin: lower case, O for 0, L for 1, and pad bits that are set.
pub(crate) fn respelt(coin: &CoinPub) -> String {
    let text = coin.to_string();
    let alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let last = alphabet.find(&text[51..]).unwrap();
    let respelt: String = text[..51]
        .chars()
        .map(|symbol| match symbol {
            '0' => 'O',
            '1' => 'l',
            'V' => 'u',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    // 32 bytes are 51.2 symbols: the last four bits of the last symbol say nothing.
    let respelt = format!("{respelt}{}", &alphabet[last + 5..last + 6]);
    assert_eq!(respelt.parse::<CoinPub>().unwrap(), *coin);
    assert_ne!(respelt, text);
    respelt
}

/// A refund that was made before a takeover.
pub(crate) fn told_refund(coin: &Coin, id: u64, amount: &str, at_s: u64) -> Value {
    json!({"coin_pub": coin.coin_pub, "rtransaction_id": id, "amount": amount, "execution_time": {"t_s": at_s}})
}

/// Tells of refunds made elsewhere, and of nothing else.
pub(crate) async fn carry_in(shop: &Shop, id: &str, refunds: Vec<Value>) -> crate::support::Reply {
    let body = json!({"deposits": [], "paid": true, "refunds": refunds});
    shop.post_private(&format!("private/ledger/orders/{id}/deposits"), &body)
        .await
}

/// A hash of no contract.
pub(crate) fn other_hash() -> HashCode {
    HashCode::from_bytes([3; 64])
}

/// An address that says itself whether anybody came.
pub(crate) struct Trap(std::net::TcpListener);

impl Trap {
    pub(crate) fn set() -> Trap {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Trap(listener)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.0.local_addr().unwrap())
    }

    /// On loopback a connection stands in the queue as soon as it was attempted.
    pub(crate) fn nobody_came(&self) {
        let came = self.0.accept();
        assert!(
            came.as_ref()
                .is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
            "{came:?}"
        );
    }
}

/// Stands before a sandbox: hands `/keys` through, and answers refunds with what the test wants, byte for byte.
pub(crate) struct StandIn {
    pub(crate) addr: SocketAddr,
    upstream: Arc<Mutex<Option<SocketAddr>>>,
    script: Arc<Mutex<Vec<u8>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl StandIn {
    pub(crate) async fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let upstream = Arc::new(Mutex::new(None));
        let script = Arc::new(Mutex::new(Vec::new()));
        let (to, said) = (Arc::clone(&upstream), Arc::clone(&script));
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = whole_request(&mut stream).await;
                let reply = if request.starts_with(b"GET /keys ") {
                    let addr = to.lock().unwrap().unwrap();
                    let request = format!("GET /keys HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
                    let mut upstream = TcpStream::connect(addr).await.unwrap();
                    upstream.write_all(request.as_bytes()).await.unwrap();
                    let mut reply = Vec::new();
                    upstream.read_to_end(&mut reply).await.unwrap();
                    reply
                } else {
                    said.lock().unwrap().clone()
                };
                let _ = stream.write_all(&reply).await;
                let _ = stream.shutdown().await;
            }
        });
        StandIn {
            addr,
            upstream,
            script,
            accepting,
        }
    }

    /// A shop whose exchange is this.
    pub(crate) async fn shop(&self, options: Options) -> Shop {
        let url = format!("http://{}/", self.addr);
        let exchange = Some((url, master_pub().await, self.addr));
        let shop = Shop::open_with(Options { exchange, ..options }).await;
        *self.upstream.lock().unwrap() = Some(shop.sandbox.addr());
        shop
    }

    /// What refunds are answered with from now on.
    pub(crate) fn says(&self, status: &str, headers: &str, body: &str) {
        let reply = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        *self.script.lock().unwrap() = reply.into_bytes();
    }

    /// Nobody listens there any more.
    pub(crate) async fn gone(self) {
        self.accepting.abort();
        assert!(self.accepting.await.unwrap_err().is_cancelled());
    }
}

async fn whole_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        request.extend_from_slice(&chunk[..read]);
        let head = find(&request, b"\r\n\r\n");
        let length = head.map_or(0, |head| {
            let head = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let told = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            told.map_or(0, |told| told.trim().parse::<usize>().unwrap())
        });
        if read == 0 || head.is_some_and(|head| request.len() >= head + 4 + length) {
            return request;
        }
    }
}

/// The master key of every shop's sandbox: it follows from the seed, which is the same for all.
pub(crate) async fn master_pub() -> String {
    let sandbox = fixed_sandbox().await;
    let key = sandbox.master_pub().to_string();
    sandbox.stop().await;
    key
}

/// A sandbox like a shop's own, for tests that need its address before the shop opens.
pub(crate) async fn fixed_sandbox() -> Sandbox {
    Sandbox::start(SandboxConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        currency: "KUDOS".parse().unwrap(),
        seed: 11,
        clock: TestClock::at_s(NOON_S).clock(),
    })
    .await
    .unwrap()
}

/// Waits until the delivery of an answer is recorded, which nobody else waits for: then the status says this.
pub(crate) async fn taken(shop: &Shop, id: &str, hash: HashCode, amount: &str) {
    shop.until("the record of a delivery", async || {
        shop.status(id, hash).await.expect(200)["refund_taken"] == amount
    })
    .await;
}
