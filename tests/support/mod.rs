//! A shop on this machine: service, sandbox exchange and a clock that only tests move.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses what it needs of it"
)]

pub mod openapi;
pub mod selling;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quittance::admission::Bounds;
use quittance::app::{App, StartError};
use quittance::clock::{Clock, Steady};
use quittance::commands::{self, NewInstance};
use quittance::config::Config;
use quittance::exchange::Times;
use quittance::takeover::{self, Continued, Takeover};
use quittance_events::copy::Copy;
use quittance_events::create::Beginnings;
use quittance_events::receipt::{HEADER, Receipt};
use quittance_events::seal::answer_digest;
use quittance_events::{Event, InstanceId};
use quittance_replay::{Report, VerifyOptions};
use quittance_sandbox::{Deposit, Sandbox, SandboxConfig};
use quittance_taler::{CoinPub, EddsaPrivateKey, HashCode, MerchantPub, Micros, base32};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-21 02:00:00 UTC: the day of the recordings, before their deadlines.
pub const NOON_S: u64 = 1_795_226_400;

/// A clock that stands still until a test moves it.
#[derive(Clone)]
pub struct TestClock {
    micros: Arc<AtomicU64>,
    /// What has passed, however the clock was set.
    passed_s: Arc<AtomicU64>,
}

impl TestClock {
    pub fn at_s(seconds: u64) -> TestClock {
        TestClock {
            micros: Arc::new(AtomicU64::new(seconds * 1_000_000)),
            passed_s: Arc::default(),
        }
    }

    /// It is set; no time passes.
    pub fn set_s(&self, seconds: u64) {
        self.micros.store(seconds * 1_000_000, Ordering::SeqCst);
    }

    pub fn advance_s(&self, seconds: u64) {
        self.micros.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
        self.passed_s.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn now_s(&self) -> u64 {
        self.micros.load(Ordering::SeqCst) / 1_000_000
    }

    pub fn clock(&self) -> Clock {
        let time = Arc::clone(&self.micros);
        Arc::new(move || Micros::new(time.load(Ordering::SeqCst)).unwrap())
    }

    pub fn clocks(&self) -> (Clock, Steady) {
        let passed = Arc::clone(&self.passed_s);
        let steady = move || Duration::from_secs(passed.load(Ordering::SeqCst));
        (self.clock(), Arc::new(steady))
    }
}

/// What a test may want otherwise.
pub struct Options {
    pub start_s: u64,
    pub undeposited: &'static str,
    /// Base32 of the merchant's private key; `None`: a new one.
    pub merchant_key: Option<String>,
    pub currency: &'static str,
    /// Further exchange sections of the configuration.
    pub more_config: String,
    /// Replaces the sandbox in the configuration: (base URL, master key, address to connect to).
    pub exchange: Option<(String, String, SocketAddr)>,
    pub times: Times,
    /// Of the front door.
    pub bounds: Bounds,
    /// Whose word on a client's address is taken; `None`: as where nothing is configured.
    pub trusted_proxies: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            start_s: NOON_S,
            undeposited: "typed",
            merchant_key: None,
            currency: "KUDOS",
            more_config: String::new(),
            exchange: None,
            times: Times {
                call: Duration::from_secs(5),
                keys: Duration::from_secs(5),
                request: Duration::from_secs(8),
                witness: Duration::from_millis(20),
            },
            bounds: Bounds::default(),
            trusted_proxies: None,
        }
    }
}

/// A reply to a test's request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub receipt: Option<String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("status {}, no JSON ({e}): {:?}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, if the status is this one.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Status and Taler code of an error.
    pub fn error(&self) -> (u16, u64) {
        (self.status, self.json()["code"].as_u64().unwrap())
    }
}

/// A deposit as the tests tell it: value and refund fee.
#[allow(
    clippy::struct_field_names,
    reason = "a coin's public key is called coin_pub everywhere"
)]
#[derive(Clone)]
pub struct Coin {
    pub coin_pub: CoinPub,
    pub amount: String,
    pub refund_fee: String,
}

pub fn coin(number: u8, amount: &str, refund_fee: &str) -> Coin {
    let coin_pub = CoinPub::from_bytes(EddsaPrivateKey::from_bytes([number; 32]).public_bytes());
    Coin {
        coin_pub,
        amount: amount.into(),
        refund_fee: refund_fee.into(),
    }
}

