//! Ledgers for tests: a sound one that tells every kind of story, written by the real writer, and copies of it that
//! an operator with the keys could have forged.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "a module of tests is public to its tests only")]
#![allow(missing_docs, reason = "test helpers say by their names what they are")]
#![allow(clippy::wildcard_imports, reason = "every kind of event is told here")]

pub mod selling;
pub mod takeover;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use quittance_events::answer::{self, AbortAnswer, RefundAnswer};
use quittance_events::copy::{Copy, CopyError};
use quittance_events::create::{create, create_rotated, init};
use quittance_events::erase::erase;
use quittance_events::facts::*;
use quittance_events::keys::KeyRing;
use quittance_events::ledger::{Keys, Paths, vkey};
use quittance_events::receipt::Receipt;
use quittance_events::rotate::{NewKeys, Rotator};
use quittance_events::seal::EventKey;
use quittance_events::{
    Append, AttachmentName, Event, Facts, Folded, InstanceId, Ledger, NewEvent, Order, OrderKey, RefundId,
    Seq, Stream, TokenId,
};
use quittance_replay::{Finding, Report, VerifyOptions, verify};
use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MasterPub, Micros, Timestamp,
    contract_hash, json as taler_json, message,
};
use quittance_tlog::{KeyName, NoteSigner, VerifierKey};
use serde_json::json;
use tempfile::TempDir;

pub const ORIGIN: &str = "shop.example/quittance";
/// 2026-11-21 12:00:00 UTC.
pub const START_S: u64 = 1_795_262_400;
pub const DAY_S: u64 = 86_400;
const URL: &str = "https://exchange.example/";

pub fn secret(n: u8) -> EddsaPrivateKey {
    EddsaPrivateKey::from_bytes([n; 32])
}

pub fn keys() -> Keys {
    Keys {
        event: EventKey::new(secret(1)),
        checkpoint: NoteSigner::new(KeyName::new(ORIGIN).unwrap(), &[2; 32]),
    }
}

pub fn ledger_key() -> VerifierKey {
    vkey(ORIGIN, &keys().event.public().key()).unwrap()
}

pub fn event_key(n: u8) -> EventKey {
    EventKey::new(secret(n))
}

pub fn signer(n: u8) -> NoteSigner {
    NoteSigner::new(KeyName::new(ORIGIN).unwrap(), &[n; 32])
}

/// These event and checkpoint keys.
pub fn ring(event: &[u8], checkpoint: &[u8]) -> KeyRing {
    KeyRing {
        origin: KeyName::new(ORIGIN).unwrap(),
        event: event.iter().map(|n| event_key(*n)).collect(),
        checkpoint: checkpoint.iter().map(|n| signer(*n)).collect(),
    }
}

/// Rotates both keys of a ledger that nobody has open to 71, 72.
pub fn rotate_both(paths: &Paths, at: Micros) {
    let roles = [KeyRole::Event, KeyRole::Checkpoint];
    let rotator = Rotator::open(paths, keys().into(), &roles, None, "test").unwrap();
    let new = NewKeys {
        event: Some(event_key(71)),
        checkpoint: Some(signer(72)),
    };
    rotator.rotate(new, None, at).unwrap();
}

/// Erases an attachment of the event at this place, an index into the events.
pub fn erase_of(paths: &Paths, ring: KeyRing, place: usize, name: AttachmentName, at: Micros) -> Seq {
    let target = (Seq::new(u64::try_from(place).unwrap() + 1).unwrap(), name);
    erase(paths, ring, target, "asked to", at, "test", |_, _| None).unwrap()
}

pub fn merchant() -> EddsaPrivateKey {
    secret(3)
}

pub fn master_pub() -> MasterPub {
    MasterPub::from_bytes(secret(4).public_bytes())
}

pub fn signing_pub() -> ExchangePub {
    ExchangePub::from_bytes(secret(5).public_bytes())
}

pub fn amount(text: &str) -> Amount {
    format!("KUDOS:{text}").parse().unwrap()
}

