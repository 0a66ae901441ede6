//! An order with two permissions, and an exchange whose keys are known: all keys are made from one number.

use std::collections::BTreeMap;

use quittance_events::book::Book;
use quittance_events::facts::{
    AbortCoin, AbortCoinState, AbortRequested, ApprovedRow, DepositRecorded, ExchangeKeysSeen, NamedExchange,
    OrderRecorded, PermissionName, RefundApproved, RefundRequested, SignKey,
};
use quittance_events::seal::no_digest;
use quittance_events::{Event, Facts, InstanceId, NewEvent, Order, RefundId, Seq};
use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, ExchangePub, HashCode, MasterPub, Micros, Timestamp, message,
};

/// The time of all of it: the day of the recordings.
pub const NOW_S: u64 = 1_795_226_400;

fn key(number: u8) -> EddsaPrivateKey {
    EddsaPrivateKey::from_bytes([number; 32])
}

/// The exchange.
pub fn master() -> MasterPub {
    MasterPub::from_bytes(key(1).public_bytes())
}

/// The order's coin.
pub fn coin() -> CoinPub {
    CoinPub::from_bytes(key(3).public_bytes())
}

/// Now.
pub fn now() -> Micros {
    Micros::from_s(NOW_S).expect("a time")
}

fn second(seconds: u64) -> Timestamp {
    Timestamp::from_s(seconds).expect("a time")
}

fn kudos(number: &str) -> Amount {
    format!("KUDOS:{number}").parse().expect("an amount")
}

/// The ledger's event with these facts.
pub fn event(facts: impl Into<Facts>) -> Event {
    Event {
        at_us: now(),
        attachments: BTreeMap::new(),
        facts: facts.into(),
        instance: Some(InstanceId::root()),
        ledger: "shop.example/test".into(),
        order: Some("boots".parse().expect("an order id")),
        prev: no_digest(),
        seq: Seq::FIRST,
        version: quittance_events::event::FIRST_VERSION,
    }
}

/// The permission of the order's approval.
pub fn approved() -> RefundId {
    RefundId::new(1).expect("an id")
}

/// A coin of 10 with an abort (id 0, all of it) and an approved permission (id 1, over 4).
pub fn order() -> Order {
    let order = Order::begin(&event(OrderRecorded {
        h_contract: HashCode::from_bytes([9; 64]),
        amount: kudos("10"),
        timestamp_s: second(NOW_S),
        refund_deadline_s: second(NOW_S + 10),
        wire_deadline_s: second(NOW_S + 20),
        merchant_pub: key(4).merchant_pub(),
        exchanges: vec![NamedExchange {
            url: "https://exchange.example/".into(),
            master_pub: master(),
        }],
        choice_index: None,
        by: None,
    }));
    let merchant_sig = key(4).sign(b"a permission");
    let events = [
        NewEvent::bare(DepositRecorded {
            coin_pub: coin(),
            exchange_master_pub: master(),
            exchange_url: "https://exchange.example/".into(),
            amount_with_fee: kudos("10"),
            deposit_fee: kudos("0"),
            refund_fee: kudos("0"),
            h_denom: None,
            coin_sig: None,
            exchange_pub: None,
            exchange_sig: None,
            exchange_timestamp_s: None,
            by: None,
        }),
        NewEvent::bare(AbortRequested {
            coins: vec![AbortCoin {
                coin_pub: coin(),
                state: AbortCoinState::Deposited,
                amount: Some(kudos("10")),
                merchant_sig: Some(merchant_sig),
            }],
            part: None,
        }),
        NewEvent::bare(RefundApproved {
            total: kudos("4"),
            execution_s: second(NOW_S),
            rows: vec![ApprovedRow {
                coin_pub: coin(),
                rtransaction_id: approved(),
                amount: kudos("4"),
                merchant_sig,
            }],
            part: None,
            by: "shop".parse().expect("a token id"),
        }),
        NewEvent::bare(RefundRequested {
            rows: vec![PermissionName {
                coin_pub: coin(),
                rtransaction_id: approved(),
            }],
            part: None,
        }),
    ];
    order
        .and_then(|order| order.preview(now(), &events))
        .expect("the story folds")
}

/// The exchange's one signing key, as the ledger has it.
pub fn book() -> Book {
    let mut book = Book::default();
    let signing = ExchangePub::from_bytes(key(2).public_bytes());
    let (start_s, expire_s, end_s) = (second(NOW_S - 1000), second(NOW_S + 1000), second(NOW_S + 2000));
    book.apply(&event(ExchangeKeysSeen {
        master_pub: master(),
        url: "https://exchange.example/".into(),
        signkeys: vec![SignKey {
            key: signing,
            start_s,
            expire_s,
            end_s,
            master_sig: key(1).sign(&message::signing_key_validity(start_s, expire_s, end_s, &signing)),
        }],
    }));
    book
}

/// What the exchange signs to confirm a permission.
pub fn confirmation(id: RefundId) -> Vec<u8> {
    let order = order();
    let amount = if id == RefundId::ABORT {
        kudos("10")
    } else {
        kudos("4")
    };
    let terms = &order.terms;
    message::refund_confirmation(&terms.h_contract, &coin(), &terms.merchant_pub, id.get(), &amount).to_vec()
}

/// The body of a good confirmation, for a seed.
pub fn confirmed(id: RefundId) -> String {
    let signature = key(2).sign(&confirmation(id));
    let signing = ExchangePub::from_bytes(key(2).public_bytes());
    format!("{{\"exchange_pub\":\"{signing}\",\"exchange_sig\":\"{signature}\"}}")
}
