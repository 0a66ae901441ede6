//! `quittance demo`: the whole of it on one machine. Starts the service and a sandbox exchange on loopback, plays a
//! shop and two wallets against them over HTTP, and has the ledger audited by a process of its own. Every step is
//! checked; the demo fails where one does not hold.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quittance_events::InstanceId;
use quittance_events::receipt::{HEADER, Receipt};
use quittance_events::seal::{EventPub, answer_digest};
use quittance_sandbox::{Deposit, Fault, FaultKind, Sandbox, SandboxConfig};
use quittance_taler::{
    CoinPub, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MerchantPub, base32, message,
};
use quittance_tlog::note::VerifierKey;
use serde_json::{Value, json};

use crate::app::App;
use crate::clock;
use crate::commands::{self, NewInstance};
use crate::config::Config;
use crate::exchange::Times;

/// How long the demo waits for the background to bring home what the exchange failed at.
const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP client as a shop or a wallet has it.
struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    service: SocketAddr,
    token: String,
}

/// A reply: status, receipt and body.
struct Reply {
    status: u16,
    receipt: Option<String>,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("the reply is no JSON")
    }

    fn expect(self, status: u16) -> anyhow::Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!(
            self.status == status,
            "expected {status}, got {}: {text}",
            self.status
        );
        self.json()
    }
}