pub fn coin(n: u16) -> CoinPub {
    let mut bytes = [0xc0; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    CoinPub::from_bytes(bytes)
}

pub fn second(s: u64) -> Timestamp {
    Timestamp::from_s(s).unwrap()
}

pub fn key(order: &str) -> OrderKey {
    OrderKey {
        instance: InstanceId::root(),
        order: order.parse().unwrap(),
    }
}

pub fn token() -> TokenId {
    "tk1".parse().unwrap()
}

pub fn refund_id(n: u64) -> RefundId {
    RefundId::new(n).unwrap()
}

pub fn permit(h_contract: &HashCode, coin: CoinPub, id: u64, amount: Amount) -> EddsaSignature {
    merchant().sign(&message::refund_request(h_contract, &coin, id, &amount))
}

pub fn signing_key(n: u8, start: u64, expire: u64) -> SignKey {
    let key = ExchangePub::from_bytes(secret(n).public_bytes());
    let (start_s, expire_s, end_s) = (second(start), second(expire), second(expire + 365 * DAY_S));
    let master_sig = secret(4).sign(&message::signing_key_validity(start_s, expire_s, end_s, &key));
    SignKey {
        key,
        start_s,
        expire_s,
        end_s,
        master_sig,
    }
}

pub fn keys_reply(keys: &[SignKey]) -> Vec<u8> {
    let time = |t: Timestamp| json!({"t_s": t.seconds()});
    let signkeys: Vec<_> = keys
        .iter()
        .map(|k| {
            json!({"key": k.key, "stamp_start": time(k.start_s), "stamp_expire": time(k.expire_s),
                   "stamp_end": time(k.end_s), "master_sig": k.master_sig})
        })
        .collect();
    serde_json::to_vec(&json!({"version": "14:0:2", "master_public_key": master_pub(), "signkeys": signkeys}))
        .unwrap()
}

pub fn keys_seen(keys: Vec<SignKey>) -> NewEvent {
    let reply = keys_reply(&keys);
    let facts = ExchangeKeysSeen {
        master_pub: master_pub(),
        url: URL.into(),
        signkeys: keys,
    };
    NewEvent::with(facts, AttachmentName::Keys, reply)
}

/// A ledger being written, with its own clock.
pub struct World {
    pub dir: TempDir,
    pub ledger: Ledger,
    pub now: Micros,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let now = Micros::from_s(START_S).unwrap();
        init(&paths, &keys(), now).unwrap();
        let ledger = Ledger::open(&paths, keys(), "test").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        World {
            dir,
            ledger,
            now,
            runtime,
        }
    }

    /// With the instance that orders are of.
    pub fn open() -> World {
        let mut w = World::new();
        let added = InstanceAdded {
            merchant_pub: merchant().merchant_pub(),
            base_url: "https://shop.example/".into(),
            currency: amount("0").currency(),
            by: None,
        };
        let stream = Stream::Ledger(Some(InstanceId::root()));
        w.append(stream, vec![NewEvent::bare(added)]);
        w
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus_s(seconds);
    }

    pub fn order(&self, order: &str) -> Order {
        (*self.ledger.order(&key(order)).unwrap().unwrap()).clone()
    }

    pub fn append(&mut self, stream: Stream, events: Vec<NewEvent>) {
        self.pass(1);
        let append = Append {
            stream,
            at: self.now,
            events,
        };
        self.runtime.block_on(self.ledger.append(append)).unwrap();
    }

    pub fn own(&mut self, event: NewEvent) {
        self.append(Stream::Ledger(None), vec![event]);
    }

    pub fn tell(&mut self, order: &str, events: Vec<NewEvent>) {
        let moved = self
            .ledger
            .folded(&key(order))
            .unwrap()
            .map_or(Seq::NONE, |order| order.moved());
        self.append(Stream::Order(key(order), moved), events);
    }

    /// An order of so much, with a wire deadline in so many days.
    pub fn record(&mut self, order: &str, price: &str, wire_days: u64) {
        self.pass(1);
        self.tell(order, vec![recorded(order, price, wire_days)]);
    }

    pub fn pay(&mut self, order: &str, coins: &[(u16, &str)]) {
        let mut events: Vec<NewEvent> = coins.iter().map(|(n, value)| deposit(*n, value)).collect();
        events.push(payment(coins.iter().map(|(n, value)| (coin(*n), amount(value)))));
        self.tell(order, events);
    }

    pub fn approve(&mut self, order: &str, rows: &[(u16, u64, &str)]) {
        let known = self.order(order);
        let now = self.now.plus_s(1).floor_s();
        let event = approval(&known, rows, now);
        self.tell(order, vec![event]);
    }

    pub fn request(&mut self, order: &str, rows: &[(u16, u64)]) {
        self.tell(order, vec![requested(rows)]);
    }

    pub fn unreached(&mut self, order: &str, n: u16, id: u64, attempt: u64, failure: Failure) {
        let facts = ExchangeUnreached {
            coin_pub: coin(n),
            rtransaction_id: refund_id(id),
            attempt,
            failure,
        };
        self.tell(order, vec![NewEvent::bare(facts)]);
    }

    pub fn confirm(&mut self, order: &str, n: u16, id: u64, attempt: u64) {
        let event = confirmation(&self.order(order), n, id, attempt, 5);
        self.tell(order, vec![event]);
    }

    /// Answers as the service would: from its own projection.
    pub fn answer_refund(&mut self, order: &str) -> Seq {
        let known = self.order(order);
        let RefundAnswer::Recorded(answer) = answer::refund(&known, self.now.plus_s(1)).unwrap() else {
            panic!("no answer")
        };
        self.tell(order, vec![NewEvent::bare(answer.facts)]);
        self.order(order).recorded_answer(&answer.digest).unwrap().seq
    }

    pub fn deliver(&mut self, order: &str, answer: Seq) {
        self.append(
            Stream::Told(key(order)),
            vec![NewEvent::bare(RefundDelivered { answer })],
        );
    }

    pub fn abort(&mut self, order: &str, coins: &[u16]) {
        let event = abort(&self.order(order), coins);
        self.tell(order, vec![event]);
    }

    pub fn answer_abort(&mut self, order: &str, coins: &[u16], mode: Undeposited) {
        let known = self.order(order);
        let coins: Vec<CoinPub> = coins.iter().map(|n| coin(*n)).collect();
        let AbortAnswer::Recorded(answer) = answer::abort(&known, &coins, mode) else {
            panic!("inconclusive")
        };
        self.tell(order, vec![NewEvent::bare(answer.facts)]);
    }

    /// Both keys give way to 71, 72, and the ledger goes on under those.
    pub fn rotated(mut self) -> World {
        self.pass(1);
        self.ledger.close();
        let paths = paths(self.dir.path());
        rotate_both(&paths, self.now);
        self.ledger = Ledger::open(&paths, ring(&[71], &[72]), "test").unwrap();
        self
    }

    pub fn finish(self) -> TempDir {
        self.ledger.close();
        self.dir
    }
}

