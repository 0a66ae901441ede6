//! The network between the service and its exchanges, and the exchanges on it. A request that the service sends is
//! held here; the run decides when it arrives, what the exchange or a proxy does to it, and when the reply comes back,
//! if it does. A request may arrive after its sender gave up, arrive twice, or never.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quittance::clock::Clock;
use quittance::limits::DEPOSIT_LINGERS;
use quittance::simulation::{Reply, Wire};
use quittance_events::facts::Failure;
use quittance_sandbox::{Direct, FaultKind};
use quittance_taler::Micros;
use serde_json::Value;
use tokio::sync::oneshot;

/// A refund request as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) coin: String,
    pub(crate) id: u64,
    pub(crate) amount: String,
    pub(crate) h_contract: String,
}

/// A request that the service sent.
struct Call {
    exchange: usize,
    /// `None`: it is for `/keys`, or a batch of deposits.
    refund: Option<Asked>,
    /// It is a batch of deposits.
    batch: bool,
    body: Vec<u8>,
    sent: Micros,
    sender: Option<oneshot::Sender<Result<Reply, Failure>>>,
    /// The reply on its way back.
    reply: Option<Result<Reply, Failure>>,
    /// The oracles have looked at it.
    seen: bool,
}

impl Call {
    fn is_gone(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// How long a batch may be on its way whose sender is gone, in seconds: less than an abort waits for.
const LINGERS_S: u64 = DEPOSIT_LINGERS.as_secs() - 10;

/// How a call stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallState {
    pub(crate) number: u64,
    pub(crate) exchange: usize,
    pub(crate) refund: Option<Asked>,
    batch: bool,
    /// A reply is on its way.
    pub(crate) answered: bool,
    /// The sender still waits.
    pub(crate) awaited: bool,
}

impl CallState {
    pub(crate) fn what(&self) -> String {
        let what = match &self.refund {
            None if self.batch => "a batch of deposits".to_owned(),
            None => "/keys".to_owned(),
            Some(asked) => format!("refund {} of coin {}", asked.id, short(&asked.coin)),
        };
        format!("call {} ({what}, exchange {})", self.number, self.exchange)
    }
}

/// Enough of a key to tell it from the others of a run.
pub(crate) fn short(text: &str) -> &str {
    text.get(..6).unwrap_or(text)
}

#[derive(Default)]
struct Wires {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

/// All that is between the service and money.
pub(crate) struct Network {
    pub(crate) exchanges: Vec<Direct>,
    wires: Mutex<Wires>,
    /// What time it is.
    truth: Clock,
}

impl Network {
    pub(crate) fn new(exchanges: Vec<Direct>, truth: Clock) -> Network {
        Network {
            exchanges,
            wires: Mutex::default(),
            truth,
        }
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All calls, in the order of their sending.
    pub(crate) fn calls(&self) -> Vec<CallState> {
        self.wires()
            .calls
            .iter()
            .map(|(number, call)| CallState {
                number: *number,
                exchange: call.exchange,
                refund: call.refund.clone(),
                batch: call.batch,
                answered: call.reply.is_some(),
                awaited: call.sender.as_ref().is_some_and(|sender| !sender.is_closed()),
            })
            .collect()
    }

    /// Refund requests that were sent since this was asked last.
    pub(crate) fn new_refunds(&self) -> Vec<Asked> {
        let mut wires = self.wires();
        let unseen = wires.calls.values_mut().filter(|call| !call.seen);
        unseen
            .filter_map(|call| {
                call.seen = true;
                call.refund.clone()
            })
            .collect()
    }

    /// The request arrives, once more if it did before. What comes back takes the place of what was on its way.
    ///
    /// A batch whose sender is gone arrives for as long only as an abort waits for it: what comes later is nothing that a
    /// merchant could hear of.
    pub(crate) fn arrive(&self, number: u64, fault: Option<FaultKind>) {
        let (exchange, coin, batch, body) = {
            let mut wires = self.wires();
            let call = &wires.calls[&number];
            if call.batch && call.is_gone() && call.sent.plus_s(LINGERS_S) <= (self.truth)() {
                wires.calls.remove(&number);
                return;
            }
            let coin = call.refund.as_ref().map(|asked| asked.coin.clone());
            (call.exchange, coin, call.batch, call.body.clone())
        };
        let exchange = &self.exchanges[exchange];
        let reply = match coin {
            None if batch => exchange.batch_deposit(&body, fault),
            None => exchange.keys(fault),
            Some(coin) => exchange.refund(&coin, &body, fault),
        };
        let reply = reply
            .map(|(http_status, body)| Reply { http_status, body })
            .map_err(|_| Failure::Closed);
        if let Some(call) = self.wires().calls.get_mut(&number) {
            call.reply = Some(reply);
        }
    }

    /// The reply comes to the sender.
    pub(crate) fn deliver(&self, number: u64) {
        let Some(call) = self.wires().calls.remove(&number) else {
            return;
        };
        if let (Some(sender), Some(reply)) = (call.sender, call.reply) {
            // Who gave up does not hear it.
            let _ = sender.send(reply);
        }
    }

    /// The sender sees the connection fail. The request itself may still arrive, if it is left on the way.
    pub(crate) fn break_off(&self, number: u64, failure: Failure, stays_on_the_way: bool) {
        let mut wires = self.wires();
        let Some(call) = wires.calls.get_mut(&number) else {
            return;
        };
        if let Some(sender) = call.sender.take() {
            let _ = sender.send(Err(failure));
        }
        if !stays_on_the_way {
            wires.calls.remove(&number);
        }
    }
}

/// The network as the service sees it.
pub(crate) struct ServiceSide(pub(crate) std::sync::Arc<Network>);

impl Wire for ServiceSide {
    fn call(
        &self,
        url: url::Url,
        body: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>> {
        let base = |exchange: &Direct| {
            url.as_str()
                .strip_prefix(exchange.base_url().as_str())
                .map(str::to_owned)
        };
        let mut exchanges = self.0.exchanges.iter().enumerate();
        let found = exchanges.find_map(|(index, exchange)| Some((index, base(exchange)?)));
        let Some((exchange, path)) = found else {
            return Box::pin(async { Err(Failure::Connect) });
        };
        let coin = path
            .strip_prefix("coins/")
            .and_then(|rest| rest.strip_suffix("/refund"));
        let refund = coin.map(|coin| asked(coin, &body));
        let (sender, receiver) = oneshot::channel();
        let mut wires = self.0.wires();
        wires.next += 1;
        let number = wires.next;
        let call = Call {
            exchange,
            refund,
            batch: path == "batch-deposit",
            body,
            sent: (self.0.truth)(),
            sender: Some(sender),
            reply: None,
            seen: false,
        };
        wires.calls.insert(number, call);
        Box::pin(async move { receiver.await.unwrap_or(Err(Failure::Closed)) })
    }
}

fn asked(coin: &str, body: &[u8]) -> Asked {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Asked {
        coin: coin.to_owned(),
        id: body["rtransaction_id"].as_u64().unwrap_or_default(),
        amount: text("refund_amount"),
        h_contract: text("h_contract_terms"),
    }
}
