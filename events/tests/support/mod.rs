//! A ledger in a folder of its own, and the events that tests put into it. Times are the test's: nothing here reads
//! a clock.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses what it needs of it"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use quittance_events::copy::Copy;
use quittance_events::facts::{
    AbortCoin, AbortCoinState, AbortRequested, ApprovedRow, DepositRecorded, ExchangeReplied,
    ExchangeUnreached, Failure, OrderRecorded, PaymentCompleted, PermissionName, RefundApproved,
    RefundRequested, Verdict,
};
use quittance_events::ledger::{Keys, OpenError, Paths};
use quittance_events::seal::EventKey;
use quittance_events::{
    Append, AppendError, Appended, AttachmentName, Event, Ledger, NewEvent, OrderKey, RefundId, Seq, Stream,
    create,
};
use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MasterPub, MerchantPub, Micros,
    Timestamp,
};
use quittance_tlog::note::{KeyName, NoteSigner};
use tempfile::TempDir;

pub const ORIGIN: &str = "shop.example/test";

/// When the tests' ledgers are made.
pub const START_S: u64 = 1_795_226_400;

/// So many seconds after the start.
pub fn at(seconds: u64) -> Micros {
    Micros::from_s(START_S + seconds).unwrap()
}

pub fn keys_of(event: u8, checkpoint: u8, origin: &str) -> Keys {
    Keys {
        event: EventKey::new(EddsaPrivateKey::from_bytes([event; 32])),
        checkpoint: NoteSigner::new(KeyName::new(origin).unwrap(), &[checkpoint; 32]),
    }
}

pub fn keys() -> Keys {
    keys_of(1, 2, ORIGIN)
}

/// A ledger's folder.
pub struct Home {
    pub folder: TempDir,
    pub paths: Paths,
}

impl Home {
    /// An empty folder.
    pub fn empty() -> Home {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("anchor")).unwrap();
        let paths = Paths {
            ledger: folder.path().join("ledger.sqlite3"),
            anchor: folder.path().join("anchor").join("ledger.anchor"),
        };
        Home { folder, paths }
    }

    /// A ledger of nothing but its genesis.
    pub fn new() -> Home {
        let home = Home::empty();
        create::init(&home.paths, &keys(), at(0)).unwrap();
        home
    }

    pub fn open(&self) -> Ledger {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Ledger, OpenError> {
        Ledger::open(&self.paths, keys(), "test")
    }

    /// A connection of somebody else to the same file.
    pub fn stranger(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.paths.ledger).unwrap()
    }

    /// Keeps the writer from committing until the connection is dropped.
    pub fn hold(&self) -> rusqlite::Connection {
        let conn = self.stranger();
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        conn
    }

    /// Events committed so far.
    pub fn count(&self) -> u64 {
        let count: i64 = self
            .stranger()
            .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
            .unwrap();
        count.try_into().unwrap()
    }

    /// Every event; the ledger must be closed.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        Copy::open(&self.paths.ledger)
            .unwrap()
            .walk::<quittance_events::copy::CopyError>(|event| {
                events.push(Event::parse_canonical(&event.unwrap().sealed).unwrap());
                Ok(())
            })
            .unwrap();
        events
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn anchor(&self) -> String {
        std::fs::read_to_string(&self.paths.anchor).unwrap()
    }
}

/// Waits for something that another thread brings about.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not come about");
}

