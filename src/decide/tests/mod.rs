//! Decisions, one sentence of the rules a test. Order states are folded from the events of earlier decisions, so
//! that no test rests on a state that the ledger could not have.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod abort;
mod approval;
mod deposits;
mod order;
mod pay;
mod pay_again;
mod pay_against_abort;
mod refund;
mod sale;
mod takeover;

use std::collections::BTreeMap;

use quittance_events::facts::{
    ApprovedRow, ExchangeReplied, NamedExchange, OrderRecorded, PermissionName, RefundRequested, Verdict,
};
use quittance_events::seal::no_digest;
use quittance_events::{Event, Facts, InstanceId, NewEvent, Order, RefundId, Seq, TokenId};
use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MasterPub, Micros,
    TalerTimestamp, Timestamp, message,
};

use super::abort::AbortRequest;
use super::approval::{ApprovalRequest, decide as decide_approval};
use super::deposits::{DepositsRequest, ToldDeposit, ToldRefund, decide as decide_deposits};
use crate::refusal::Refusal;

/// The second of most decisions.
const NOW_S: u64 = 1_795_226_400;
/// The wire deadline of [`terms`].
const WIRE_S: u64 = NOW_S + 172_800;
const EXCHANGE: &str = "https://exchange.example/";
/// Named by the terms, but not configured.
const STRANGER: &str = "https://stranger.example/";

type Decided = Result<Vec<NewEvent>, Refusal>;

fn now() -> Micros {
    at(NOW_S)
}

fn at(seconds: u64) -> Micros {
    Micros::from_s(seconds).unwrap()
}

fn second(seconds: u64) -> Timestamp {
    Timestamp::from_s(seconds).unwrap()
}

fn merchant() -> EddsaPrivateKey {
    EddsaPrivateKey::from_bytes([7; 32])
}