impl Http {
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Reply> {
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{}/{path}", self.service))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(bytes)))?;
        let reply = self.client.request(request).await?;
        let status = reply.status().as_u16();
        let receipt = reply
            .headers()
            .get(HEADER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = reply.into_body().collect().await?.to_bytes().to_vec();
        Ok(Reply {
            status,
            receipt,
            body,
        })
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Reply> {
        self.send("POST", path, Some(body)).await
    }
}

/// An order of the demo's shop, recorded and known to the exchange.
struct DemoOrder {
    id: String,
    h_contract: HashCode,
    merchant_pub: MerchantPub,
    /// Each with its value in whole KUDOS.
    coins: Vec<(CoinPub, u64)>,
}

fn random_coin() -> anyhow::Result<CoinPub> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
    Ok(CoinPub::from_bytes(
        EddsaPrivateKey::from_bytes(bytes).public_bytes(),
    ))
}

/// Tells the shop's story of an order: contract, and the deposits of its first `deposited` coins.
async fn sell(
    http: &Http,
    sandbox: &Sandbox,
    merchant_pub: MerchantPub,
    (id, deposited, paid): (&str, usize, bool),
) -> anyhow::Result<DemoOrder> {
    let now = clock::system()()
        .floor_s()
        .seconds()
        .context("the time is a second")?;
    let coins = vec![(random_coin()?, 10), (random_coin()?, 4)];
    let terms = json!({
        "order_id": id, "amount": "KUDOS:14", "summary": "Two pairs of boots", "products": [],
        "timestamp": {"t_s": now}, "refund_deadline": {"t_s": now + 86_400}, "pay_deadline": {"t_s": now + 3600},
        "wire_transfer_deadline": {"t_s": now + 172_800}, "merchant_pub": merchant_pub, "max_fee": "KUDOS:1",
        "merchant_base_url": format!("http://{}/", http.service), "merchant": {"name": "Demo shop"},
        "exchanges": [{"url": sandbox.base_url(), "master_pub": sandbox.master_pub()}],
    });
    let recorded = http
        .post("private/ledger/orders", json!({ "contract_terms": terms }))
        .await?
        .expect(200)?;
    let h_contract: HashCode = serde_json::from_value(recorded["h_contract"].clone())?;
    let mut told = Vec::new();
    for (coin_pub, value) in &coins[..deposited] {
        sandbox.deposit(Deposit {
            coin_pub: *coin_pub,
            h_contract,
            merchant_pub,
            amount_with_fee: format!("KUDOS:{value}").parse()?,
            deposit_fee: "KUDOS:0.02".parse()?,
            refund_fee: "KUDOS:0.02".parse()?,
            refund_deadline: None,
        })?;
        told.push(json!({
            "coin_pub": coin_pub, "exchange_url": sandbox.base_url(), "amount_with_fee": format!("KUDOS:{value}"),
            "deposit_fee": "KUDOS:0.02", "refund_fee": "KUDOS:0.02",
        }));
    }
    let path = format!("private/ledger/orders/{id}/deposits");
    http.post(&path, json!({ "deposits": told, "paid": paid }))
        .await?
        .expect(200)?;
    Ok(DemoOrder {
        id: id.to_owned(),
        h_contract,
        merchant_pub,
        coins,
    })
}

/// Checks an entry's confirmation as a careful wallet would.
fn check_confirmation(
    order: &DemoOrder,
    coin: &CoinPub,
    id: u64,
    amount: &str,
    entry: &Value,
) -> anyhow::Result<()> {
    ensure!(entry["type"] == "success", "not confirmed: {entry}");
    let key: ExchangePub = serde_json::from_value(entry["exchange_pub"].clone())?;
    let sig: EddsaSignature = serde_json::from_value(entry["exchange_sig"].clone())?;
    let message =
        message::refund_confirmation(&order.h_contract, coin, &order.merchant_pub, id, &amount.parse()?);
    ensure!(
        key.verify(&message, &sig),
        "the exchange's signature does not verify"
    );
    Ok(())
}

fn check_receipt(reply: &Reply, key: &EventPub) -> anyhow::Result<()> {
    let receipt: Receipt = reply.receipt.as_deref().context("no receipt")?.parse()?;
    ensure!(
        receipt.verify(key) && receipt.body == answer_digest(&reply.body),
        "the receipt does not verify"
    );
    Ok(())
}

/// Fetches refunds as a wallet would, until all are confirmed.
async fn fetch(http: &Http, order: &DemoOrder, event_key: &EventPub, total: &str) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let path = format!("orders/{}/refund", order.id);
        let reply = http
            .post(&path, json!({ "h_contract": order.h_contract }))
            .await?;
        check_receipt(&reply, event_key)?;
        let body = reply.expect(200)?;
        ensure!(
            body["refund_amount"] == total,
            "expected {total}, got {}",
            body["refund_amount"]
        );
        let refunds = body["refunds"].as_array().context("refunds is a list")?;
        let confirmed = refunds.iter().filter(|entry| entry["type"] == "success").count();
        println!(
            "   wallet: {confirmed} of {} refunds confirmed, {total} granted in all",
            refunds.len()
        );
        if confirmed == refunds.len() {
            for entry in refunds {
                let coin: CoinPub = serde_json::from_value(entry["coin_pub"].clone())?;
                let id = entry["rtransaction_id"].as_u64().context("an id is a number")?;
                let amount = entry["refund_amount"].as_str().context("an amount is a text")?;
                check_confirmation(order, &coin, id, amount, entry)?;
            }
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < until,
            "the refunds were not confirmed in time: {body}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn status(http: &Http, order: &DemoOrder) -> anyhow::Result<Value> {
    let path = format!("orders/{}?h_contract={}", order.id, order.h_contract);
    http.send("GET", &path, None).await?.expect(200)
}

async fn approve(http: &Http, order: &DemoOrder, total: &str, reason: &str) -> anyhow::Result<()> {
    let path = format!("private/orders/{}/refund", order.id);
    let approved = http
        .post(&path, json!({ "refund": total, "reason": reason }))
        .await?
        .expect(200)?;
    println!(
        "   merchant: approved {total} in all ({})",
        approved["taler_refund_uri"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// Runs the demo.
///
/// # Errors
/// The first step that did not hold.
pub async fn run() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("quittance-demo-")
        .tempdir()?
        .keep();
    println!("1. A ledger in {}", folder.display());
    let sandbox = Sandbox::start(SandboxConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        currency: "KUDOS".parse()?,
        seed: 7,
        clock: quittance_sandbox::system_clock(),
    })
    .await?;
    let file = folder.join("quittance.conf");
    std::fs::write(&file, configuration(&sandbox))?;
    let config = Config::load(&file)?;
    let system = clock::system();
    let vkey = commands::init(&config, &system)?;
    println!("   event key {vkey}");
    let new = NewInstance {
        id: InstanceId::root(),
        name: None,
        merchant_key: None,
        token_file: None,
    };
    let setup = config.clone();
    // Commands have a runtime of their own.
    let token = tokio::task::spawn_blocking(move || commands::add_instance(&setup, &system, &new)).await??;
    let app = App::start(&config, clock::system(), Times::default()).await?;
    println!(
        "   service on http://{}/, exchange on {}",
        app.addr(),
        sandbox.base_url()
    );
    let event_key = app.service.ledger.event_key();
    let merchant_pub = app
        .service
        .instances
        .get(&InstanceId::root())
        .context("the root instance")?
        .merchant
        .merchant_pub();
    let http = Http {
        client: Client::builder(TokioExecutor::new()).build_http(),
        service: app.addr(),
        token: token.context("a token was made")?,
    };
    let told = play(&http, &sandbox, merchant_pub, &event_key).await;
    app.stop().await;
    let granted = sandbox.refunds().len();
    sandbox.stop().await;
    told?;
    ensure!(granted == 4, "the exchange's books have {granted} refunds, not 4");

    println!("5. The auditor, a process of its own that has the file and the event key and nothing else");
    let verdict = tokio::process::Command::new(std::env::current_exe()?)
        .arg("demo-verify")
        .args([&config.ledger, &config.anchor])
        .arg(vkey)
        .status()
        .await?;
    ensure!(verdict.success(), "the audit failed");
    println!(
        "Everything held. Look around: quittance-replay show {} --order boots-1",
        config.ledger.display()
    );
    Ok(())
}

async fn play(
    http: &Http,
    sandbox: &Sandbox,
    merchant_pub: MerchantPub,
    event_key: &EventPub,
) -> anyhow::Result<()> {
    println!("2. An order of KUDOS:14, paid with coins of 10 and 4; a refund in two steps");
    let paid = sell(http, sandbox, merchant_pub, ("boots-1", 2, true)).await?;
    approve(http, &paid, "KUDOS:2.5", "a scratch on the left boot").await?;
    fetch(http, &paid, event_key, "KUDOS:2.5").await?;

    println!("3. The second step, while the exchange fails once");
    approve(http, &paid, "KUDOS:11.01", "returned after all").await?;
    sandbox.fault(Fault::new(FaultKind::Status {
        status: 503,
        code: 60,
    }))?;
    fetch(http, &paid, event_key, "KUDOS:11.01").await?;
    let body = status(http, &paid).await?;
    ensure!(
        body["refund_amount"] == "KUDOS:11.01" && body["refunded"] == true,
        "unexpected status {body}"
    );

    println!("4. Another order, half paid, and its abort");
    let half = sell(http, sandbox, merchant_pub, ("boots-2", 1, false)).await?;
    let coins: Vec<Value> = half
        .coins
        .iter()
        .map(|(coin, value)| {
            json!({"coin_pub": coin, "contribution": format!("KUDOS:{value}"), "exchange_url": sandbox.base_url()})
        })
        .collect();
    let reply = http
        .post(
            "orders/boots-2/abort",
            json!({ "h_contract": half.h_contract, "coins": coins }),
        )
        .await?;
    check_receipt(&reply, event_key)?;
    let body = reply.expect(200)?;
    check_confirmation(&half, &half.coins[0].0, 0, "KUDOS:10", &body["refunds"][0])?;
    ensure!(
        body["refunds"][1] == json!({"type": "undeposited"}),
        "unexpected entry {}",
        body["refunds"][1]
    );
    println!("   wallet: the deposited coin came back, the other was never deposited");
    Ok(())
}

fn configuration(sandbox: &Sandbox) -> String {
    format!(
        "[taler]\nCURRENCY = KUDOS\n\n[merchant]\nSERVE = tcp\nBIND_TO = 127.0.0.1\nPORT = 0\n\
         BASE_URL = https://shop.example/\n\n[merchant-exchange-sandbox]\nEXCHANGE_BASE_URL = {}\nMASTER_KEY = {}\n\
         CURRENCY = KUDOS\n\n[quittance]\nLEDGER = data/ledger.sqlite3\nANCHOR = anchor/ledger.anchor\n\
         KEYS = keys/\nORIGIN = shop.example/demo\n",
        sandbox.base_url(),
        base32::encode(sandbox.master_pub().as_bytes()),
    )
}

/// The auditor's part: verifies a ledger with the replay library and prints its report. Gives the exit code.
///
/// # Errors
/// The key is no VKEY, or the ledger is unusable.
pub fn verify(ledger: &Path, anchor: &Path, ledger_key: &str) -> anyhow::Result<u8> {
    let key: VerifierKey = ledger_key.parse()?;
    let report = quittance_replay::verify(&quittance_replay::VerifyOptions {
        ledger: ledger.to_owned(),
        anchor: Some(anchor.to_owned()),
        ledger_key: Some(key),
        predecessor: None,
        exchange_keys: Vec::new(),
        ..quittance_replay::VerifyOptions::default()
    })?;
    println!("{}", quittance_replay::print_report(&report));
    Ok(u8::from(!report.is_sound()))
}
