//! Payments through HTTP, sandbox and ledger: paying, failing half-way, and paying against aborts and other wallets.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod paying;
mod rivals;
use std::net::SocketAddr;
use std::time::Duration;

use quittance_sandbox::{Fault, FaultKind, FaultPath, Payment, Purse, Sandbox, SandboxConfig};
use quittance_taler::{EddsaSignature, HashCode, message};
use serde_json::{Value, json};

use support::{NOON_S, Options, Reply, Shop, TestClock};

impl Shop {
    fn purse(&self, amount: &str) -> Purse {
        self.sandbox.withdraw(amount.parse().unwrap()).unwrap()
    }

    async fn pay_by(&self, id: &str, payment: &Payment) -> Reply {
        self.post(&format!("orders/{id}/pay"), &payment.pay_request(""))
            .await
    }

    async fn take_back(&self, id: &str, payment: &Payment) -> Reply {
        self.post(&format!("orders/{id}/abort"), &payment.abort_request())
            .await
    }

    /// The payment is granted, with the merchant's signature.
    fn is_paid(&self, reply: &Reply, h_contract: HashCode) -> Value {
        let body = reply.expect(200);
        let sig: EddsaSignature = body["sig"].as_str().unwrap().parse().unwrap();
        assert!(self.merchant_pub.verify(&message::payment_ok(&h_contract), &sig));
        body
    }
}

/// How many batches arrived at the exchange.
fn batches(sandbox: &Sandbox) -> usize {
    let requests = sandbox.requests();
    requests
        .iter()
        .filter(|request| request.path == "/batch-deposit")
        .count()
}

/// Lets the next batches meet a fault.
fn fail(sandbox: &Sandbox, kind: FaultKind, times: u32) {
    let delay = if kind == FaultKind::Delay {
        Duration::from_mins(1)
    } else {
        Duration::ZERO
    };
    let fault = Fault {
        times,
        delay,
        path: FaultPath::Deposit,
        ..Fault::new(kind)
    };
    sandbox.fault(fault).unwrap();
}

/// Lets the reply to the next batch come late.
fn delay(sandbox: &Sandbox, delay: Duration) {
    let fault = Fault {
        delay,
        path: FaultPath::Deposit,
        ..Fault::new(FaultKind::Delay)
    };
    sandbox.fault(fault).unwrap();
}

/// A shop that takes coins of two exchanges.
async fn with_two_exchanges() -> (Shop, Sandbox) {
    let second = Sandbox::start(SandboxConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        currency: "KUDOS".parse().unwrap(),
        seed: 12,
        clock: TestClock::at_s(NOON_S).clock(),
    })
    .await
    .unwrap();
    let more_config = format!(
        "[merchant-exchange-second]\nEXCHANGE_BASE_URL = {}\nMASTER_KEY = {}\nCURRENCY = KUDOS\n",
        second.base_url(),
        second.master_pub()
    );
    let shop = Shop::open_with(Options {
        more_config,
        ..Options::default()
    })
    .await;
    shop.open_account().await;
    (shop, second)
}

/// A payment of the terms with the first coin of each purse, for these amounts.
fn of_both(terms: &Value, purses: [&Purse; 2], amounts: [&str; 2]) -> Payment {
    let mut both = purses[0].clone();
    let place = both.coins().count();
    both.join(purses[1].clone());
    let spends = [
        (0, amounts[0].parse().unwrap()),
        (place, amounts[1].parse().unwrap()),
    ];
    both.pay_with(terms, &spends).unwrap()
}

fn session(payment: &Payment, id: &str) -> Value {
    let mut body = payment.pay_request("");
    body["session_id"] = json!(id);
    body
}
