//! The sandbox over real HTTP: every answer that was recorded of taler-exchange 0.9.1, compared with its recording,
//! every fault, and the sandbox's own commands. The client is a bare TCP stream, so that a test sees exactly what
//! arrives, or does not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod deposits;
mod keys;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quittance_sandbox::{
    Aggregate, Deposit, Fault, FaultError, FaultKind, FaultPath, MAX_BODY_BYTES, Sandbox, SandboxConfig,
    system_clock,
};
use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, ExchangePub, HashCode, MasterPub, Micros, Timestamp, message,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// When the recordings were made.
const NOW_S: u64 = 1_795_225_225;

/// The sandbox with a clock that the test sets.
struct Exchange {
    sandbox: Sandbox,
    now_s: Arc<AtomicU64>,
}

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> u64 {
        self.json()["code"].as_u64().unwrap()
    }
}

impl Exchange {
    async fn start() -> Exchange {
        let now_s = Arc::new(AtomicU64::new(NOW_S));
        let clock = Arc::clone(&now_s);
        let sandbox = Sandbox::start(SandboxConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            currency: "TESTKUDOS".parse().unwrap(),
            seed: 1,
            clock: Arc::new(move || Micros::from_s(clock.load(Ordering::SeqCst)).unwrap()),
        });
        Exchange {
            sandbox: sandbox.await.unwrap(),
            now_s,
        }
    }

    async fn send(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(self.sandbox.addr()).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).await?;
        if raw.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&raw[..end]).unwrap();
        let (first, rest) = head.split_once("\r\n").unwrap();
        let headers: BTreeMap<String, String> = rest
            .split("\r\n")
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let body = raw[end + 4..].to_vec();
        assert_eq!(headers["content-length"], body.len().to_string());
        Ok(Reply {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers,
            body,
        })
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, b"").await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &serde_json::to_vec(body).unwrap())
            .await
            .unwrap()
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body).await;
        assert_eq!(
            reply.status,
            200,
            "{path}: {}",
            String::from_utf8_lossy(&reply.body)
        );
        reply.json()
    }

    /// Sends a recorded request, after booking what had been deposited when it was recorded.
    async fn replay(&self, recording: &Value) -> Reply {
        self.command("/sandbox/deposits", &deposits(recording)).await;
        let url = recording["request"]["url"].as_str().unwrap();
        let path = url.strip_prefix("http://127.0.0.1:8081").unwrap();
        let body = match &recording["request"]["body"] {
            Value::Null => recording["request"]["body_raw"]
                .as_str()
                .unwrap()
                .as_bytes()
                .to_vec(),
            body => serde_json::to_vec(body).unwrap(),
        };
        self.send("POST", path, &body).await.unwrap()
    }

    /// Status, header names and member names, those of the history too, are the recording's.
    async fn replay_like_recorded(&self, name: &str) -> Reply {
        let recording = recording(name);
        let reply = self.replay(&recording).await;
        let recorded = &recording["reply"];
        assert_eq!(
            u64::from(reply.status),
            recorded["status"].as_u64().unwrap(),
            "{name}"
        );
        for (header, value) in recorded["headers"].as_object().unwrap() {
            let ours = reply.headers.get(&header.to_lowercase());
            assert!(ours.is_some(), "{name}: {header}");
            if !["Date", "Content-Length"].contains(&header.as_str()) {
                assert_eq!(ours.map(String::as_str), value.as_str(), "{name}: {header}");
            }
        }
        assert_eq!(shape(&reply.json()), shape(&recorded["body"]), "{name}");
        assert_eq!(reply.json().get("code"), recorded["body"].get("code"), "{name}");
        assert_eq!(reply.json().get("hint"), recorded["body"].get("hint"), "{name}");
        reply
    }
}

fn recording(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The deposits behind a recorded request, as the sandbox's command has them.
fn deposits(recording: &Value) -> Value {
    let deposit = &recording["deposit"];
    let coin = |coin: &Value| {
        json!({
            "coin_pub": coin["coin_pub"],
            "h_contract_terms": deposit["h_contract_terms"],
            "merchant_pub": deposit["merchant_pub"],
            "amount_with_fee": coin["contribution"],
            "deposit_fee": coin["deposit_fee"],
            "refund_fee": coin["refund_fee"],
            "refund_deadline": deposit["refund_deadline"],
        })
    };
    json!({ "deposits": deposit["coins"].as_array().unwrap().iter().map(coin).collect::<Vec<_>>() })
}

/// A value with its leaves taken off: member names and the types of their values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(entries) => entries.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) | Value::Null => json!("other"),
    }
}

