//! The recordings, as the tests ask for them. What a file says is never adapted here.

use std::path::PathBuf;

use quittance_taler::{CoinPub, HashCode, contract_hash};
use serde_json::{Value, json};

/// The exchange of all recordings.
pub(crate) const EXCHANGE_URL: &str = "http://127.0.0.1:8081/";
pub(crate) const CURRENCY: &str = "TESTKUDOS";

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A payment that the recorded exchange was asked for by a program: contract and merchant with their keys, coins with theirs,
/// request and reply. It stands with the recordings of the messages' crate.
pub(crate) struct Paying(Value);

impl Paying {
    pub(crate) fn read(name: &str) -> Paying {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("taler/tests/fixtures");
        let file = folder.join(format!("deposit-{name}.json"));
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Paying(serde_json::from_slice(&bytes).unwrap())
    }

    pub(crate) fn get(&self, pointer: &str) -> &Value {
        let found = self.0.pointer(pointer);
        found.unwrap_or_else(|| panic!("the recording has no {pointer}"))
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.get(pointer).as_str().unwrap()
    }

    pub(crate) fn terms(&self) -> &Value {
        self.get("/contract_terms")
    }

    pub(crate) fn order_id(&self) -> &str {
        self.text("/contract_terms/order_id")
    }

    pub(crate) fn h_contract(&self) -> HashCode {
        self.text("/h_contract_terms").parse().unwrap()
    }

    pub(crate) fn reply_status(&self) -> u16 {
        u16::try_from(self.get("/reply/status").as_u64().unwrap()).unwrap()
    }

    /// The wallet's request, of which the recording has the coins alone.
    pub(crate) fn pay_request(&self) -> Value {
        let coin = |coin: &Value| {
            json!({
                "coin_pub": coin["coin_pub"], "coin_sig": coin["coin_sig"], "contribution": coin["contribution"],
                "h_denom": coin["denom_pub_hash"], "ub_sig": coin["ub_sig"], "exchange_url": EXCHANGE_URL,
            })
        };
        let coins: Vec<Value> = self.get("/coins").as_array().unwrap().iter().map(coin).collect();
        json!({ "coins": coins, "session_id": "" })
    }
}

/// A request for a refund and what the exchange replied, with the deposit before it.
pub(crate) struct Recording(Value);

impl Recording {
    pub(crate) fn read(name: &str) -> Recording {
        Recording(serde_json::from_slice(&bytes(&format!("refund-{name}.json"))).unwrap())
    }

    pub(crate) fn get(&self, pointer: &str) -> &Value {
        self.0
            .pointer(pointer)
            .unwrap_or_else(|| panic!("the recording has no {pointer}"))
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.get(pointer).as_str().unwrap()
    }

    pub(crate) fn terms(&self) -> Value {
        self.get("/deposit/contract_terms").clone()
    }

    pub(crate) fn order_id(&self) -> &str {
        self.text("/deposit/contract_terms/order_id")
    }

    pub(crate) fn h_contract(&self) -> HashCode {
        self.text("/deposit/h_contract_terms").parse().unwrap()
    }

    /// When the contract was made; refunds were asked within seconds of it.
    pub(crate) fn timestamp_s(&self) -> u64 {
        self.get("/deposit/timestamp/t_s").as_u64().unwrap()
    }

    /// Its deposits as the intake takes them, in the contract's order.
    pub(crate) fn deposits(&self) -> Vec<Value> {
        let told = |coin: &Value| {
            json!({
                "coin_pub": coin["coin_pub"], "exchange_url": EXCHANGE_URL, "amount_with_fee": coin["contribution"],
                "deposit_fee": coin["deposit_fee"], "refund_fee": coin["refund_fee"], "h_denom": coin["denom_pub_hash"],
                "coin_sig": coin["coin_sig"],
            })
        };
        self.get("/deposit/coins")
            .as_array()
            .unwrap()
            .iter()
            .map(told)
            .collect()
    }

    /// The coin whose refund was asked for.
    pub(crate) fn coin(&self) -> CoinPub {
        self.text("/inputs/coin_pub").parse().unwrap()
    }

    pub(crate) fn id(&self) -> u64 {
        self.get("/inputs/rtransaction_id").as_u64().unwrap()
    }

    pub(crate) fn request(&self) -> &Value {
        self.get("/request/body")
    }

    pub(crate) fn reply_status(&self) -> u16 {
        u16::try_from(self.get("/reply/status").as_u64().unwrap()).unwrap()
    }

    /// The reply's body, byte for byte.
    pub(crate) fn reply_raw(&self) -> &str {
        self.text("/reply/body_raw")
    }

