//! `quittance demo`: the whole of it on one machine. Starts the service and two sandbox exchanges on loopback, plays a
//! shop and its customers' wallets against them over HTTP, and has the ledger audited by a process of its own. Every
//! step is checked; the demo fails where one does not hold.

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
use quittance_sandbox::{Fault, FaultKind, Payment, Purse, Sandbox, SandboxConfig};
use quittance_taler::{
    CoinPub, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MerchantPub, contract_hash, message,
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

/// An order of the demo's shop, claimed by a wallet that is about to pay it.
struct DemoOrder {
    id: String,
    h_contract: HashCode,
    merchant_pub: MerchantPub,
    payment: Payment,
}

/// The shop makes an order, a wallet claims it and picks its coins.
async fn offer(
    http: &Http,
    merchant_pub: MerchantPub,
    (id, summary, amount): (&str, &str, &str),
    purse: &mut Purse,
) -> anyhow::Result<DemoOrder> {
    let order = json!({
        "order_id": id, "summary": summary, "amount": amount, "max_fee": "KUDOS:1",
        "fulfillment_message": "Thank you.",
    });
    let request = json!({ "order": order, "refund_delay": {"d_us": 86_400_000_000_u64} });
    let made = http.post("private/orders", request).await?.expect(200)?;
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
    let nonce = quittance_taler::base32::encode(&EddsaPrivateKey::from_bytes(nonce).public_bytes());
    let claim = json!({ "nonce": nonce, "token": made["token"] });
    let claimed = http
        .post(&format!("orders/{id}/claim"), claim)
        .await?
        .expect(200)?;
    let terms = &claimed["contract_terms"];
    let h_contract = contract_hash(terms)?;
    let sig: EddsaSignature = serde_json::from_value(claimed["sig"].clone())?;
    ensure!(
        merchant_pub.verify(&message::contract(&h_contract), &sig),
        "the merchant's signature of the contract does not verify"
    );
    println!("   merchant: order {id} for {amount}; wallet: claimed, the contract is signed");
    Ok(DemoOrder {
        id: id.to_owned(),
        h_contract,
        merchant_pub,
        payment: purse.pay(terms)?,
    })
}

/// The wallet pays.
async fn pay(http: &Http, order: &DemoOrder) -> anyhow::Result<()> {
    let path = format!("orders/{}/pay", order.id);
    let paid = http
        .post(&path, order.payment.pay_request(""))
        .await?
        .expect(200)?;
    let sig: EddsaSignature = serde_json::from_value(paid["sig"].clone())?;
    ensure!(
        order
            .merchant_pub
            .verify(&message::payment_ok(&order.h_contract), &sig),
        "the merchant's signature of the payment does not verify"
    );
    let coins = order
        .payment
        .coins
        .iter()
        .map(|spent| spent.contribution.to_string());
    println!(
        "   wallet: paid {} with coins of {}; the merchant has signed for it",
        order.id,
        coins.collect::<Vec<_>>().join(", ")
    );
    Ok(())
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

/// Fetches refunds as a wallet would, until all are confirmed; gives how many there are.
async fn fetch(http: &Http, order: &DemoOrder, event_key: &EventPub, total: &str) -> anyhow::Result<usize> {
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
            return Ok(confirmed);
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
    let sandboxes = [sandbox(7).await?, sandbox(8).await?];
    let file = folder.join("quittance.conf");
    std::fs::write(&file, configuration(&sandboxes))?;
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
        "   service on http://{}/, exchanges on {} and {}",
        app.addr(),
        sandboxes[0].base_url(),
        sandboxes[1].base_url()
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
    let told = play(&http, &sandboxes, merchant_pub, &event_key).await;
    app.stop().await;
    let granted: usize = sandboxes.iter().map(|sandbox| sandbox.refunds().len()).sum();
    for sandbox in sandboxes {
        sandbox.stop().await;
    }
    let confirmed = told?;
    ensure!(
        granted == confirmed,
        "the exchanges' books have {granted} refunds, the wallets {confirmed}"
    );

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

async fn sandbox(seed: u64) -> anyhow::Result<Sandbox> {
    let config = SandboxConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        currency: "KUDOS".parse()?,
        seed,
        clock: quittance_sandbox::system_clock(),
    };
    Ok(Sandbox::start(config).await?)
}

/// Gives how many refunds were confirmed to wallets.
async fn play(
    http: &Http,
    [here, there]: &[Sandbox; 2],
    merchant_pub: MerchantPub,
    event_key: &EventPub,
) -> anyhow::Result<usize> {
    let account = "payto://iban/DE75512108001245126199?receiver-name=Demo+shop";
    http.post("private/accounts", json!({ "payto_uri": account }))
        .await?
        .expect(200)?;

    println!("2. An order of KUDOS:14, claimed and paid; a refund in two steps");
    let mut purse = here.withdraw("KUDOS:14".parse()?)?;
    let boots = ("boots-1", "Two pairs of boots", "KUDOS:14");
    let paid = offer(http, merchant_pub, boots, &mut purse).await?;
    pay(http, &paid).await?;
    approve(http, &paid, "KUDOS:2.5", "a scratch on the left boot").await?;
    fetch(http, &paid, event_key, "KUDOS:2.5").await?;

    println!("3. The second step, while the exchange fails once");
    approve(http, &paid, "KUDOS:11.01", "returned after all").await?;
    here.fault(Fault::new(FaultKind::Status {
        status: 503,
        code: 60,
    }))?;
    let refunds = fetch(http, &paid, event_key, "KUDOS:11.01").await?;
    let body = status(http, &paid).await?;
    ensure!(
        body["refund_amount"] == "KUDOS:11.01" && body["refunded"] == true,
        "unexpected status {body}"
    );

    println!("4. A payment that fails half-way, as one of its two coins was spent before, and its abort");
    let mut purse = there.withdraw("KUDOS:2".parse()?)?;
    let mut backup = here.withdraw("KUDOS:4".parse()?)?;
    backup.join(purse.clone());
    let laces = ("laces-1", "Laces", "KUDOS:2");
    let paid = offer(http, merchant_pub, laces, &mut purse).await?;
    pay(http, &paid).await?;
    let half = offer(
        http,
        merchant_pub,
        ("boots-2", "One pair of boots", "KUDOS:6"),
        &mut backup,
    )
    .await?;
    let refused = http
        .post("orders/boots-2/pay", half.payment.pay_request(""))
        .await?
        .expect(409)?;
    ensure!(
        refused["code"] == 2150 && refused["exchange_reply"]["code"] == 1012,
        "unexpected refusal {refused}"
    );
    println!("   wallet: one coin was deposited, the other exchange says that its coin is spent");
    let reply = http
        .post("orders/boots-2/abort", half.payment.abort_request())
        .await?;
    check_receipt(&reply, event_key)?;
    let body = reply.expect(200)?;
    let coin = half.payment.coins[0].coin.coin_pub;
    check_confirmation(&half, &coin, 0, "KUDOS:4", &body["refunds"][0])?;
    ensure!(
        body["refunds"][1] == json!({"type": "undeposited"}),
        "unexpected entry {}",
        body["refunds"][1]
    );
    println!("   wallet: the deposited coin came back, the other was never deposited here");
    Ok(refunds + 1)
}

fn configuration(sandboxes: &[Sandbox]) -> String {
    let sections = sandboxes.iter().enumerate().map(|(number, sandbox)| {
        format!(
            "[merchant-exchange-sandbox-{number}]\nEXCHANGE_BASE_URL = {}\nMASTER_KEY = {}\nCURRENCY = KUDOS\n\n",
            sandbox.base_url(),
            sandbox.master_pub(),
        )
    });
    let sections: String = sections.collect();
    format!(
        "[taler]\nCURRENCY = KUDOS\n\n[merchant]\nSERVE = tcp\nBIND_TO = 127.0.0.1\nPORT = 0\n\
         BASE_URL = https://shop.example/\n\n{sections}[quittance]\nLEDGER = data/ledger.sqlite3\n\
         ANCHOR = anchor/ledger.anchor\nKEYS = keys/\nORIGIN = shop.example/demo\n",
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