fn text<T: FromStr<Err: Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

/// Who signed a confirmation of this request, or nobody, where the signature does not verify.
fn confirmed_by(path: &str, request: &Value, reply: &Value) -> Option<ExchangePub> {
    let signer: ExchangePub = text(&reply["exchange_pub"]);
    let coin: CoinPub = path.split('/').nth(2).unwrap().parse().unwrap();
    let confirmation = message::refund_confirmation(
        &text(&request["h_contract_terms"]),
        &coin,
        &text(&request["merchant_pub"]),
        request["rtransaction_id"].as_u64().unwrap(),
        &text::<Amount>(&request["refund_amount"]),
    );
    signer
        .verify(&confirmation, &text(&reply["exchange_sig"]))
        .then_some(signer)
}

/// A coin of the tests' own, and refund requests for it.
struct Coin {
    merchant: EddsaPrivateKey,
    deposit: Deposit,
}

impl Coin {
    fn new(number: u8) -> Coin {
        let merchant = EddsaPrivateKey::from_bytes([42; 32]);
        let deposit = Deposit {
            coin_pub: CoinPub::from_bytes([number; 32]),
            h_contract: HashCode::from_bytes([1; 64]),
            merchant_pub: merchant.merchant_pub(),
            amount_with_fee: "TESTKUDOS:100".parse().unwrap(),
            deposit_fee: "TESTKUDOS:0.1".parse().unwrap(),
            refund_fee: "TESTKUDOS:0.1".parse().unwrap(),
            refund_deadline: None,
        };
        Coin { merchant, deposit }
    }

    fn path(&self) -> String {
        format!("/coins/{}/refund", self.deposit.coin_pub)
    }

    fn request(&self, rtransaction_id: u64) -> Value {
        let amount: Amount = "TESTKUDOS:1".parse().unwrap();
        let signed = message::refund_request(
            &self.deposit.h_contract,
            &self.deposit.coin_pub,
            rtransaction_id,
            &amount,
        );
        json!({
            "refund_amount": amount,
            "h_contract_terms": self.deposit.h_contract,
            "rtransaction_id": rtransaction_id,
            "merchant_pub": self.deposit.merchant_pub,
            "merchant_sig": self.merchant.sign(&signed),
        })
    }
}

#[tokio::test]
async fn answers_as_the_recorded_exchange_did() {
    let exchange = Exchange::start().await;
    for name in [
        "refund-200-partial",
        "refund-200-repeat",
        "refund-conflict-same-rtid-other-amount",
        "refund-200-second-rtid",
        "refund-409-too-much",
        "refund-200-second-coin-full",
        "refund-200-full-at-once",
        "refund-403-bad-sig",
        "refund-404-other-contract",
        "refund-404-other-merchant",
        "refund-404-unknown-coin",
        "refund-409-more-than-deposit",
        "refund-below-refund-fee",
        "refund-zero-amount",
        "refund-malformed-json",
        "refund-missing-field",
        "refund-rtid-2to63",
    ] {
        let reply = exchange.replay_like_recorded(name).await;
        if reply.status == 200 {
            let recorded = &recording(name)["request"];
            let path = recorded["url"]
                .as_str()
                .unwrap()
                .strip_prefix("http://127.0.0.1:8081")
                .unwrap();
            assert!(
                confirmed_by(path, &recorded["body"], &reply.json()).is_some(),
                "{name}"
            );
        }
    }
    // Granted: 4 and 1.5 of one coin, 2.5, 10 and 0.25 of others; the repeat is not in the books.
    let granted = exchange.sandbox.refunds();
    let amounts: Vec<String> = granted.iter().map(|refund| refund.amount.to_string()).collect();
    assert_eq!(
        amounts,
        [
            "TESTKUDOS:4",
            "TESTKUDOS:1.5",
            "TESTKUDOS:2.5",
            "TESTKUDOS:10",
            "TESTKUDOS:0.25"
        ]
    );
    let books = exchange.get("/sandbox/books").await.json();
    assert_eq!(books["refunds"], json!(granted));
}

