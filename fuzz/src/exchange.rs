//! An order with two permissions, one with three batches of deposits, and an exchange whose keys are known: all keys are
//! made from one number.

use std::collections::BTreeMap;

use quittance::decide::coins::{as_signed, deposit_terms};
use quittance_events::book::Book;
use quittance_events::facts::{
    AbortCoin, AbortCoinState, AbortRequested, ApprovedRow, DepositCoin, DepositForm, DepositRecorded,
    DepositRequested, ExchangeKeysSeen, NamedExchange, OrderClaimed, OrderCreated, OrderRecorded,
    PermissionName, RefundApproved, RefundRequested, SignKey,
};
use quittance_events::sale::Batch;
use quittance_events::seal::no_digest;
use quittance_events::{Event, Facts, Folded, InstanceId, NewEvent, Order, RefundId, Seq};
use quittance_taler::deposit::DepositTerms;
use quittance_taler::{
    Amount, ClaimNonce, CoinPub, EddsaPrivateKey, ExchangePub, HashCode, MasterPub, Micros, Timestamp,
    message,
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

/// The exchange's one signing key.
pub fn signing() -> ExchangePub {
    ExchangePub::from_bytes(key(2).public_bytes())
}

/// The merchant.
pub fn merchant() -> EddsaPrivateKey {
    key(4)
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
    let facts = facts.into();
    Event {
        at_us: now(),
        attachments: BTreeMap::new(),
        version: facts.needed_version(),
        facts,
        instance: Some(InstanceId::root()),
        ledger: "shop.example/test".into(),
        order: Some("boots".parse().expect("an order id")),
        prev: no_digest(),
        seq: Seq::FIRST,
    }
}

/// The permission of the order's approval.
pub fn approved() -> RefundId {
    RefundId::new(1).expect("an id")
}

fn named() -> Vec<NamedExchange> {
    vec![NamedExchange {
        url: "https://exchange.example/".into(),
        master_pub: master(),
    }]
}

fn recorded() -> Event {
    event(OrderRecorded {
        h_contract: HashCode::from_bytes([9; 64]),
        amount: kudos("10"),
        timestamp_s: second(NOW_S),
        refund_deadline_s: second(NOW_S + 10),
        wire_deadline_s: second(NOW_S + 20),
        merchant_pub: merchant().merchant_pub(),
        exchanges: named(),
        choice_index: None,
        by: None,
    })
}

/// A coin of 10 with an abort (id 0, all of it) and an approved permission (id 1, over 4).
pub fn order() -> Order {
    let order = Order::begin(&recorded());
    let merchant_sig = merchant().sign(b"a permission");
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
    let signing = signing();
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
    let signing = signing();
    format!("{{\"exchange_pub\":\"{signing}\",\"exchange_sig\":\"{signature}\"}}")
}

/// An order that was sold here, with three batches that the exchange has not decided: two coins that it confirms one by
/// one, one alone, and two that it confirms together.
pub fn sold() -> Order {
    let created = event(OrderCreated {
        amount: kudos("10"),
        timestamp_s: second(NOW_S),
        pay_deadline_s: second(NOW_S + 10),
        refund_deadline_s: second(NOW_S + 10),
        wire_deadline_s: second(NOW_S + 20),
        merchant_pub: merchant().merchant_pub(),
        exchanges: named(),
        h_wire: HashCode::from_bytes([8; 64]),
        claim_token: true,
        by: "shop".parse().expect("a token id"),
    });
    let recorded = Event {
        seq: created.seq.next(),
        ..recorded()
    };
    let mut folded = Folded::begin(&created).expect("an offer");
    folded.apply(&recorded, &no_digest(), None).expect("its contract");
    let claimed = NewEvent::bare(OrderClaimed {
        nonce: ClaimNonce::from_bytes([7; 32]),
        contract_sig: merchant().sign(b"a contract"),
    });
    let batches = [
        (DepositForm::PerCoin, &[10, 11][..]),
        (DepositForm::PerCoin, &[12][..]),
        (DepositForm::PerBatch, &[13, 14][..]),
    ];
    let requested = batches.map(|(layout, coins)| {
        NewEvent::bare(DepositRequested {
            exchange_master_pub: master(),
            exchange_url: "https://exchange.example/".into(),
            layout,
            wallet_data_hash: None,
            coins: coins.iter().map(|number| asked_for(*number)).collect(),
            part: None,
        })
    });
    let events: Vec<NewEvent> = [claimed].into_iter().chain(requested).collect();
    let order = folded.order().expect("it has a contract");
    order.preview(now(), &events).expect("the story folds")
}

fn asked_for(number: u8) -> DepositCoin {
    DepositCoin {
        coin_pub: CoinPub::from_bytes(key(number).public_bytes()),
        amount_with_fee: kudos("2"),
        deposit_fee: kudos("0.01"),
        refund_fee: kudos("0.01"),
        h_denom: HashCode::from_bytes([number; 64]),
        h_age_commitment: None,
        coin_sig: key(number).sign(b"a deposit"),
    }
}

/// What its coins have in common.
pub fn terms(order: &Order) -> DepositTerms {
    deposit_terms(order, order.sale.as_ref().expect("it was sold here"))
}

/// The body of a good confirmation of a batch, for a seed.
pub fn confirmed_batch(order: &Order, batch: &Batch) -> String {
    let (terms, coins, at) = (terms(order), as_signed(&batch.coins), second(NOW_S));
    let signatures = match batch.layout {
        DepositForm::PerCoin => {
            let sign = |coin| {
                key(2).sign(
                    &terms
                        .confirmation_of_coin(at, coin)
                        .expect("a fee below the amount"),
                )
            };
            let each = coins
                .iter()
                .map(|coin| format!("{{\"exchange_sig\":\"{}\"}}", sign(coin)));
            format!("\"exchange_sigs\":[{}]", each.collect::<Vec<_>>().join(","))
        }
        DepositForm::PerBatch => {
            let message = terms
                .confirmation_of_batch(at, &coins)
                .expect("coins of one currency");
            format!("\"exchange_sig\":\"{}\"", key(2).sign(&message))
        }
    };
    let signing = signing();
    format!("{{\"exchange_timestamp\":{{\"t_s\":{NOW_S}}},\"exchange_pub\":\"{signing}\",{signatures}}}")
}