pub fn paths(dir: &Path) -> Paths {
    Paths {
        ledger: dir.join("ledger.sqlite3"),
        anchor: dir.join("ledger.anchor"),
    }
}

pub fn recorded(order: &str, price: &str, wire_days: u64) -> NewEvent {
    let time = |s: u64| json!({"t_s": s});
    let (timestamp, wire) = (START_S, START_S + wire_days * DAY_S);
    let terms = json!({
        "order_id": order, "amount": amount(price), "summary": "a book", "timestamp": time(timestamp),
        "refund_deadline": time(wire), "wire_transfer_deadline": time(wire),
        "merchant_pub": merchant().merchant_pub(), "merchant_base_url": "https://shop.example/",
        "exchanges": [{"url": URL, "master_pub": master_pub()}],
    });
    let facts = OrderRecorded {
        h_contract: contract_hash(&terms).unwrap(),
        amount: amount(price),
        timestamp_s: second(timestamp),
        refund_deadline_s: second(wire),
        wire_deadline_s: second(wire),
        merchant_pub: merchant().merchant_pub(),
        exchanges: vec![NamedExchange {
            url: URL.into(),
            master_pub: master_pub(),
        }],
        choice_index: None,
        by: Some(token()),
    };
    NewEvent::with(facts, AttachmentName::Terms, taler_json::canonical(&terms))
}

pub fn deposit(n: u16, value: &str) -> NewEvent {
    NewEvent::bare(DepositRecorded {
        coin_pub: coin(n),
        exchange_master_pub: master_pub(),
        exchange_url: URL.into(),
        amount_with_fee: amount(value),
        deposit_fee: amount("0.01"),
        refund_fee: amount("0.01"),
        h_denom: None,
        coin_sig: None,
        exchange_pub: None,
        exchange_sig: None,
        exchange_timestamp_s: None,
        by: Some(token()),
    })
}

pub fn payment(coins: impl Iterator<Item = (CoinPub, Amount)>) -> NewEvent {
    let (coins, amounts): (Vec<_>, Vec<_>) = coins.unzip();
    let paid = quittance_taler::sum(amount("0").currency(), amounts).unwrap();
    NewEvent::bare(PaymentCompleted {
        paid,
        coins,
        part: None,
        by: Some(token()),
    })
}

pub fn approval(order: &Order, rows: &[(u16, u64, &str)], execution_s: Timestamp) -> NewEvent {
    let rows: Vec<ApprovedRow> = rows
        .iter()
        .map(|(n, id, value)| ApprovedRow {
            coin_pub: coin(*n),
            rtransaction_id: refund_id(*id),
            amount: amount(value),
            merchant_sig: permit(&order.terms.h_contract, coin(*n), *id, amount(value)),
        })
        .collect();
    let total = rows.iter().fold(order.approved().unwrap(), |sum, row| {
        sum.checked_add(row.amount).unwrap()
    });
    let facts = RefundApproved {
        total,
        execution_s,
        rows,
        part: None,
        by: token(),
    };
    NewEvent::with(facts, AttachmentName::Reason, b"returned".to_vec())
}