    /// What a wallet must be told of this refund.
    pub(crate) fn entry(&self, execution_s: u64) -> Value {
        let mut entry = if self.reply_status() == 200 {
            json!({
                "type": "success",
                "exchange_sig": self.get("/reply/body/exchange_sig"),
                "exchange_pub": self.get("/reply/body/exchange_pub"),
            })
        } else {
            json!({
                "type": "failure",
                "exchange_code": self.get("/reply/body/code"),
                "exchange_reply": self.get("/reply/body"),
            })
        };
        entry["exchange_status"] = json!(self.reply_status());
        entry["coin_pub"] = json!(self.coin());
        entry["rtransaction_id"] = json!(self.id());
        entry["refund_amount"] = self.request()["refund_amount"].clone();
        entry["execution_time"] = json!({ "t_s": execution_s });
        entry
    }
}

/// One order of a recorded wallet: its contract, and all messages about it, to and from its merchant.
pub(crate) struct Flow {
    pub(crate) order_id: String,
    pub(crate) terms: Value,
    /// As the wallet computed it.
    pub(crate) h_contract: String,
    /// Before the claim: the shop made the order and asked for it.
    pub(crate) before: Vec<Message>,
    pub(crate) messages: Vec<Message>,
}

pub(crate) struct Message {
    pub(crate) to_exchange: bool,
    pub(crate) method: String,
    /// Path and query; to the exchange the whole URL.
    pub(crate) path: String,
    pub(crate) request: Value,
    pub(crate) status: u64,
    pub(crate) reply: Value,
}

impl Message {
    fn read(line: &str) -> Message {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let to_exchange = line["dir"] == "merchant->exchange";
        let path = &line[if to_exchange { "url" } else { "path" }];
        Message {
            to_exchange,
            method: line["method"].as_str().unwrap().to_owned(),
            path: path.as_str().unwrap().to_owned(),
            status: line["status"].as_u64().unwrap(),
            request: line["request"].take(),
            reply: line["reply"].take(),
        }
    }

    /// A wallet's message about the order, by what follows the order's id in its path.
    pub(crate) fn of_wallet(&self, order_id: &str) -> Option<&str> {
        self.path.strip_prefix("/orders/")?.strip_prefix(order_id)
    }

    /// The coin, where this is a request of that kind to the exchange.
    pub(crate) fn coin(&self, kind: &str) -> Option<CoinPub> {
        let coin = self
            .path
            .strip_prefix(EXCHANGE_URL)?
            .strip_prefix("coins/")?
            .strip_suffix(kind)?;
        Some(coin.strip_suffix('/')?.parse().unwrap())
    }
}

/// All orders of a recorded wallet that were claimed, in order.
pub(crate) fn flows(name: &str) -> Vec<Flow> {
    let text = String::from_utf8(bytes(name)).unwrap();
    let mut flows: Vec<Flow> = Vec::new();
    let mut before = Vec::new();
    for message in text.lines().map(Message::read) {
        if message.path.ends_with("/claim") {
            let terms = message.reply["contract_terms"].clone();
            flows.push(Flow {
                order_id: terms["order_id"].as_str().unwrap().to_owned(),
                h_contract: contract_hash(&terms).unwrap().to_string(),
                terms,
                before: std::mem::take(&mut before),
                messages: Vec::new(),
            });
        }
        let its = |flow: &&mut Flow| {
            if message.to_exchange {
                message.request["h_contract_terms"] == flow.h_contract.as_str()
            } else {
                message.path.contains(&flow.order_id)
            }
        };
        if let Some(flow) = flows.iter_mut().find(its) {
            flow.messages.push(message);
        } else {
            assert!(
                message.path.starts_with("/private/orders"),
                "whose is {}?",
                message.path
            );
            before.push(message);
        }
    }
    flows
}

/// Deposit and refund fee of a denomination of the recorded exchange.
pub(crate) fn fees(h_denom: &Value) -> (Value, Value) {
    let verified: Value = serde_json::from_slice(&bytes("keys.verified.json")).unwrap();
    let keys: Value = serde_json::from_slice(&bytes("keys.body.json")).unwrap();
    let of = |list: &Value, member: &str, value: &Value| {
        let denom = list
            .as_array()
            .unwrap()
            .iter()
            .find(|denom| denom[member] == *value);
        denom
            .unwrap_or_else(|| panic!("no denomination with {member} {value}"))
            .clone()
    };
    let value = &of(&verified["denoms"], "h_denom_pub", h_denom)["value"];
    let denom = of(&keys["denoms"], "value", value);
    (denom["fee_deposit"].clone(), denom["fee_refund"].clone())
}
