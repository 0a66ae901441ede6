//! An import of many paid orders of one coin, by the library as the command calls it, against what it cannot be faster
//! than: bare Ed25519 signatures on all cores that the writer uses, and bare SQLite commits of the bytes that it stored.
//! Prints figures and judges nothing. How to read it: `docs/performance.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use quittance::clock::Clock;
use quittance::commands::{self, NewInstance};
use quittance::config::Config;
use quittance::import::{Summary, Watch, import};
use quittance_events::InstanceId;
use quittance_taler::{EddsaPrivateKey, MerchantPub, Micros};
use rusqlite::{Connection, params};
use serde_json::json;
use support::{flush_time, folder, median, per_second, ratio, setting};

const START_S: u64 = 1_795_226_400;
const EXCHANGE: &str = "F80MFRG8HVH6R9CQ47KRFQSJP3T6DBJ4K1D9B703RJY3Z39TBMJ0";
/// Appends in one of the writer's commits.
const COMMIT: usize = 256;

struct Silent;

impl Watch for Silent {
    fn skipped(&mut self, line: u64, _order: Option<&str>, reason: &str) {
        panic!("line {line} was skipped: {reason}");
    }

    fn went_on(&mut self, _bytes: u64, _summary: &Summary) {}
}

/// As a shop's export has them: about 2 KB, a few products, one coin with all that is known of its deposit.
fn write_orders(path: &Path, count: usize, merchant_pub: MerchantPub) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let (hash, signature) = ("0".repeat(103), "0".repeat(103));
    let products: Vec<_> = (0..4)
        .map(|number| {
            json!({"product_id": format!("article-{number}"), "description": "A pair of boots, brown, lined with wool",
                   "quantity": 1, "unit": "pair", "price": "KUDOS:2.5", "delivery_date": {"t_s": START_S + 86_400}})
        })
        .collect();
    for number in 0..count {
        let line = json!({
            "contract_terms": {
                "version": 0, "order_id": format!("2026.325-{number:08}"), "amount": "KUDOS:10", "summary": "Four pairs of boots",
                "max_fee": "KUDOS:0.1", "nonce": EXCHANGE, "h_wire": hash, "wire_method": "x-taler-bank",
                "timestamp": {"t_s": START_S}, "pay_deadline": {"t_s": START_S + 600},
                "refund_deadline": {"t_s": START_S + 86_400}, "wire_transfer_deadline": {"t_s": START_S + 172_800},
                "merchant": {"name": "Boots and more", "address": {}, "jurisdiction": {}},
                "merchant_pub": merchant_pub, "merchant_base_url": "https://shop.example/", "products": products,
                "fulfillment_url": format!("https://shop.example/thanks/{number}"),
                "exchanges": [{"url": "https://exchange.example/", "master_pub": EXCHANGE, "priority": 1}],
            },
            "deposits": [{
                "coin_pub": EXCHANGE, "exchange_url": "https://exchange.example/", "amount_with_fee": "KUDOS:10",
                "deposit_fee": "KUDOS:0.01", "refund_fee": "KUDOS:0.01", "h_denom": hash, "coin_sig": signature,
                "exchange_pub": EXCHANGE, "exchange_sig": signature, "exchange_timestamp": {"t_s": START_S + 5},
            }],
            "paid": true,
        });
        writeln!(file, "{line}").unwrap();
    }
    file.flush().unwrap();
}

fn shop(folder: &Path, clock: &Clock) -> (Config, MerchantPub) {
    let text = format!(
        "[taler]\nCURRENCY = KUDOS\n[merchant]\nSERVE = tcp\nPORT = 0\nBASE_URL = https://shop.example/\n\
         [merchant-exchange-x]\nEXCHANGE_BASE_URL = https://exchange.example/\nMASTER_KEY = {EXCHANGE}\nCURRENCY = KUDOS\n\
         [quittance]\nLEDGER = ledger.sqlite3\nANCHOR = anchor/ledger.anchor\nKEYS = keys/\nORIGIN = shop.example/bench\n"
    );
    let file = folder.join("quittance.conf");
    std::fs::write(&file, text).unwrap();
    let key = folder.join("merchant.key");
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = Config::load(&file).unwrap();
    commands::init(&config, clock).unwrap();
    let new = NewInstance {
        id: InstanceId::root(),
        name: None,
        merchant_key: Some(key),
        token_file: None,
    };
    commands::add_instance(&config, clock, &new).unwrap();
    (config, EddsaPrivateKey::from_bytes([7; 32]).merchant_pub())
}