pub fn copy_file(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

pub fn order_key(name: &str) -> OrderKey {
    OrderKey {
        instance: "default".parse().unwrap(),
        order: name.parse().unwrap(),
    }
}

pub fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

pub fn coin(number: usize) -> CoinPub {
    let mut bytes = [5; 32];
    bytes[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
    CoinPub::from_bytes(bytes)
}

pub fn id(number: u64) -> RefundId {
    RefundId::new(number).unwrap()
}

fn second(seconds: u64) -> Timestamp {
    Timestamp::from_s(START_S + seconds).unwrap()
}

pub fn terms() -> NewEvent {
    let facts = OrderRecorded {
        h_contract: HashCode::from_bytes([3; 64]),
        amount: amount("KUDOS:10"),
        timestamp_s: second(0),
        refund_deadline_s: second(86_400),
        wire_deadline_s: second(172_800),
        merchant_pub: MerchantPub::from_bytes([4; 32]),
        exchanges: Vec::new(),
        choice_index: None,
        by: None,
    };
    NewEvent::with(facts, AttachmentName::Terms, br#"{"summary":"boots"}"#.to_vec())
}

pub fn deposit(number: usize) -> NewEvent {
    NewEvent::bare(DepositRecorded {
        coin_pub: coin(number),
        exchange_master_pub: MasterPub::from_bytes([9; 32]),
        exchange_url: "https://exchange.example/".into(),
        amount_with_fee: amount("KUDOS:10"),
        deposit_fee: amount("KUDOS:0.1"),
        refund_fee: amount("KUDOS:0.1"),
        h_denom: None,
        coin_sig: None,
        exchange_pub: None,
        exchange_sig: None,
        exchange_timestamp_s: None,
        by: None,
    })
}

pub fn paid(coins: &[usize]) -> NewEvent {
    NewEvent::bare(PaymentCompleted {
        paid: amount("KUDOS:10"),
        coins: coins.iter().map(|number| coin(*number)).collect(),
        part: None,
        by: None,
    })
}

pub fn approved(refund: u64, coins: &[usize]) -> NewEvent {
    let facts = RefundApproved {
        total: amount("KUDOS:1"),
        execution_s: second(10),
        rows: coins
            .iter()
            .map(|number| ApprovedRow {
                coin_pub: coin(*number),
                rtransaction_id: id(refund),
                amount: amount("KUDOS:0.001"),
                merchant_sig: EddsaSignature::from_bytes([6; 64]),
            })
            .collect(),
        part: None,
        by: "token".parse().unwrap(),
    };
    NewEvent::with(facts, AttachmentName::Reason, b"returned".to_vec())
}

pub fn requested(refund: u64, coins: &[usize]) -> NewEvent {
    NewEvent::bare(RefundRequested {
        rows: coins
            .iter()
            .map(|number| PermissionName {
                coin_pub: coin(*number),
                rtransaction_id: id(refund),
            })
            .collect(),
        part: None,
    })
}

pub fn aborted(coins: &[(usize, AbortCoinState)]) -> NewEvent {
    let coin_of = |(number, state): &(usize, AbortCoinState)| {
        let deposited = *state == AbortCoinState::Deposited;
        AbortCoin {
            coin_pub: coin(*number),
            state: *state,
            amount: deposited.then(|| amount("KUDOS:10")),
            merchant_sig: deposited.then(|| EddsaSignature::from_bytes([6; 64])),
        }
    };
    let facts = AbortRequested {
        coins: coins.iter().map(coin_of).collect(),
        part: None,
    };
    NewEvent::with(facts, AttachmentName::Body, b"{}".to_vec())
}

pub fn replied(number: usize, refund: u64, attempt: u64, verdict: Verdict) -> NewEvent {
    let confirmed = verdict == Verdict::Confirmed;
    let facts = ExchangeReplied {
        coin_pub: coin(number),
        rtransaction_id: id(refund),
        attempt,
        http_status: if confirmed { 200 } else { 409 },
        error_code: (!confirmed).then_some(1506),
        exchange_pub: confirmed.then(|| ExchangePub::from_bytes([7; 32])),
        exchange_sig: confirmed.then(|| EddsaSignature::from_bytes([8; 64])),
        verdict,
    };
    NewEvent::with(
        facts,
        AttachmentName::Reply,
        br#"{"code":1506,"hint":"no"}"#.to_vec(),
    )
}

pub fn unreached(number: usize, refund: u64, attempt: u64) -> NewEvent {
    NewEvent::bare(ExchangeUnreached {
        coin_pub: coin(number),
        rtransaction_id: id(refund),
        attempt,
        failure: Failure::Timeout,
    })
}

/// The answer that the order makes possible, as the service would record it.
pub fn refund_answer(order: &quittance_events::Order, now: Micros) -> (NewEvent, Vec<u8>) {
    match quittance_events::answer::refund(order, now).unwrap() {
        quittance_events::answer::RefundAnswer::Recorded(answer) => {
            (NewEvent::bare(answer.facts.clone()), answer.body)
        }
        quittance_events::answer::RefundAnswer::NoContent => panic!("nothing to answer"),
    }
}

/// Decided on this state.
pub fn on(key: &OrderKey, moved: Seq, at: Micros, events: Vec<NewEvent>) -> Append {
    Append {
        stream: Stream::Order(key.clone(), moved),
        at,
        events,
    }
}

/// Appends on the order's latest state.
pub async fn append(ledger: &Ledger, key: &OrderKey, at: Micros, events: Vec<NewEvent>) -> Appended {
    try_append(ledger, key, at, events).await.unwrap()
}

pub async fn try_append(
    ledger: &Ledger,
    key: &OrderKey,
    at: Micros,
    events: Vec<NewEvent>,
) -> Result<Appended, AppendError> {
    let moved = ledger.order(key).unwrap().map_or(Seq::NONE, |order| order.moved);
    ledger.append(on(key, moved, at, events)).await
}

/// An order that is paid with these coins, refunded under id 1 with a row each, and asked for.
pub async fn refunding(ledger: &Ledger, key: &OrderKey, coins: &[usize]) -> Appended {
    let mut events = vec![terms()];
    events.extend(coins.iter().map(|number| deposit(*number)));
    events.extend([paid(coins), approved(1, coins), requested(1, coins)]);
    append(ledger, key, at(10), events).await
}