pub fn requested(rows: &[(u16, u64)]) -> NewEvent {
    let rows = rows.iter().map(|(n, id)| PermissionName {
        coin_pub: coin(*n),
        rtransaction_id: refund_id(*id),
    });
    NewEvent::bare(RefundRequested {
        rows: rows.collect(),
        part: None,
    })
}

pub fn confirmation(order: &Order, n: u16, id: u64, attempt: u64, signer: u8) -> NewEvent {
    let value = match id {
        0 => order.aborted(&coin(n)).unwrap().permission.unwrap().0,
        id => order.row(&coin(n), refund_id(id)).unwrap().amount,
    };
    let terms = &order.terms;
    let message = message::refund_confirmation(&terms.h_contract, &coin(n), &terms.merchant_pub, id, &value);
    let (exchange_pub, exchange_sig) = (
        ExchangePub::from_bytes(secret(signer).public_bytes()),
        secret(signer).sign(&message),
    );
    let facts = ExchangeReplied {
        coin_pub: coin(n),
        rtransaction_id: refund_id(id),
        attempt,
        http_status: 200,
        error_code: None,
        exchange_pub: Some(exchange_pub),
        exchange_sig: Some(exchange_sig),
        verdict: Verdict::Confirmed,
    };
    let body = json!({"exchange_pub": exchange_pub, "exchange_sig": exchange_sig}).to_string();
    NewEvent::with(facts, AttachmentName::Reply, body.into_bytes())
}

pub fn reply(n: u16, id: u64, attempt: u64, status: u16, body: &str, verdict: Verdict) -> NewEvent {
    let code = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|body| body.get("code")?.as_u64());
    let facts = ExchangeReplied {
        coin_pub: coin(n),
        rtransaction_id: refund_id(id),
        attempt,
        http_status: status,
        error_code: code,
        exchange_pub: None,
        exchange_sig: None,
        verdict,
    };
    NewEvent::with(facts, AttachmentName::Reply, body.as_bytes().to_vec())
}

pub fn abort(order: &Order, coins: &[u16]) -> NewEvent {
    let request: Vec<_> = coins
        .iter()
        .map(|n| json!({"coin_pub": coin(*n), "contribution": "KUDOS:1", "exchange_url": URL}))
        .collect();
    let body = json!({"h_contract": order.terms.h_contract, "coins": request}).to_string();
    let coins = coins
        .iter()
        .map(|n| {
            let coin_pub = coin(*n);
            let bare = |state| AbortCoin {
                coin_pub,
                state,
                amount: None,
                merchant_sig: None,
            };
            if order.aborted(&coin_pub).is_some() {
                return bare(AbortCoinState::Known);
            }
            let Some(deposit) = order.deposit(&coin_pub) else {
                return bare(AbortCoinState::Undeposited);
            };
            AbortCoin {
                amount: Some(deposit.amount_with_fee),
                merchant_sig: Some(permit(
                    &order.terms.h_contract,
                    coin_pub,
                    0,
                    deposit.amount_with_fee,
                )),
                ..bare(AbortCoinState::Deposited)
            }
        })
        .collect();
    NewEvent::with(
        AbortRequested { coins, part: None },
        AttachmentName::Body,
        body.into_bytes(),
    )
}

pub fn extension(h_contract: &HashCode, n: u16, value: &str) -> NewEvent {
    let value = amount(value);
    let coins = vec![ExtendedCoin {
        coin_pub: coin(n),
        amount: value,
        merchant_sig: permit(h_contract, coin(n), 0, value),
    }];
    NewEvent::bare(AbortExtended {
        coins,
        part: None,
        by: Some(token()),
    })
}

pub const PAID: &str = "2026.325-01";
pub const ABORTED: &str = "2026.325-02";
pub const TAKEN_OVER: &str = "2019.001-77";
pub const WIDE: &str = "2026.325-wide";
pub const WIDE_ABORT: &str = "2026.325-wide-abort";
pub const LATE: &str = "2026.325-late";
pub const UNTOUCHED: &str = "2026.325-untouched";

/// Coins of the orders that need several parts.
const MANY: u16 = 250;

