//! A crowd at the door: wallets that fetch refunds, and among them those who mean harm. What the wallets meet is
//! counted; what becomes of the others is told only so that it is seen that they did something.
//! The load generator of `benches/hostile.rs`, and of a short run among the tests.
#![allow(dead_code, unreachable_pub, reason = "each program uses what it needs of it")]
#![allow(clippy::unwrap_used, reason = "a load that fails should stop")]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The recorded wallet gives up after this.
const WALLET_PATIENCE: Duration = Duration::from_secs(15);
/// Wallets come anew after this many requests.
const REQUESTS_PER_CONNECTION: usize = 10;
/// Loopback addresses that wallets come from, and others. No multiple of the requests of a connection: else all wallets of
/// an address would come anew in the same moment, before their old connections are closed.
const WALLET_HOSTS: usize = 41;
const HOSTILE_HOSTS: usize = 10;

pub struct Plan {
    pub to: SocketAddr,
    /// What wallets ask for, in turn; each is answered 200.
    pub requests: Vec<Vec<u8>>,
    /// Connections of wallets, each with one request at a time.
    pub wallets: usize,
    /// A wallet's pause between an answer and its next request.
    pub pause: Duration,
    /// Connections of others.
    pub hostile: usize,
    pub length: Duration,
}

#[derive(Default)]
pub struct Outcome {
    /// Of answered requests, a new connection's making included.
    pub times: Vec<Duration>,
    /// One line a failed request.
    pub failures: Vec<String>,
    /// What the others did and got, and how often.
    pub hostile: BTreeMap<&'static str, u64>,
}

type Counts = Arc<Mutex<BTreeMap<&'static str, u64>>>;

pub async fn run(plan: &Plan) -> Outcome {
    let until = Instant::now() + plan.length;
    let requests: Arc<[Vec<u8>]> = plan.requests.clone().into();
    let (counts, mut wallets, mut others) = (Counts::default(), JoinSet::new(), JoinSet::new());
    for number in 0..plan.hostile {
        others.spawn(harm(number, plan.to, Arc::clone(&counts)));
    }
    for number in 0..plan.wallets {
        // Not all at the same moment.
        let first = plan.pause * u32::try_from(number).unwrap() / u32::try_from(plan.wallets).unwrap();
        let wallet = wallet(number, plan.to, Arc::clone(&requests), plan.pause, until);
        wallets.spawn(async move {
            sleep(first).await;
            wallet.await
        });
    }
    let mut outcome = Outcome::default();
    while let Some(wallet) = wallets.join_next().await {
        let (times, failures) = wallet.unwrap();
        outcome.times.extend(times);
        outcome.failures.extend(failures);
    }
    others.shutdown().await;
    outcome.hostile = std::mem::take(&mut *counts.lock().unwrap());
    outcome
}

async fn connect(net: u8, host: usize, to: SocketAddr, buffer: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(buffer) = buffer {
        socket.set_recv_buffer_size(buffer)?;
    }
    let host = Ipv4Addr::new(127, 0, net, u8::try_from(host + 1).unwrap());
    socket.bind(SocketAddr::from((host, 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn wallet(
    number: usize,
    to: SocketAddr,
    requests: Arc<[Vec<u8>]>,
    pause: Duration,
    until: Instant,
) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    let mut kept: Option<TcpStream> = None;
    let mut buffer = vec![0; 16 * 1024];
    for turn in number.. {
        if Instant::now() >= until {
            break;
        }
        if turn % REQUESTS_PER_CONNECTION == 0 {
            kept = None;
        }
        let start = Instant::now();
        let asked = async {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => connect(1, number % WALLET_HOSTS, to, None).await?,
            };
            stream.write_all(&requests[turn % requests.len()]).await?;
            match status(&mut stream, &mut buffer).await? {
                200 => Ok(stream),
                status => Err(io::Error::other(format!("status {status}"))),
            }
        };
        match timeout(WALLET_PATIENCE, asked).await {
            Ok(Ok(stream)) => {
                times.push(start.elapsed());
                kept = Some(stream);
            }
            Ok(Err(error)) => failures.push(format!("wallet {number}: {error}")),
            Err(_) => failures.push(format!("wallet {number}: no answer in time")),
        }
        sleep(pause).await;
    }
    (times, failures)
}

/// Reads one answer to its end.
async fn status(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u16> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).map_err(io::Error::other)?;
        let length = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Ok(0), |(_, length)| length.parse::<usize>())
            .map_err(io::Error::other)?;
        if filled >= head + 4 + length {
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.ok_or_else(|| io::Error::other("no status"));
        }
    }
}

