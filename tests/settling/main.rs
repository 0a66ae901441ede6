//! Settling with an exchange that fails in every way it can: what the wallet is told meanwhile, what is recorded,
//! and that each permission is refunded exactly once in the end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/mod.rs"]
mod support;

mod circuit;
mod clock;
mod conflicts;
mod deadlines;
mod disk;
mod faults;
mod hang_up;
mod keys;
mod retries;
mod time;
mod tls;

use std::time::Duration;

use quittance::exchange::Times;
use quittance_events::facts::Verdict;
use quittance_events::{Event, Facts, InstanceId, OrderKey, RefundId};
use quittance_sandbox::{Fault, FaultKind, FaultPath};
use serde_json::Value;

use support::{Coin, Options, Shop};

/// Longer than any test waits.
const TOO_LONG: Duration = Duration::from_mins(1);

fn status(status: u16, code: u32) -> FaultKind {
    FaultKind::Status { status, code }
}

/// Lets the next refund requests for this coin meet a fault.
fn fail(shop: &Shop, coin: &Coin, kind: FaultKind, times: u32) {
    let coin_pub = Some(coin.coin_pub);
    let delay = if kind == FaultKind::Delay {
        TOO_LONG
    } else {
        Duration::ZERO
    };
    shop.sandbox
        .fault(Fault {
            times,
            coin_pub,
            delay,
            ..Fault::new(kind)
        })
        .unwrap();
}

/// The next refund of this coin is granted, but told this much later.
fn delay(shop: &Shop, coin: &Coin, delay: Duration) {
    let coin_pub = Some(coin.coin_pub);
    shop.sandbox
        .fault(Fault {
            coin_pub,
            delay,
            ..Fault::new(FaultKind::Delay)
        })
        .unwrap();
}

fn fail_keys(shop: &Shop, kind: FaultKind, delay: Duration) {
    shop.sandbox
        .fault(Fault {
            path: FaultPath::Keys,
            delay,
            ..Fault::new(kind)
        })
        .unwrap();
}

/// Times that a test of a slow exchange can wait for, in milliseconds.
fn short(call: u64, keys: u64, request: u64) -> Options {
    let times = Times {
        call: Duration::from_millis(call),
        keys: Duration::from_millis(keys),
        request: Duration::from_millis(request),
        ..Times::default()
    };
    Options {
        times,
        ..Options::default()
    }
}

/// How often the exchange was asked to refund this coin.
fn asked_for(shop: &Shop, coin: &Coin) -> usize {
    let path = format!("/coins/{}/refund", coin.coin_pub);
    shop.sandbox
        .requests()
        .iter()
        .filter(|request| request.path == path)
        .count()
}

/// How often the exchange was asked for its keys.
fn asked_keys(shop: &Shop) -> usize {
    shop.sandbox
        .requests()
        .iter()
        .filter(|request| request.path == "/keys")
        .count()
}

/// How often the exchange refunded this coin. Its books hold no permission twice.
fn refunded(shop: &Shop, coin: &Coin) -> usize {
    shop.sandbox
        .refunds()
        .iter()
        .filter(|refund| refund.coin_pub == coin.coin_pub)
        .count()
}

/// Waits until the exchange was asked that often for a permission of this order and all of it is recorded: only then
/// may the clock move on, or the background finds the call still under way.
async fn asked_and_recorded(shop: &Shop, id: &str, coin: &Coin, rtransaction_id: u64, times: usize) {
    let order = OrderKey {
        instance: InstanceId::root(),
        order: id.parse().unwrap(),
    };
    let key = (order, coin.coin_pub, RefundId::new(rtransaction_id).unwrap());
    let service = &shop.app().service;
    shop.until("the next attempt", async || {
        // A permission that was asked may be asked within an age only while it is under way.
        asked_for(shop, coin) >= times && !service.settler.may_ask(&key, 1 << 40, (service.clock)())
    })
    .await;
    assert_eq!(asked_for(shop, coin), times);
}

/// Type, status and code of an entry in an answer.
fn entry(body: &Value, index: usize) -> (String, Option<u64>, Option<u64>) {
    let entry = &body["refunds"][index];
    let kind = entry["type"].as_str().unwrap().to_owned();
    (
        kind,
        entry["exchange_status"].as_u64(),
        entry["exchange_code"].as_u64(),
    )
}

fn failure(status: u64, code: u64) -> (String, Option<u64>, Option<u64>) {
    ("failure".into(), Some(status), Some(code))
}

fn success() -> (String, Option<u64>, Option<u64>) {
    ("success".into(), Some(200), None)
}

/// What is recorded of the exchange's replies to this coin, a line an attempt.
fn attempts(events: &[Event], coin: &Coin) -> Vec<String> {
    let line = |event: &Event| match &event.facts {
        Facts::ExchangeReplied(f) if f.coin_pub == coin.coin_pub => {
            assert_eq!(
                f.exchange_pub.is_some() && f.verdict == Verdict::Confirmed,
                f.verdict == Verdict::Confirmed
            );
            Some(format!("{} {} {:?}", f.attempt, f.http_status, f.verdict))
        }
        Facts::ExchangeUnreached(f) if f.coin_pub == coin.coin_pub => {
            Some(format!("{} {:?}", f.attempt, f.failure))
        }
        _ => None,
    };
    events.iter().filter_map(line).collect()
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.facts.kind() == kind).count()
}