/// Every story that the format can tell.
fn tell_all() -> TempDir {
    let mut w = World::open();
    w.own(keys_seen(vec![signing_key(
        5,
        START_S - DAY_S,
        START_S + 30 * DAY_S,
    )]));

    tell_paid(&mut w);
    tell_aborted(&mut w);
    tell_taken_over(&mut w);
    tell_wide(&mut w);
    tell_late(&mut w);
    tell_clock(&mut w);
    w.finish()
}

/// Paid, refunded in two steps, with an exchange that is slow and one that refuses.
fn tell_paid(w: &mut World) {
    w.record(PAID, "12.5", 20);
    w.pay(PAID, &[(1, "10"), (2, "2.5")]);
    w.answer_refund(PAID);
    w.approve(PAID, &[(1, 1, "3")]);
    w.answer_refund(PAID);
    w.request(PAID, &[(1, 1)]);
    w.confirm(PAID, 1, 1, 1);
    let answer = w.answer_refund(PAID);
    w.deliver(PAID, answer);
    w.approve(PAID, &[(1, 2, "7"), (2, 1, "1")]);
    w.request(PAID, &[(1, 2), (2, 1)]);
    w.answer_refund(PAID);
    w.unreached(PAID, 1, 2, 1, Failure::Timeout);
    w.answer_refund(PAID);
    w.tell(
        PAID,
        vec![reply(
            1,
            2,
            2,
            503,
            r#"{"code":2001,"hint":"later"}"#,
            Verdict::Later,
        )],
    );
    w.tell(PAID, vec![reply(2, 1, 1, 429, "slow down", Verdict::Later)]);
    w.answer_refund(PAID);
    w.tell(
        PAID,
        vec![reply(
            1,
            2,
            4,
            200,
            r#"{"exchange_sig":"none"}"#,
            Verdict::Unproven,
        )],
    );
    w.tell(PAID, vec![reply(2, 1, 2, 418, "teapot", Verdict::Malformed)]);
    w.answer_refund(PAID);
    w.confirm(PAID, 1, 2, 5);
    w.tell(
        PAID,
        vec![reply(
            2,
            1,
            4,
            409,
            r#"{"code":1501,"hint":"conflict","history":[1,2]}"#,
            Verdict::Refused,
        )],
    );
    let answer = w.answer_refund(PAID);
    w.deliver(PAID, answer);
    let mut coins = vec![coin(1), coin(2)];
    coins.sort_unstable();
    w.tell(
        PAID,
        vec![NewEvent::bare(AbortRefused {
            http_status: 412,
            error_code: 2254,
            coins,
            part: None,
        })],
    );
}