pub struct Shop {
    pub clock: TestClock,
    pub sandbox: Sandbox,
    pub folder: TempDir,
    pub config: Config,
    pub token: String,
    pub vkey: String,
    pub times: Times,
    pub bounds: Bounds,
    pub merchant_pub: MerchantPub,
    app: Option<App>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Shop {
    pub async fn open() -> Shop {
        Shop::open_with(Options::default()).await
    }

    pub async fn open_with(options: Options) -> Shop {
        let clock = TestClock::at_s(options.start_s);
        let sandbox = Sandbox::start(SandboxConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            currency: options.currency.parse().unwrap(),
            seed: 11,
            clock: clock.clock(),
        })
        .await
        .unwrap();
        let folder = TempDir::new().unwrap();
        let (url, master, connect_to) = options.exchange.clone().unwrap_or_else(|| {
            (
                sandbox.base_url(),
                sandbox.master_pub().to_string(),
                sandbox.addr(),
            )
        });
        let file = folder.path().join("quittance.conf");
        let currency = options.currency;
        let trusted = options.trusted_proxies.map_or(String::new(), |networks| {
            format!("TRUSTED_PROXIES = {networks}\n")
        });
        let text = format!(
            "[taler]\nCURRENCY = {currency}\n[merchant]\nSERVE = tcp\nBIND_TO = 127.0.0.1\nPORT = 0\n\
             BASE_URL = https://shop.example/\n[merchant-exchange-test]\nEXCHANGE_BASE_URL = {url}\n\
             MASTER_KEY = {master}\nCURRENCY = {currency}\nCONNECT_TO = {connect_to}\n{}\n[quittance]\n\
             LEDGER = data/ledger.sqlite3\nANCHOR = anchor/ledger.anchor\nKEYS = keys/\n\
             ORIGIN = shop.example/test\nUNDEPOSITED = {}\n{trusted}",
            options.more_config, options.undeposited,
        );
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let merchant_key = options.merchant_key.map(|key| {
            let path = folder.path().join("merchant.key");
            std::fs::write(&path, key).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            path
        });
        let (setup, time) = (config.clone(), clock.clock());
        let (vkey, token) = tokio::task::spawn_blocking(move || {
            let vkey = commands::init(&setup, &time).unwrap();
            let new = NewInstance {
                id: InstanceId::root(),
                name: None,
                merchant_key,
                token_file: None,
            };
            (
                vkey,
                commands::add_instance(&setup, &time, &new).unwrap().unwrap(),
            )
        })
        .await
        .unwrap();
        let app = App::start_within(&config, clock.clocks(), options.times, options.bounds)
            .await
            .unwrap();
        Shop {
            merchant_pub: app
                .service
                .instances
                .get(&InstanceId::root())
                .unwrap()
                .merchant
                .merchant_pub(),
            clock,
            sandbox,
            folder,
            config,
            token,
            vkey,
            times: options.times,
            bounds: options.bounds,
            app: Some(app),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    pub fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// Stops the service in order.
    pub async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }

    /// Starts the service again on the same ledger.
    pub async fn start(&mut self) {
        self.app = Some(
            App::start_within(&self.config, self.clock.clocks(), self.times, self.bounds)
                .await
                .unwrap(),
        );
    }

    pub async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Vec<u8>) -> Reply {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{}/{path}", self.app().addr()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let reply = self.client.request(request).await.unwrap();
        let status = reply.status().as_u16();
        let receipt = reply
            .headers()
            .get(HEADER)
            .map(|value| value.to_str().unwrap().to_owned());
        let content_type = reply.headers().get("content-type").cloned();
        let body = reply.into_body().collect().await.unwrap().to_bytes().to_vec();
        let content_type = content_type.as_ref().map(|value| value.to_str().unwrap());
        openapi::check(method, path, status, content_type, &body);
        Reply {
            status,
            receipt,
            body,
        }
    }

