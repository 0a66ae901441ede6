//! What the benchmarks share: figures from samples, the disk's flush time, and a load generator for HTTP/1.1 that
//! costs as little as possible, so that it measures the server and not itself. It understands nothing but replies
//! with a `content-length` on connections that stay open, which is what both servers under test send.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each benchmark uses what it needs of it"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quittance_events::copy;
use quittance_taler::EddsaPrivateKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A folder on the disk that is to be measured: `QUITTANCE_BENCH_DIR`, or the target folder's own.
pub fn folder() -> tempfile::TempDir {
    let base = std::env::var_os("QUITTANCE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    tempfile::TempDir::new_in(base).unwrap()
}

/// The sample that `per_mille` of all samples do not exceed.
pub fn quantile<T: Copy + Ord>(samples: &[T], per_mille: usize) -> T {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)]
}

/// The middle one; rounds are few and odd in number.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "figures for people"
)]
pub fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[allow(clippy::float_arithmetic, reason = "figures for people")]
pub fn ratio(a: f64, b: f64) -> f64 {
    a / b
}

/// A setting from the environment, or its default.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// How long the disk takes to make 4 KiB durable: median of 200 appends, each followed by `fdatasync`.
pub fn flush_time(folder: &Path) -> Duration {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("flush"))
        .unwrap();
    let times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    quantile(&times, 500)
}

/// What a round of requests came to.
pub struct Load {
    pub per_second: f64,
    /// Time of each request, from the first byte sent to the last byte received.
    pub times: Vec<Duration>,
    pub reply_bytes: usize,
}

/// Sends `requests` round and round over `connections` connections for `length`, each connection one request at a
/// time, from a thread of its own.
pub fn load(addr: SocketAddr, requests: &[Vec<u8>], connections: usize, length: Duration) -> Load {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let start = Instant::now();
                let mut tasks = tokio::task::JoinSet::new();
                for number in 0..connections {
                    let requests = requests.to_vec();
                    tasks.spawn(connection(addr, requests, number, start + length));
                }
                let mut times = Vec::new();
                let mut reply_bytes = 0;
                while let Some(done) = tasks.join_next().await {
                    let (more, bytes) = done.unwrap();
                    times.extend(more);
                    reply_bytes = bytes;
                }
                Load {
                    per_second: per_second(times.len(), start.elapsed()),
                    times,
                    reply_bytes,
                }
            })
        });
        thread.join().unwrap()
    })
}

async fn connection(
    addr: SocketAddr,
    requests: Vec<Vec<u8>>,
    first: usize,
    until: Instant,
) -> (Vec<Duration>, usize) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut body = 0;
    for number in first.. {
        let start = Instant::now();
        if start >= until {
            break;
        }
        stream
            .write_all(&requests[number % requests.len()])
            .await
            .unwrap();
        body = reply(&mut stream, &mut buffer).await;
        times.push(start.elapsed());
    }
    (times, body)
}

/// Reads one reply to its end; gives the length of its body.
async fn reply(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "the server hung up");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        assert!(
            buffer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&buffer[..filled])
        );
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        let length = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, length)| length.parse::<usize>().unwrap())
            .expect("a reply tells its length");
        if filled >= head + 4 + length {
            assert_eq!(filled, head + 4 + length, "one reply for one request");
            return length;
        }
    }
}

/// An HTTP/1.1 request as bytes.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: shop.example\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Commits that the database has seen: SQLite counts them in the header of its shared memory file.
pub fn commits(ledger: &Path) -> u32 {
    let mut name = ledger.as_os_str().to_owned();
    name.push("-shm");
    let header = std::fs::read(name).unwrap();
    u32::from_ne_bytes(header[8..12].try_into().unwrap())
}

/// Sealed bytes and signatures of the events after the first so many, as stored.
pub fn stored(ledger: &Path, after: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut stored = Vec::new();
    copy::Copy::open(ledger)
        .unwrap()
        .walk::<copy::CopyError>(|event| {
            let event = event.unwrap();
            stored.push((event.sealed, event.signature));
            Ok(())
        })
        .unwrap();
    stored.split_off(after)
}

/// Signatures alone, on one core.
pub fn signatures(stored: &[(Vec<u8>, Vec<u8>)]) -> f64 {
    let key = EddsaPrivateKey::from_bytes([1; 32]);
    let count = stored.len().min(20_000);
    let start = Instant::now();
    for (sealed, _) in &stored[..count] {
        std::hint::black_box(key.sign(sealed));
    }
    per_second(count, start.elapsed())
}

/// The table, the settings, the bytes and the batches; nothing else.
pub fn inserts(folder: &Path, stored: &[(Vec<u8>, Vec<u8>)], batch: usize) -> f64 {
    let mut conn = rusqlite::Connection::open(folder.join("bare.sqlite3")).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "synchronous", "FULL").unwrap();
    conn.execute_batch(
        "CREATE TABLE event (seq INTEGER PRIMARY KEY, sealed BLOB NOT NULL, signature BLOB NOT NULL) STRICT",
    )
    .unwrap();
    let start = Instant::now();
    let mut seq = 0_i64;
    for batch in stored.chunks(batch) {
        let tx = conn.transaction().unwrap();
        for (sealed, signature) in batch {
            seq += 1;
            tx.prepare_cached("INSERT INTO event (seq, sealed, signature) VALUES (?1, ?2, ?3)")
                .unwrap()
                .execute(rusqlite::params![seq, sealed, signature])
                .unwrap();
        }
        tx.commit().unwrap();
    }
    per_second(stored.len(), start.elapsed())
}

#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a batch is small and positive"
)]
pub fn whole(mean: f64) -> usize {
    mean.round().max(1.0) as usize
}