/// Half paid and aborted.
fn tell_aborted(w: &mut World) {
    w.record(ABORTED, "20", 20);
    w.tell(
        ABORTED,
        vec![deposit(11, "5"), deposit(13, "2"), deposit(15, "3")],
    );
    w.abort(ABORTED, &[13, 11, 12]);
    w.answer_abort(ABORTED, &[13, 11, 12], Undeposited::Typed);
    w.confirm(ABORTED, 11, 0, 1);
    w.tell(
        ABORTED,
        vec![reply(
            13,
            0,
            1,
            404,
            r#"{"code":1502,"hint":"no deposit"}"#,
            Verdict::Refused,
        )],
    );
    w.answer_abort(ABORTED, &[13, 11, 12], Undeposited::Typed);
    w.answer_abort(ABORTED, &[13, 11, 12], Undeposited::Failure);
    let h_contract = w.order(ABORTED).terms.h_contract;
    w.tell(ABORTED, vec![deposit(12, "4"), extension(&h_contract, 12, "4")]);
    w.unreached(ABORTED, 12, 0, 1, Failure::Connect);
    w.answer_abort(ABORTED, &[12, 11], Undeposited::Typed);
    w.confirm(ABORTED, 12, 0, 2);
    w.abort(ABORTED, &[15, 12, 16]);
    w.tell(
        ABORTED,
        vec![reply(15, 0, 1, 403, r#"{"code":1506}"#, Verdict::Refused)],
    );
    w.answer_abort(ABORTED, &[15, 12, 16], Undeposited::Typed);
    // The refused coin counts again, and new ones pay the rest.
    w.pay_rest(ABORTED, &[(17, "17")], &[(15, "3")]);
    w.tell(ABORTED, vec![deposit(18, "1"), extension(&h_contract, 18, "1")]);
}

/// Taken over with a refund made elsewhere.
fn tell_taken_over(w: &mut World) {
    w.record(TAKEN_OVER, "8", 20);
    w.pay(TAKEN_OVER, &[(21, "8")]);
    let h_contract = w.order(TAKEN_OVER).terms.h_contract;
    let carried = CarriedInRow {
        coin_pub: coin(21),
        rtransaction_id: refund_id(7),
        amount: amount("2"),
        execution_s: second(START_S - 5 * DAY_S),
        merchant_sig: permit(&h_contract, coin(21), 7, amount("2")),
    };
    w.tell(
        TAKEN_OVER,
        vec![NewEvent::bare(RefundCarriedIn {
            rows: vec![carried],
            part: None,
            by: token(),
        })],
    );
    w.answer_refund(TAKEN_OVER);
    w.approve(TAKEN_OVER, &[(21, 8, "1")]);
    w.confirm(TAKEN_OVER, 21, 7, 1);
    w.answer_refund(TAKEN_OVER);
}

/// More coins than one event holds.
fn tell_wide(w: &mut World) {
    let names: Vec<(u16, &str)> = (0..MANY).map(|n| (1000 + n, "1")).collect();
    w.record(WIDE, "250", 20);
    w.pay(WIDE, &names);
    let rows: Vec<(u16, u64, &str)> = names.iter().map(|(n, value)| (*n, 1, *value)).collect();
    w.approve(WIDE, &rows);
    w.request(WIDE, &names.iter().map(|(n, _)| (*n, 1)).collect::<Vec<_>>());
    let answer = w.answer_refund(WIDE);
    w.deliver(WIDE, answer);
    w.record(WIDE_ABORT, "250", 20);
    let many: Vec<u16> = (0..MANY).map(|n| 2000 + n).collect();
    w.abort(WIDE_ABORT, &many);
    w.answer_abort(WIDE_ABORT, &many, Undeposited::Typed);
}

/// Approved, and never asked for in time.
fn tell_late(w: &mut World) {
    w.record(LATE, "5", 1);
    w.pay(LATE, &[(31, "5")]);
    w.approve(LATE, &[(31, 1, "5")]);
    w.record(UNTOUCHED, "1", 20);
    w.pay(UNTOUCHED, &[(41, "1")]);
    w.pass(2 * DAY_S);
    w.answer_refund(LATE);
}

/// The clock ran a year ahead; the operator puts it right.
fn tell_clock(w: &mut World) {
    let before = w.now;
    w.pass(365 * DAY_S);
    w.tell(
        UNTOUCHED,
        vec![NewEvent::bare(AbortRefused {
            http_status: 412,
            error_code: 2254,
            coins: vec![coin(41)],
            part: None,
        })],
    );
    let wrong = w.now;
    w.now = before.plus_s(60);
    let correction = ClockCorrected {
        from_us: wrong,
        to_us: w.now.plus_s(1),
    };
    w.own(NewEvent::with(
        correction,
        AttachmentName::Reason,
        b"the clock was a year ahead".to_vec(),
    ));
    w.approve(UNTOUCHED, &[(41, 1, "0.5")]);
    w.answer_refund(UNTOUCHED);
}

impl World {
    fn pay_rest(&mut self, order: &str, new: &[(u16, &str)], old: &[(u16, &str)]) {
        let mut events: Vec<NewEvent> = new.iter().map(|(n, value)| deposit(*n, value)).collect();
        events.push(payment(
            old.iter().chain(new).map(|(n, value)| (coin(*n), amount(value))),
        ));
        self.tell(order, events);
    }
}

/// The sound ledger; nobody changes it.
pub fn sound() -> &'static Path {
    static SOUND: OnceLock<TempDir> = OnceLock::new();
    SOUND.get_or_init(tell_all).path()
}

/// The receipt that a wallet got with the last answer to an order's refund request.
pub fn last_receipt(folder: &Path, order: &str) -> Receipt {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ledger.sqlite3", "ledger.anchor"] {
        std::fs::copy(folder.join(name), dir.path().join(name)).unwrap();
    }
    let events = events_of(&dir.path().join("ledger.sqlite3"));
    let of_order = |event: &Event| event.order_key().as_ref() == Some(&key(order));
    let answers = events.iter().filter(|(event, _)| of_order(event));
    let body = answers
        .filter_map(|(event, _)| event.facts.answer_body())
        .next_back()
        .unwrap();
    let ledger = Ledger::open(&paths(dir.path()), keys(), "test").unwrap();
    let order = ledger.order(&key(order)).unwrap().unwrap();
    let receipt = Receipt::sign(ORIGIN, &keys().event, order.recorded_answer(&body).unwrap());
    ledger.close();
    receipt
}