    /// A request with these headers; gives status, headers and body.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, hyper::HeaderMap, String) {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{}/{path}", self.app().addr()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_vec()))).unwrap();
        let reply = self.client.request(request).await.unwrap();
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        let content_type = headers.get("content-type").map(|value| value.to_str().unwrap());
        openapi::check(method, path, status, content_type, &body);
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    /// As a wallet: no token.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, None, body.to_string().into_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None, Vec::new()).await
    }

    /// What caches and readers are told of a reply: content type and cache control, with status and body.
    pub async fn get_file(&self, path: &str, token: Option<&str>) -> (u16, [String; 2], Vec<u8>) {
        let mut request = hyper::Request::get(format!("http://{}/{path}", self.app().addr()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reply = self
            .client
            .request(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        let header = |name| {
            reply
                .headers()
                .get(name)
                .map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let headers = [header("content-type"), header("cache-control")];
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes().to_vec();
        openapi::check("GET", path, status, Some(&headers[0]), &body);
        (status, headers, body)
    }

    /// As the shop: with its token.
    pub async fn post_private(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(&self.token), body.to_string().into_bytes())
            .await
    }

    /// Contract terms of this shop: deadlines in seconds from now.
    pub fn terms(&self, id: &str, amount: &str, refund_in_s: u64, wire_in_s: u64) -> Value {
        let now = self.clock.now_s();
        json!({
            "order_id": id, "amount": amount, "summary": "boots", "timestamp": {"t_s": now},
            "pay_deadline": {"t_s": now + 600}, "refund_deadline": {"t_s": now + refund_in_s},
            "wire_transfer_deadline": {"t_s": now + wire_in_s}, "merchant_pub": self.merchant_pub,
            "merchant_base_url": "https://shop.example/", "products": [],
            "exchanges": [{"url": self.sandbox.base_url(), "master_pub": self.sandbox.master_pub()}],
        })
    }

    pub async fn record_order(&self, terms: &Value) -> HashCode {
        let reply = self
            .post_private("private/ledger/orders", &json!({ "contract_terms": terms }))
            .await;
        serde_json::from_value(reply.expect(200)["h_contract"].clone()).unwrap()
    }

    /// Puts coins into the exchange's books.
    pub fn book(&self, h_contract: HashCode, coins: &[Coin]) {
        for coin in coins {
            self.sandbox
                .deposit(Deposit {
                    coin_pub: coin.coin_pub,
                    h_contract,
                    merchant_pub: self.merchant_pub,
                    amount_with_fee: coin.amount.parse().unwrap(),
                    deposit_fee: coin.refund_fee.parse().unwrap(),
                    refund_fee: coin.refund_fee.parse().unwrap(),
                    refund_deadline: None,
                })
                .unwrap();
        }
    }

    pub fn told(&self, coins: &[Coin]) -> Vec<Value> {
        let told = |coin: &Coin| {
            json!({"coin_pub": coin.coin_pub, "exchange_url": self.sandbox.base_url(), "amount_with_fee": coin.amount,
                   "deposit_fee": coin.refund_fee, "refund_fee": coin.refund_fee})
        };
        coins.iter().map(told).collect()
    }

    /// Tells the service of deposits.
    pub async fn tell(&self, id: &str, coins: &[Coin], paid: bool) -> Reply {
        let body = json!({ "deposits": self.told(coins), "paid": paid });
        self.post_private(&format!("private/ledger/orders/{id}/deposits"), &body)
            .await
    }

    /// An order with these coins, at the exchange and here. Deadlines: refund in a day, wire in two.
    pub async fn sell(&self, id: &str, amount: &str, coins: &[Coin], paid: bool) -> HashCode {
        let h_contract = self.record_order(&self.terms(id, amount, 86_400, 172_800)).await;
        self.book(h_contract, coins);
        self.tell(id, coins, paid).await.expect(200);
        h_contract
    }

    pub async fn approve(&self, id: &str, total: &str) -> Reply {
        let body = json!({ "refund": total, "reason": "returned" });
        self.post_private(&format!("private/orders/{id}/refund"), &body)
            .await
    }

    pub async fn fetch(&self, id: &str, h_contract: HashCode) -> Reply {
        self.post(
            &format!("orders/{id}/refund"),
            &json!({ "h_contract": h_contract }),
        )
        .await
    }

    pub async fn status(&self, id: &str, h_contract: HashCode) -> Reply {
        self.get(&format!("orders/{id}?h_contract={h_contract}")).await
    }

    pub fn abort_body(&self, h_contract: HashCode, coins: &[Coin]) -> Value {
        let coins: Vec<Value> = coins
            .iter()
            .map(|coin| {
                json!({"coin_pub": coin.coin_pub, "contribution": coin.amount, "exchange_url": self.sandbox.base_url()})
            })
            .collect();
        json!({ "h_contract": h_contract, "coins": coins })
    }

    pub async fn abort(&self, id: &str, h_contract: HashCode, coins: &[Coin]) -> Reply {
        self.post(&format!("orders/{id}/abort"), &self.abort_body(h_contract, coins))
            .await
    }

    /// How many refund requests arrived at the exchange.
    pub fn asked(&self) -> usize {
        self.sandbox
            .requests()
            .iter()
            .filter(|request| request.path.ends_with("/refund"))
            .count()
    }

    /// Waits for something that the background brings about.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..400 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{what} did not come about");
    }

    /// A receipt belongs to the body and is signed by this ledger.
    pub fn check_receipt(&self, reply: &Reply) -> Receipt {
        let receipt: Receipt = reply.receipt.as_deref().expect("a receipt").parse().unwrap();
        assert!(receipt.verify(&self.app().service.ledger.event_key()));
        assert_eq!(receipt.body, answer_digest(&reply.body));
        receipt
    }

    pub fn ledger(&self) -> PathBuf {
        self.config.ledger.clone()
    }

    /// All events so far. The service must be stopped.
    pub fn events(&self) -> Vec<Event> {
        assert!(self.app.is_none(), "stop the service first");
        let mut events = Vec::new();
        Copy::open(&self.ledger())
            .unwrap()
            .walk::<quittance_events::copy::CopyError>(|event| {
                events.push(Event::parse(&event.unwrap().sealed).unwrap());
                Ok(())
            })
            .unwrap();
        events
    }

    /// Makes a successor of this ledger under a name and folders of its own; the service must be stopped. What is
    /// started next serves from the successor.
    pub async fn continue_as(&mut self, name: &str, old: &Path, anchor: &Path) -> Continued {
        self.try_to_continue_as(name, old, anchor).await.unwrap()
    }

    /// As [`Shop::continue_as`]; where it is refused the shop keeps the ledger that it has.
    pub async fn try_to_continue_as(
        &mut self,
        name: &str,
        old: &Path,
        anchor: &Path,
    ) -> Result<Continued, StartError> {
        self.try_to_continue_with(name, old, anchor, Beginnings::default())
            .await
    }

    /// As [`Shop::try_to_continue_as`], of a successor whose first event says more.
    pub async fn try_to_continue_with(
        &mut self,
        name: &str,
        old: &Path,
        anchor: &Path,
        beginnings: Beginnings,
    ) -> Result<Continued, StartError> {
        assert!(self.app.is_none(), "stop the service first");
        let folder = self.folder.path().join(name);
        let mut config = self.config.clone();
        config.ledger = folder.join("data/ledger.sqlite3");
        config.anchor = folder.join("anchor/ledger.anchor");
        config.keys = folder.join("keys");
        config.origin = format!("shop.example/{name}");
        let takeover = Takeover {
            old: old.to_owned(),
            anchor: anchor.to_owned(),
            old_keys: Some(self.config.keys.clone()),
            after_loss: false,
        };
        let (setup, time) = (config.clone(), self.clock.clock());
        let continued = tokio::task::spawn_blocking(move || {
            takeover::continue_ledger(&setup, &time, &takeover, &beginnings)
        })
        .await
        .unwrap()?;
        self.config = config;
        self.vkey.clone_from(&continued.vkey);
        Ok(continued)
    }

    /// Kinds of all events so far.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.events().iter().map(|event| event.facts.kind()).collect()
    }

    /// Stops the service and has the ledger audited: nothing may be found.
    pub async fn audit(&mut self) -> Report {
        self.audit_after(None).await
    }

    /// As [`Shop::audit`], compared with the ledger that this one continues.
    pub async fn audit_after(&mut self, predecessor: Option<&Path>) -> Report {
        self.stop().await;
        let report = quittance_replay::verify(&VerifyOptions {
            ledger: self.ledger(),
            anchor: Some(self.config.anchor.clone()),
            ledger_key: Some(self.vkey.parse().unwrap()),
            predecessor: predecessor.map(Path::to_owned),
            exchange_keys: Vec::new(),
            ..VerifyOptions::default()
        })
        .unwrap();
        assert!(report.is_sound(), "{}", quittance_replay::print_report(&report));
        report
    }
}

/// Base32 of a merchant key for [`Options::merchant_key`].
pub fn key_text(secret: [u8; 32]) -> String {
    base32::encode(&secret)
}
