//! A crowd at the door of the program itself: wallets that fetch refunds over three quarters of the connections, a
//! quarter hostile (slow, silent, oversized, garbage, readers that do not read, floods), from loopback addresses of
//! their own. First the wallets alone, then with the others. Prints times, failed wallet requests and the program's
//! memory; exits 1 if a wallet's request failed or the memory went on growing. How to read it: `docs/performance.md`.
//!
//! `cargo bench --bench hostile -- [--seconds N] [--connections N]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

#[path = "../tests/support/crowd.rs"]
mod crowd;
#[path = "../tests/support/mod.rs"]
mod shop;
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crowd::{Outcome, Plan};
use shop::{Options, Shop, coin};
use support::{post, quantile};

const ORDERS: usize = 64;
/// A wallet asks, reads, and waits this long.
const PAUSE: Duration = Duration::from_millis(500);
/// Memory is read this often.
const LOOK: Duration = Duration::from_secs(10);
/// Memory of the second half of an attack may be so much above that of the first: a burst of large bodies comes and goes,
/// and what is lost with each request would be far more, at thousands of them a second.
const GROWTH_MAX_KIB: u64 = 16 * 1024;
/// Shorter runs say nothing of growth.
const GROWTH_SEEN_AFTER: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    quittance::open_files::raise();
    let (seconds, connections) = (
        argument("--seconds", 120_u64),
        argument("--connections", 2000_usize),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut shop, requests) = runtime.block_on(prepare());
    runtime.block_on(shop.stop());
    let (mut program, addr) = start(&shop);
    let (wallets, length) = (connections - connections / 4, Duration::from_secs(seconds));
    println!(
        "{wallets} connections of wallets, {} hostile",
        connections - wallets
    );
    println!("memory at the start: {} KiB", resident(&program));
    let plan = Plan {
        to: addr,
        requests,
        wallets,
        pause: PAUSE,
        hostile: 0,
        length: length / 4,
    };
    let (alone, _) = runtime.block_on(watched(&plan, &program));
    let plan = Plan {
        hostile: connections - wallets,
        length,
        ..plan
    };
    let (beside, memory) = runtime.block_on(watched(&plan, &program));
    println!("memory at the end: {} KiB", resident(&program));
    for (what, count) in &beside.hostile {
        println!("hostile: {what}: {count}");
    }
    tell("wallets alone", &alone);
    tell("wallets beside the hostile quarter", &beside);
    let stopped = Command::new("kill")
        .args(["-TERM", &program.id().to_string()])
        .status()
        .unwrap();
    let ended = program.wait().unwrap();
    println!("stopped: {ended}");
    runtime.block_on(shop.audit());
    let (first, second) = memory.split_at(memory.len() / 2);
    let most = |half: &[u64]| half.iter().copied().max().unwrap_or(0);
    let grown = most(second).saturating_sub(most(first));
    println!("memory: {grown} KiB more in the second half of the attack than in the first");
    let leaks = length >= GROWTH_SEEN_AFTER && grown > GROWTH_MAX_KIB;
    let failed = alone.failures.len() + beside.failures.len();
    ExitCode::from(u8::from(
        leaks || failed > 0 || !stopped.success() || !ended.success(),
    ))
}

fn argument<T: std::str::FromStr<Err = std::num::ParseIntError>>(name: &str, default: T) -> T {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |text| text.parse().unwrap())
}

/// A shop whose orders are all refunded and fetched, and a request for each.
async fn prepare() -> (Shop, Vec<Vec<u8>>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let shop = Shop::open_with(Options {
        start_s: now.as_secs(),
        trusted_proxies: Some("none"),
        ..Options::default()
    })
    .await;
    let mut requests = Vec::new();
    for number in 0..ORDERS {
        let id = format!("order-{number}");
        let coins = [coin(1, "KUDOS:10", "KUDOS:0.01")];
        let hash = shop.sell(&id, "KUDOS:10", &coins, true).await;
        shop.approve(&id, "KUDOS:5").await.expect(200);
        let reply = shop.fetch(&id, hash).await.expect(200);
        assert_eq!(reply["refunds"][0]["type"], "success");
        requests.push(post(
            &format!("/orders/{id}/refund"),
            &format!("{{\"h_contract\":\"{hash}\"}}"),
        ));
    }
    (shop, requests)
}

fn start(shop: &Shop) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_quittance"))
        .arg("serve")
        .arg("-c")
        .arg(&shop.config.file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("listening on http://").unwrap();
    (child, addr.trim_end_matches('/').parse().unwrap())
}

/// Resident memory of the program in KiB, as the kernel tells it.
fn resident(program: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What came of it, and the program's memory meanwhile.
async fn watched(plan: &Plan, program: &Child) -> (Outcome, Vec<u64>) {
    let mut memory = Vec::new();
    let (begun, mut look) = (Instant::now(), tokio::time::interval(LOOK));
    look.tick().await;
    let mut run = std::pin::pin!(crowd::run(plan));
    loop {
        tokio::select! {
            outcome = &mut run => return (outcome, memory),
            _ = look.tick() => {
                memory.push(resident(program));
                println!("memory after {} s: {} KiB", begun.elapsed().as_secs(), resident(program));
            }
        }
    }
}

fn tell(who: &str, outcome: &Outcome) {
    println!(
        "{who}: {} requests, {} failed, p50 {:?}, p99 {:?}, longest {:?}",
        outcome.times.len() + outcome.failures.len(),
        outcome.failures.len(),
        quantile(&outcome.times, 500),
        quantile(&outcome.times, 990),
        quantile(&outcome.times, 1000),
    );
    for failure in outcome.failures.iter().take(10) {
        println!("    {failure}");
    }
}