/// The body that was served with it.
pub fn last_body(folder: &Path, order: &str) -> Vec<u8> {
    let events = events_of(&folder.join("ledger.sqlite3"));
    let is_answer = |event: &Event| {
        event.order_key().as_ref() == Some(&key(order)) && matches!(event.facts, Facts::RefundAnswered(_))
    };
    let place = events.iter().rposition(|(event, _)| is_answer(event)).unwrap();
    let state = order_at(&events, order, place);
    match answer::refund(&state, events[place].0.at_us).unwrap() {
        RefundAnswer::Recorded(answer) => answer.body,
        RefundAnswer::NoContent => panic!("the answer was recorded"),
    }
}

pub type Events = Vec<(Event, NewEvent)>;

/// The events of a ledger file, to be forged.
pub fn events_of(ledger: &Path) -> Events {
    let mut events = Vec::new();
    Copy::open(ledger)
        .unwrap()
        .walk::<CopyError>(|item| {
            let stored = item.expect("a sound ledger has no orphans");
            let event = Event::parse(&stored.sealed).unwrap();
            let attachments = stored
                .attachments
                .into_iter()
                .map(|a| (AttachmentName::from_name(&a.name).unwrap(), a.bytes.unwrap()))
                .collect();
            let facts = event.facts.clone();
            events.push((event, NewEvent { facts, attachments }));
            Ok(())
        })
        .unwrap();
    events
}

/// A copy of the sound ledger's events.
pub fn sound_events() -> Events {
    static EVENTS: OnceLock<Events> = OnceLock::new();
    EVENTS
        .get_or_init(|| events_of(&sound().join("ledger.sqlite3")))
        .clone()
}

/// Seals forged events with the operator's keys.
pub struct Forged {
    pub dir: TempDir,
}

pub fn forge(events: Events) -> Forged {
    let dir = tempfile::tempdir().unwrap();
    create(&paths(dir.path()), &keys(), events).unwrap();
    Forged { dir }
}

/// Likewise, where the events put new event keys into force.
pub fn forge_rotated(events: Events, later: &[&EventKey]) -> Forged {
    let dir = tempfile::tempdir().unwrap();
    create_rotated(&paths(dir.path()), &keys(), later, events).unwrap();
    Forged { dir }
}

/// The sound ledger in a folder of its own, to go on with.
pub fn continued() -> Forged {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ledger.sqlite3", "ledger.anchor"] {
        std::fs::copy(sound().join(name), dir.path().join(name)).unwrap();
    }
    Forged { dir }
}

/// A moment after all of these events.
pub fn after(events: &Events) -> Micros {
    events.last().unwrap().0.at_us.plus_s(1)
}

/// Appends an event of the ledger's own, of this format version, at the time of the last one.
pub fn append_own(events: &mut Events, version: u64, new: NewEvent) {
    let mut event = events.last().unwrap().0.clone();
    (event.instance, event.order, event.version) = (None, None, version);
    event.facts = new.facts.clone();
    events.push((event, new));
}

impl Forged {
    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger.sqlite3")
    }

    pub fn options(&self) -> VerifyOptions {
        VerifyOptions {
            ledger: self.ledger(),
            anchor: Some(self.dir.path().join("ledger.anchor")),
            ledger_key: Some(ledger_key()),
            predecessor: None,
            exchange_keys: vec![master_pub()],
            ..VerifyOptions::default()
        }
    }

    pub fn report(&self) -> Report {
        report_all_ways(&self.options())
    }
}

/// The report, which must be the same however much memory it takes and however signatures are checked.
pub fn report_all_ways(options: &VerifyOptions) -> Report {
    let report = verify(options).unwrap();
    let folded_anew = VerifyOptions {
        states_kept: Some(0),
        fast: true,
        ..options.clone()
    };
    let other = Report {
        fast: false,
        ..verify(&folded_anew).unwrap()
    };
    assert_eq!(report, other);
    report
}

/// The place of the first event of this order that fits.
pub fn place(events: &Events, order: &str, fits: impl Fn(&Facts) -> bool) -> usize {
    let key = key(order);
    events
        .iter()
        .position(|(event, _)| event.order_key().as_ref() == Some(&key) && fits(&event.facts))
        .expect("the story has such an event")
}

/// The place of the n-th (from 0) event of this kind.
pub fn nth(events: &Events, order: &str, kind: &str, n: usize) -> usize {
    let key = key(order);
    let fits = |event: &Event| event.order_key().as_ref() == Some(&key) && event.facts.kind() == kind;
    let found = events
        .iter()
        .enumerate()
        .filter(|(_, (event, _))| fits(event))
        .nth(n);
    found.expect("the story has such an event").0
}