fn by() -> TokenId {
    "shop".parse().unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn kudos(number: &str) -> Amount {
    amount(&format!("KUDOS:{number}"))
}

fn coin(number: u8) -> CoinPub {
    CoinPub::from_bytes([number; 32])
}

fn id(number: u64) -> RefundId {
    RefundId::new(number).unwrap()
}

fn exchange() -> MasterPub {
    MasterPub::from_bytes([100; 32])
}

fn stranger() -> MasterPub {
    MasterPub::from_bytes([101; 32])
}

fn hash() -> HashCode {
    HashCode::from_bytes([9; 64])
}

fn terms(price: &str) -> OrderRecorded {
    let named = |url: &str, master_pub| NamedExchange {
        url: url.into(),
        master_pub,
    };
    OrderRecorded {
        h_contract: hash(),
        amount: kudos(price),
        timestamp_s: second(NOW_S - 60),
        refund_deadline_s: second(NOW_S + 86_400),
        wire_deadline_s: second(WIRE_S),
        merchant_pub: merchant().merchant_pub(),
        exchanges: vec![named(EXCHANGE, exchange()), named(STRANGER, stranger())],
        choice_index: None,
        by: Some(by()),
    }
}

fn recorded(terms: OrderRecorded) -> Order {
    Order::begin(&Event {
        at_us: at(NOW_S - 60),
        attachments: BTreeMap::new(),
        facts: terms.into(),
        instance: Some(InstanceId::root()),
        ledger: "shop.example/test".into(),
        order: Some("boots".parse().unwrap()),
        prev: no_digest(),
        seq: Seq::FIRST,
        version: quittance_events::event::FIRST_VERSION,
    })
    .unwrap()
}

fn after(order: &Order, events: &[NewEvent]) -> Order {
    order.preview(now(), events).unwrap()
}

fn told(number: u8, value: &str, refund_fee: &str) -> ToldDeposit {
    ToldDeposit {
        coin_pub: coin(number),
        exchange_url: EXCHANGE.into(),
        amount_with_fee: kudos(value),
        deposit_fee: kudos("0.01"),
        refund_fee: kudos(refund_fee),
        h_denom: None,
        coin_sig: None,
        exchange_pub: None,
        exchange_sig: None,
        exchange_timestamp: None,
    }
}

fn told_refund(number: u8, rtransaction_id: u64, value: &str, execution_s: u64) -> ToldRefund {
    ToldRefund {
        coin_pub: coin(number),
        rtransaction_id: id(rtransaction_id),
        amount: kudos(value),
        execution_time: TalerTimestamp(second(execution_s)),
    }
}

fn word(deposits: &[ToldDeposit], paid: bool, refunds: &[ToldRefund]) -> DepositsRequest {
    DepositsRequest {
        deposits: deposits.to_vec(),
        paid,
        refunds: refunds.to_vec(),
    }
}

fn tell(order: &Order, request: &DepositsRequest) -> Decided {
    decide_deposits(
        Some(order),
        request,
        |master| *master == exchange(),
        &merchant(),
        &by(),
    )
}

/// An order of this price with these deposits, (coin, value, refund fee).
fn sold(price: &str, coins: &[(u8, &str, &str)], paid: bool) -> Order {
    let order = recorded(terms(price));
    let coins: Vec<ToldDeposit> = coins.iter().map(|(n, value, fee)| told(*n, value, fee)).collect();
    let events = tell(&order, &word(&coins, paid, &[])).unwrap();
    after(&order, &events)
}

fn approve_at(order: &Order, total: &str, time: Micros) -> Decided {
    let request = ApprovalRequest {
        refund: amount(total),
        reason: "returned".into(),
    };
    decide_approval(Some(order), &request, (&merchant(), id(1)), &by(), time)
}

fn approve(order: &Order, total: &str) -> Decided {
    approve_at(order, total, now())
}

fn approved_rows(events: &[NewEvent]) -> Vec<ApprovedRow> {
    match events {
        [
            NewEvent {
                facts: Facts::RefundApproved(facts),
                ..
            },
        ] => facts.rows.clone(),
        other => panic!("no approval: {other:?}"),
    }
}

/// Coin and amount of each permission.
fn shares(events: &[NewEvent]) -> Vec<(CoinPub, Amount)> {
    approved_rows(events)
        .iter()
        .map(|row| (row.coin_pub, row.amount))
        .collect()
}

fn abort_of(coins: &[u8]) -> AbortRequest {
    AbortRequest {
        h_contract: hash(),
        coins: coins.iter().map(|number| coin(*number)).collect(),
        body: b"as received".to_vec(),
    }
}

fn abort(order: &Order, coins: &[u8]) -> Decided {
    super::abort::decide(Some(order), &abort_of(coins), &merchant())
}

fn aborted(order: &Order, coins: &[u8]) -> Order {
    after(order, &abort(order, coins).unwrap())
}

/// The exchange's word on a permission, as recorded.
fn replied(
    number: u8,
    rtransaction_id: u64,
    verdict: Verdict,
    http_status: u16,
    code: Option<u64>,
) -> NewEvent {
    let confirmed = verdict == Verdict::Confirmed;
    NewEvent::bare(ExchangeReplied {
        coin_pub: coin(number),
        rtransaction_id: id(rtransaction_id),
        attempt: 1,
        http_status,
        error_code: code,
        exchange_pub: confirmed.then(|| ExchangePub::from_bytes([1; 32])),
        exchange_sig: confirmed.then(|| EddsaSignature::from_bytes([2; 64])),
        verdict,
    })
}

fn requested(names: &[(u8, u64)]) -> NewEvent {
    let name = |(number, rtransaction_id): &(u8, u64)| PermissionName {
        coin_pub: coin(*number),
        rtransaction_id: id(*rtransaction_id),
    };
    NewEvent::bare(RefundRequested {
        rows: names.iter().map(name).collect(),
        part: None,
    })
}

/// Status and code of a refusal that records nothing.
fn refused(decided: Decided) -> (u16, u32) {
    let refusal = decided.unwrap_err();
    assert_eq!(refusal.events, [], "a refusal that records nothing was expected");
    status_and_code(&refusal)
}

fn status_and_code(refusal: &Refusal) -> (u16, u32) {
    let status = refusal.http_status.unwrap_or(refusal.code.http_status());
    (status, refusal.code.code())
}

fn kinds(events: &[NewEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.facts.kind()).collect()
}

/// The merchant signed exactly this permission.
fn is_permitted(number: u8, rtransaction_id: u64, value: Amount, signature: &EddsaSignature) -> bool {
    let message = message::refund_request(&hash(), &coin(number), rtransaction_id, &value);
    merchant().merchant_pub().verify(&message, signature)
}