#[tokio::test]
async fn after_aggregation_only_what_was_granted_is_confirmed() {
    let exchange = Exchange::start().await;
    let granted = "refund-200-deadline-passed-not-yet-aggregated";
    exchange.replay_like_recorded(granted).await;
    // The deadline is a second after the time of recording.
    assert_eq!(
        exchange.command("/sandbox/aggregate", &json!({})).await,
        json!({ "aggregated": 0 })
    );
    exchange.now_s.fetch_add(1, Ordering::SeqCst);
    let merchant = &recording(granted)["inputs"]["merchant_pub"];
    let aggregate = json!({ "merchant_pub": merchant });
    assert_eq!(
        exchange.command("/sandbox/aggregate", &aggregate).await,
        json!({ "aggregated": 1 })
    );
    exchange
        .replay_like_recorded("refund-410-after-aggregation")
        .await;
    exchange.replay_like_recorded(granted).await;
    assert_eq!(exchange.sandbox.refunds().len(), 1);
    assert_eq!(exchange.sandbox.aggregate(Aggregate::default()), 0);
}

#[tokio::test]
async fn keys_has_the_recorded_members_and_lists_the_signer_of_confirmations() {
    let exchange = Exchange::start().await;
    let coin = Coin::new(1);
    exchange.sandbox.deposit(coin.deposit).unwrap();
    let recorded = recording("keys.body");
    let first = exchange.get("/keys").await.json();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&first), names(&recorded));
    assert_eq!(shape(&first["signkeys"]), shape(&recorded["signkeys"]));
    assert_eq!(first["version"], recorded["version"]);
    assert_eq!(first["base_url"], json!(exchange.sandbox.base_url()));
    assert_eq!(
        text::<MasterPub>(&first["master_public_key"]),
        exchange.sandbox.master_pub()
    );

    let listed = |keys: &Value, at: usize| -> ExchangePub {
        let key = &keys["signkeys"][at];
        let time = |name: &str| Timestamp::from_s(key[name]["t_s"].as_u64().unwrap()).unwrap();
        let public = text(&key["key"]);
        let signed = message::signing_key_validity(
            time("stamp_start"),
            time("stamp_expire"),
            time("stamp_end"),
            &public,
        );
        assert!(
            exchange
                .sandbox
                .master_pub()
                .verify(&signed, &text(&key["master_sig"]))
        );
        public
    };
    let reply = exchange.post(&coin.path(), &coin.request(1)).await.json();
    assert_eq!(
        confirmed_by(&coin.path(), &coin.request(1), &reply),
        Some(listed(&first, 0))
    );

    // A repeat after a rotation is confirmed by the new key, and /keys lists both.
    exchange.now_s.fetch_add(60, Ordering::SeqCst);
    let rotated: ExchangePub = text(&exchange.command("/sandbox/rotate", &json!({})).await["key"]);
    let reply = exchange.post(&coin.path(), &coin.request(1)).await.json();
    assert_eq!(
        confirmed_by(&coin.path(), &coin.request(1), &reply),
        Some(rotated)
    );
    let second = exchange.get("/keys").await.json();
    assert_eq!(
        [listed(&second, 0), listed(&second, 1)],
        [rotated, listed(&first, 0)]
    );
    let third = exchange.sandbox.rotate_signing_key();
    assert_eq!(listed(&exchange.get("/keys").await.json(), 0), third);
    assert_eq!(exchange.sandbox.refunds().len(), 1);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_exchange() {
    let start = |seed| {
        Sandbox::start(SandboxConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            currency: "KUDOS".parse().unwrap(),
            seed,
            clock: system_clock(),
        })
    };
    let (one, same, other) = (
        start(9).await.unwrap(),
        start(9).await.unwrap(),
        start(10).await.unwrap(),
    );
    assert_eq!(one.master_pub(), same.master_pub());
    assert_ne!(one.master_pub(), other.master_pub());
    let addr = one.addr();
    one.stop().await;
    assert_eq!(
        TcpStream::connect(addr).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert!(TcpStream::connect(same.addr()).await.is_ok());
}

#[tokio::test]
async fn faults_before_the_work_leave_the_books_alone() {
    let exchange = Exchange::start().await;
    let coin = Coin::new(1);
    exchange.sandbox.deposit(coin.deposit).unwrap();
    let body = serde_json::to_vec(&coin.request(1)).unwrap();

    exchange
        .command("/sandbox/faults", &json!({ "kind": "reset" }))
        .await;
    let error = exchange.send("POST", &coin.path(), &body).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    for (status, code) in [(500, 60), (503, 1007), (429, 60), (408, 11), (451, 1035)] {
        let fault = json!({ "kind": "status", "status": status, "code": code });
        exchange.command("/sandbox/faults", &fault).await;
        let reply = exchange.post(&coin.path(), &coin.request(1)).await;
        assert_eq!((reply.status, reply.code()), (status, code));
        assert!(reply.json()["hint"].is_string());
    }

    exchange
        .command("/sandbox/faults", &json!({ "kind": "html" }))
        .await;
    let reply = exchange.post(&coin.path(), &coin.request(1)).await;
    assert_eq!(
        (reply.status, reply.headers["content-type"].as_str()),
        (502, "text/html")
    );
    assert!(reply.body.starts_with(b"<html>"));

    assert!(exchange.sandbox.refunds().is_empty());
    assert_eq!(exchange.post(&coin.path(), &coin.request(1)).await.status, 200);
    assert_eq!(exchange.sandbox.refunds().len(), 1);
}