/// One who means harm, over and over. Ends when it is dropped.
async fn harm(number: usize, to: SocketAddr, counts: Counts) {
    let host = number / 7 % HOSTILE_HOSTS;
    let count = |what| *counts.lock().unwrap().entry(what).or_default() += 1;
    loop {
        let buffer = (number % 7 == 4).then_some(4096);
        let Ok(mut stream) = connect(2, host, to, buffer).await else {
            count("not connected");
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (done, pause) = match number % 7 {
            0 => (slow_head(&mut stream).await, 10),
            1 => (silence(&mut stream).await, 10),
            2 => (oversized(&mut stream, number).await, 100),
            3 => (garbage(&mut stream, number).await, 50),
            4 => (slow_reader(&mut stream).await, 10),
            5 => (slow_body(&mut stream).await, 10),
            _ => {
                flood(host, to, &count).await;
                ("flooded with connections", 20)
            }
        };
        count(done);
        drop(stream);
        sleep(Duration::from_millis(pause)).await;
    }
}

async fn slow_head(stream: &mut TcpStream) -> &'static str {
    let head = b"POST /orders/a/refund HTTP/1.1\r\nx: ";
    for byte in head.iter().chain([b'y'].iter().cycle()) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    "heads byte by byte, cut off"
}

async fn silence(stream: &mut TcpStream) -> &'static str {
    // An end, however it comes, is all that is waited for.
    let _ = stream.read(&mut [0; 64]).await;
    "silent connections, ended"
}

async fn oversized(stream: &mut TcpStream, number: usize) -> &'static str {
    let large = "y".repeat(if number.is_multiple_of(2) { 64 } else { 400 } * 1024);
    let (request, done) = if number.is_multiple_of(2) {
        (
            format!("GET /config HTTP/1.1\r\nx: {large}\r\n\r\n"),
            "heads too long, refused",
        )
    } else {
        let length = large.len();
        let request =
            format!("POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{large}");
        (request, "bodies too long, refused")
    };
    let _ = stream.write_all(request.as_bytes()).await;
    let mut buffer = vec![0; 4096];
    match status(stream, &mut buffer).await {
        Ok(413 | 431) => done,
        Ok(503) => "told 503",
        Ok(_) => "too long, answered otherwise",
        Err(_) => "too long, cut off",
    }
}

async fn garbage(stream: &mut TcpStream, number: usize) -> &'static str {
    let mut seed = u32::try_from(number).unwrap() + 1;
    let noise: Vec<u8> = (0..2048)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        })
        .collect();
    let _ = stream.write_all(&noise).await;
    let _ = timeout(Duration::from_secs(1), stream.read(&mut [0; 256])).await;
    "garbage, ended"
}

async fn slow_reader(stream: &mut TcpStream) -> &'static str {
    let requests = b"GET /config HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
    // Nothing is ever read; this ends when the service cuts it off.
    while stream.write_all(&requests).await.is_ok() {}
    "readers that do not read, cut off"
}

async fn slow_body(stream: &mut TcpStream) -> &'static str {
    let head = b"POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n";
    let mut sent = stream.write_all(head).await;
    while sent.is_ok() {
        sleep(Duration::from_millis(100)).await;
        sent = stream.write_all(b" ").await;
    }
    "bodies byte by byte, refused"
}

/// More connections than an address may have, each with a request at once, all held.
async fn flood(host: usize, to: SocketAddr, count: &impl Fn(&'static str)) {
    let mut held = Vec::new();
    let mut buffer = vec![0; 4096];
    for _ in 0..30 {
        let asked = async {
            let mut stream = connect(2, host, to, None).await?;
            stream
                .write_all(b"GET /config HTTP/1.1\r\nhost: a\r\n\r\n")
                .await?;
            let status = status(&mut stream, &mut buffer).await?;
            held.push(stream);
            Ok::<_, io::Error>(status)
        };
        match timeout(WALLET_PATIENCE, asked).await {
            Ok(Ok(503)) => count("told 503"),
            Ok(Ok(_)) => count("let in"),
            Ok(Err(_)) => count("closed without a word"),
            Err(_) => count("left without an answer"),
        }
    }
}