type Rows = Vec<(i64, Vec<u8>, Vec<u8>)>;
type Attachments = Vec<(i64, String, Vec<u8>, Vec<u8>)>;

/// What the import stored.
fn stored(ledger: &Path) -> (Rows, Attachments) {
    let conn = Connection::open(ledger).unwrap();
    let mut events = conn
        .prepare("SELECT seq, sealed, signature FROM event WHERE seq > 2 ORDER BY seq")
        .unwrap();
    let events = events
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    let mut attachments = conn
        .prepare("SELECT seq, name, salt, bytes FROM attachment WHERE seq > 2 ORDER BY seq")
        .unwrap();
    let attachments = attachments
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap();
    (
        events.map(Result::unwrap).collect(),
        attachments.map(Result::unwrap).collect(),
    )
}

/// The tables, the settings, the bytes and as many orders to a commit; nothing else. Orders a second.
fn inserts(folder: &Path, events: &Rows, attachments: &Attachments) -> f64 {
    let mut conn = Connection::open(folder.join("bare.sqlite3")).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.pragma_update(None, "synchronous", "FULL").unwrap();
    conn.execute_batch(
        "CREATE TABLE event (seq INTEGER PRIMARY KEY, sealed BLOB NOT NULL, signature BLOB NOT NULL) STRICT;
         CREATE TABLE attachment (seq INTEGER, name TEXT, salt BLOB, bytes BLOB, PRIMARY KEY (seq, name)) STRICT",
    )
    .unwrap();
    let each = events.len() / attachments.len();
    let start = Instant::now();
    for (events, attachments) in events.chunks(each * COMMIT).zip(attachments.chunks(COMMIT)) {
        let tx = conn.transaction().unwrap();
        for (seq, sealed, signature) in events {
            tx.prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3)")
                .unwrap()
                .execute(params![seq, sealed, signature])
                .unwrap();
        }
        for (seq, name, salt, bytes) in attachments {
            tx.prepare_cached("INSERT INTO attachment VALUES (?1, ?2, ?3, ?4)")
                .unwrap()
                .execute(params![seq, name, salt, bytes])
                .unwrap();
        }
        tx.commit().unwrap();
    }
    per_second(attachments.len(), start.elapsed())
}

/// Signatures alone, on two cores as the writer makes them. Orders a second.
fn signatures(events: &Rows, orders: usize) -> f64 {
    let key = EddsaPrivateKey::from_bytes([1; 32]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for half in events.chunks(events.len().div_ceil(2)) {
            let key = &key;
            scope.spawn(move || {
                for (_, sealed, _) in half {
                    std::hint::black_box(key.sign(sealed));
                }
            });
        }
    });
    per_second(orders, start.elapsed())
}

fn main() {
    let rounds = setting("QUITTANCE_BENCH_ROUNDS", 3);
    let orders = setting("QUITTANCE_BENCH_ORDERS", 50_000);
    let clock: Clock = Arc::new(|| Micros::from_s(START_S).unwrap());
    let (mut rates, mut known, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let folder = folder();
        let (config, merchant_pub) = shop(folder.path(), &clock);
        let file = folder.path().join("orders.ndjson");
        write_orders(&file, orders, merchant_pub);
        let flush = flush_time(folder.path());
        let run = |clock: &Clock| {
            let start = Instant::now();
            let input = std::fs::File::open(&file).unwrap();
            let summary = import(&config, clock, input, false, &mut Silent).unwrap();
            (per_second(orders, start.elapsed()), summary)
        };
        let (ours, summary) = run(&clock);
        assert_eq!(summary.recorded, u64::try_from(orders).unwrap());
        let (again, summary) = run(&clock);
        assert_eq!(summary.known, u64::try_from(orders).unwrap());
        let (events, attachments) = stored(&config.ledger);
        let sqlite = inserts(folder.path(), &events, &attachments);
        let ed25519 = signatures(&events, orders);
        let of_round = ratio(ours, sqlite.min(ed25519));
        println!(
            "round {round}: {ours:.0} orders/s, again {again:.0}/s; bare SQLite {sqlite:.0}/s, bare Ed25519 {ed25519:.0}/s, \
             flush {flush:?}, ratio {of_round:.3}"
        );
        rates.push(ours);
        known.push(again);
        ratios.push(of_round);
    }
    println!(
        "import: {:.0} orders/s, again {:.0} orders/s; ratio {:.3} (medians of {rounds} rounds of {orders} orders); \
         most memory {}",
        median(&rates),
        median(&known),
        median(&ratios),
        peak()
    );
}

/// The most memory that this process has held, as the kernel has it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().to_owned()
}