#[tokio::test]
async fn faults_after_the_work_hide_a_refund_that_stands_in_the_books() {
    let exchange = Exchange::start().await;
    let coin = Coin::new(1);
    exchange.sandbox.deposit(coin.deposit).unwrap();
    let current: ExchangePub = text(&exchange.get("/keys").await.json()["signkeys"][0]["key"]);
    let kinds = [
        "lost_reply",
        "garbage",
        "truncated",
        "wrong_signature",
        "unknown_key",
        "delay",
    ];
    for (id, kind) in (1_u64..).zip(kinds) {
        let path = coin.path();
        let request = coin.request(id);
        let fault = json!({ "kind": kind, "delay_ms": if kind == "delay" { 50 } else { 0 } });
        exchange.command("/sandbox/faults", &fault).await;
        let asked = Instant::now();
        let reply = exchange
            .send("POST", &path, &serde_json::to_vec(&request).unwrap())
            .await;
        let granted = exchange.sandbox.refunds();
        assert_eq!(granted.last().unwrap().rtransaction_id, id, "{kind}");

        let honest = exchange.post(&path, &request).await;
        assert_eq!(
            confirmed_by(&path, &request, &honest.json()),
            Some(current),
            "{kind}"
        );
        assert_eq!(
            exchange.sandbox.refunds(),
            granted,
            "{kind}: a repeat is no second refund"
        );
        match (kind, reply) {
            ("lost_reply", Err(error)) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
            ("garbage", Ok(reply)) => {
                assert_eq!(reply.status, 200);
                assert!(std::str::from_utf8(&reply.body).is_err());
            }
            ("truncated", Ok(reply)) => {
                assert_eq!(reply.status, 200);
                assert_eq!(reply.body, honest.body[..honest.body.len() / 2]);
                assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
            }
            ("wrong_signature", Ok(reply)) => {
                assert_eq!(reply.json()["exchange_pub"], json!(current));
                assert_eq!(confirmed_by(&path, &request, &reply.json()), None);
            }
            ("unknown_key", Ok(reply)) => {
                let stranger = confirmed_by(&path, &request, &reply.json()).unwrap();
                assert!(
                    !String::from_utf8(exchange.get("/keys").await.body)
                        .unwrap()
                        .contains(&stranger.to_string())
                );
            }
            ("delay", Ok(reply)) => {
                assert_eq!(reply.body, honest.body);
                assert!(asked.elapsed() >= Duration::from_millis(50));
            }
            (kind, reply) => panic!("{kind}: {:?}", reply.map(|reply| reply.status)),
        }
    }
}