/// Events refer to others by number: keeps them right when one is put in (+1) or taken out (-1) at `place`.
fn shift(events: &mut Events, place: usize, by: i64) {
    let at = u64::try_from(place).unwrap() + 1;
    let moved = |seq: Seq| match seq.get() {
        n if n >= at => Seq::new(n.checked_add_signed(by).unwrap()).unwrap(),
        _ => seq,
    };
    for (event, _) in events.iter_mut() {
        match &mut event.facts {
            Facts::RefundAnswered(f) => f.as_of = moved(f.as_of),
            Facts::AbortAnswered(f) => f.as_of = moved(f.as_of),
            Facts::RefundDelivered(f) => f.answer = moved(f.answer),
            Facts::DepositReplied(f) => f.batch = moved(f.batch),
            Facts::DepositUnreached(f) => f.batch = moved(f.batch),
            _ => {}
        }
    }
}

pub fn put_in(events: &mut Events, place: usize, event: (Event, NewEvent)) {
    shift(events, place, 1);
    events.insert(place, event);
}

pub fn take_out(events: &mut Events, place: usize) -> (Event, NewEvent) {
    shift(events, place, -1);
    events.remove(place)
}

/// A new event for an order, at the time of the event at `like`.
pub fn another(events: &Events, order: &str, like: usize, new: NewEvent) -> (Event, NewEvent) {
    let mut event = events[like].0.clone();
    event.order = Some(order.parse().unwrap());
    event.instance = Some(InstanceId::root());
    event.facts = new.facts.clone();
    (event, new)
}

/// Appends an event at the end.
pub fn append(events: &mut Events, order: &str, new: NewEvent) {
    let (mut event, new) = another(events, order, events.len() - 1, new);
    event.seq = Seq::new(u64::try_from(events.len()).unwrap() + 1).unwrap();
    events.push((event, new));
}

/// The service's own projection of an order as of a place, to make forgeries that fit.
pub fn order_at(events: &Events, order: &str, upto: usize) -> Order {
    let key = key(order);
    let mut folded: Option<Folded> = None;
    for (event, new) in &events[..upto] {
        if event.order_key().as_ref() != Some(&key) {
            continue;
        }
        let reply = new
            .attachments
            .iter()
            .find(|(name, _)| *name == AttachmentName::Reply)
            .map(|(_, b)| b.as_slice());
        match &mut folded {
            None => folded = Some(Folded::begin(event).unwrap()),
            Some(folded) => folded
                .apply(event, &quittance_events::seal::no_digest(), reply)
                .unwrap(),
        }
    }
    (**folded.unwrap().order().unwrap()).clone()
}

/// Asserts that the report's one root finding is this rule at this place (an index into the events; none where the
/// finding is about the file), with this money, and that exactly these rules stand beneath it.
#[track_caller]
pub fn assert_root<'a>(
    report: &'a Report,
    rule: &str,
    place: impl Into<Option<usize>>,
    stake: &str,
    beneath: &[&str],
) -> &'a Finding {
    let roots: Vec<_> = report
        .findings
        .iter()
        .map(|f| (f.rule, f.seq, f.text.as_str()))
        .collect();
    assert_eq!(
        (report.findings.len(), report.findings_unlisted),
        (1, 0),
        "{roots:#?}"
    );
    let finding = &report.findings[0];
    assert_eq!(finding.rule, rule, "{roots:#?}");
    let seq = place.into().map(|place| u64::try_from(place).unwrap() + 1);
    assert_eq!(finding.seq, seq, "{roots:#?}");
    let found: Vec<String> = finding.at_stake.iter().map(ToString::to_string).collect();
    let expected: Vec<String> = if stake.is_empty() {
        vec![]
    } else {
        vec![format!("KUDOS:{stake}")]
    };
    assert_eq!(found, expected, "{finding:#?}");
    let consequences: BTreeSet<&str> = finding.consequences.iter().map(|f| f.rule).collect();
    assert_eq!(
        consequences,
        beneath.iter().copied().collect(),
        "{:#?}",
        finding.consequences
    );
    finding
}

/// Changes a file behind the service's back: triggers are taken away and put back as they were.
pub fn tampered(ledger: &Path, change: impl FnOnce(&rusqlite::Connection)) {
    let conn = rusqlite::Connection::open(ledger).unwrap();
    let triggers: Vec<(String, String)> = conn
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (name, _) in &triggers {
        conn.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    change(&conn);
    for (_, sql) in &triggers {
        conn.execute_batch(sql).unwrap();
    }
    conn.close().unwrap();
    // Closing takes the WAL in; what is judged is the main file alone.
    assert!(!ledger.with_file_name("ledger.sqlite3-wal").exists());
}