#[tokio::test]
async fn a_client_that_gives_up_waiting_was_served_all_the_same() {
    let exchange = Exchange::start().await;
    let coin = Coin::new(1);
    exchange.sandbox.deposit(coin.deposit).unwrap();
    exchange
        .sandbox
        .fault(Fault {
            delay: Duration::from_mins(1),
            ..Fault::new(FaultKind::Delay)
        })
        .unwrap();
    let body = serde_json::to_vec(&coin.request(1)).unwrap();
    let path = coin.path();
    let granted = async {
        while exchange.sandbox.refunds().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        reply = exchange.send("POST", &path, &body) => panic!("not delayed: {:?}", reply.map(|reply| reply.status)),
        () = granted => {}
    }
    // Stopping does not wait for the minute to pass.
    tokio::time::timeout(Duration::from_secs(5), exchange.sandbox.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn faults_hit_the_path_the_coin_and_as_often_as_asked() {
    let exchange = Exchange::start().await;
    let (coin, other) = (Coin::new(1), Coin::new(2));
    exchange.sandbox.deposit(coin.deposit).unwrap();
    exchange.sandbox.deposit(other.deposit).unwrap();
    let fault = Fault {
        times: 2,
        coin_pub: Some(coin.deposit.coin_pub),
        ..Fault::new(FaultKind::Status {
            status: 503,
            code: 1007,
        })
    };
    exchange.sandbox.fault(fault).unwrap();
    for (from, expected) in [(&other, 200), (&coin, 503), (&coin, 503), (&coin, 200)] {
        assert_eq!(
            exchange.post(&from.path(), &from.request(1)).await.status,
            expected
        );
    }

    exchange
        .sandbox
        .fault(Fault {
            path: FaultPath::Keys,
            ..Fault::new(FaultKind::WrongSignature)
        })
        .unwrap();
    assert_eq!(exchange.post(&coin.path(), &coin.request(2)).await.status, 200);
    let spoilt = exchange.get("/keys").await.json();
    let honest = exchange.get("/keys").await.json();
    assert_ne!(
        spoilt["signkeys"][0]["master_sig"],
        honest["signkeys"][0]["master_sig"]
    );
    assert_eq!(spoilt["signkeys"][0]["key"], honest["signkeys"][0]["key"]);

    exchange
        .sandbox
        .fault(Fault {
            path: FaultPath::Keys,
            ..Fault::new(FaultKind::UnknownKey)
        })
        .unwrap();
    assert_eq!(exchange.get("/keys").await.json()["signkeys"], json!([]));
    exchange
        .command("/sandbox/faults", &json!({ "kind": "html", "path": "keys" }))
        .await;
    assert_eq!(exchange.get("/keys").await.status, 502);
    assert_eq!(exchange.get("/keys").await.status, 200);
    let keys = Fault {
        path: FaultPath::Keys,
        coin_pub: Some(coin.deposit.coin_pub),
        ..Fault::new(FaultKind::Html)
    };
    assert_eq!(exchange.sandbox.fault(keys), Err(FaultError::CoinOfKeys));
}

#[tokio::test]
async fn what_the_sandbox_does_not_serve_or_cannot_read_is_refused_as_taler_does() {
    let exchange = Exchange::start().await;
    let unknown = exchange.get("/reserves").await;
    assert_eq!(unknown.status, 404);
    let mut recorded = recording("exchange-config.body");
    recorded["detail"] = json!("/reserves");
    assert_eq!(unknown.json(), recorded);

    let wrong = exchange.post("/keys", &json!({})).await;
    assert_eq!(
        (wrong.status, wrong.code(), wrong.headers["allow"].as_str()),
        (405, 20, "GET")
    );
    let malformed = exchange.post("/coins/NOTACOIN/refund", &json!({})).await;
    assert_eq!((malformed.status, malformed.code()), (400, 1004));
    let large = exchange
        .send("POST", &Coin::new(1).path(), &vec![b' '; MAX_BODY_BYTES + 1])
        .await;
    // The reply may be lost to the reset that ends the upload.
    match large {
        Ok(reply) => assert_eq!((reply.status, reply.code()), (413, 32)),
        Err(error) => assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind())),
    }

    let coin = json!(Coin::new(1).deposit);
    let mut foreign = coin.clone();
    foreign["amount_with_fee"] = json!("EUR:1");
    for (path, body) in [
        ("/sandbox/faults", json!({ "kind": "flood" })),
        ("/sandbox/faults", json!({ "kind": "status", "status": 200 })),
        ("/sandbox/faults", json!({ "kind": "delay", "delay_ms": 600_001 })),
        ("/sandbox/deposits", json!({ "deposits": [foreign] })),
        ("/sandbox/deposits", json!({ "deposit": [coin] })),
        ("/sandbox/aggregate", json!({ "merchant": 1 })),
    ] {
        let reply = exchange.post(path, &body).await;
        assert_eq!((reply.status, reply.code()), (400, 22), "{path} {body}");
        assert!(reply.json()["detail"].is_string());
    }
    exchange
        .command("/sandbox/deposits", &json!({ "deposits": [coin] }))
        .await;
    let mut shown = coin;
    shown["aggregated"] = json!(false);
    assert_eq!(
        exchange.get("/sandbox/books").await.json()["deposits"],
        json!([shown])
    );
}

#[tokio::test]
async fn every_request_is_remembered_those_that_meet_a_fault_too() {
    let exchange = Exchange::start().await;
    let coin = Coin::new(1);
    let body = serde_json::to_vec(&coin.request(1)).unwrap();
    exchange.get("/keys").await;
    exchange.sandbox.fault(Fault::new(FaultKind::Reset)).unwrap();
    assert!(exchange.send("POST", &coin.path(), &body).await.is_err());
    let seen = exchange.sandbox.requests();
    assert_eq!(
        seen.iter()
            .map(|request| request.path.as_str())
            .collect::<Vec<_>>(),
        ["/keys", &coin.path()]
    );
    assert_eq!((seen[1].method.as_str(), &seen[1].body), ("POST", &body));
}
