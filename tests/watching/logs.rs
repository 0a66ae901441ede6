//! The lines of whole runs at the highest level, of our crates and of all libraries: no key, token, contract, reason,
//! signature or body stands in any of them, whatever the form of the lines.

use std::collections::BTreeSet;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use quittance_events::copy::{Copy, CopyError};
use quittance_sandbox::{Deposit, Fault, FaultKind};
use quittance_taler::{EddsaPrivateKey, HashCode, base32};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::program::{MERCHANT, Program};
use crate::support::{Coin, coin};

/// Stands in every text that no line may hold.
const MARK: &str = "MARKED";

/// Base32 of 64 bytes: signatures, and hashes of contracts, which open the public endpoints.
const LONG: usize = 103;

#[tokio::test]
async fn no_line_of_a_run_holds_a_secret_as_text() {
    let lines = run("LOG_FORMAT = text").await;
    assert!(lines.iter().any(|line| line.contains(" INFO serving addr=")));
}

#[tokio::test]
async fn no_line_of_a_run_holds_a_secret_as_json() {
    let lines = run("LOG_FORMAT = json").await;
    let mut messages = BTreeSet::new();
    // The commands that prepared the run wrote text.
    let serving = lines.iter().position(|line| line.starts_with('{')).unwrap();
    let stopped = lines.iter().rposition(|line| line.starts_with('{')).unwrap();
    for line in &lines[serving..=stopped] {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string());
        if line["message"] == "answered" {
            let span = &line["span"];
            assert_eq!(span["id"].as_str().unwrap().len(), 16);
            assert!(span["endpoint"].is_string() && span["method"].is_string());
            assert!(line["status"].is_u64() && line["took_us"].is_u64(), "{line}");
        }
        messages.extend(line["message"].as_str().map(str::to_owned));
    }
    for message in ["serving", "answered", "asked an exchange", "stopping", "stopped"] {
        assert!(messages.contains(message), "{message}: {messages:?}");
    }
}

/// A service's whole life with marks in all that it is told; gives the lines, which hold none of them.
async fn run(format: &str) -> Vec<String> {
    let mut program = Program::make(&format!(
        "{format}\nMETRICS_BIND = 127.0.0.1:0\nADMIN_TOKEN_FILE = admin.token"
    ))
    .await;
    let admin = format!("secret-token:{MARK}-admin-token-0123456789");
    program.private("admin.token", &admin);
    program.start().await;
    let (answered, token) = talk(&program).await;
    program.terminate().await;
    let reason = format!("{MARK} reason of a command");
    program.run(&["clock-correct", "--reason", &reason]).await;
    let seq = reason_of_approval(&program.path("data/ledger.sqlite3"));
    let erase = ["erase", "--attachment", &seq, "--reason", &reason];
    program.run(&erase).await;
    program.run(&["rotate-key"]).await;

    let log = program.log();
    assert!(!log.contains(token.strip_prefix("secret-token:").unwrap()));
    for secret in secrets(&program) {
        assert!(!log.contains(&secret), "{secret:?} stands in the log");
    }
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let told = lines.iter().filter(|line| line.contains("took_us"));
    let told: Vec<&String> = told.filter(|line| line.contains("answered")).collect();
    assert_eq!(told.len(), answered.len());
    for id in answered.into_iter().flatten() {
        assert!(told.iter().any(|line| line.contains(&id)), "{id}");
    }
    lines
}

/// Everything that a line could be led to repeat. Gives the id of each request that was told one, and a token.
async fn talk(program: &Program) -> (Vec<Option<String>>, String) {
    let merchant_pub = EddsaPrivateKey::from_bytes(MERCHANT).merchant_pub();
    let mut answered = Vec::new();
    let now = quittance_sandbox::system_clock()().get() / 1_000_000;
    let terms = |id: &str| {
        json!({
            "order_id": id, "amount": "KUDOS:10", "summary": format!("{MARK} boots"), "timestamp": {"t_s": now},
            "pay_deadline": {"t_s": now + 600}, "refund_deadline": {"t_s": now + 86_400},
            "wire_transfer_deadline": {"t_s": now + 172_800}, "merchant_pub": merchant_pub,
            "merchant_base_url": "https://shop.example/", "products": [{"description": format!("{MARK} left boot")}],
            "exchanges": [{"url": program.sandbox.base_url(), "master_pub": program.sandbox.master_pub()}],
            "extra": {"customer": format!("{MARK} customer")},
        })
    };
    let told = |coin: &Coin| {
        json!({"coin_pub": coin.coin_pub, "exchange_url": program.sandbox.base_url(), "amount_with_fee": coin.amount,
               "deposit_fee": coin.refund_fee, "refund_fee": coin.refund_fee, "h_denom": base32::encode(&[7; 64]),
               "coin_sig": base32::encode(&[8; 64]), "exchange_sig": base32::encode(&[9; 64])})
    };
    // Each order meets the exchange in another mood.
    let moods = [
        None,
        Some(FaultKind::WrongSignature),
        Some(FaultKind::Garbage),
        Some(FaultKind::LostReply),
        Some(FaultKind::Status { status: 409, code: 1 }),
        Some(FaultKind::Html),
    ];
    for (number, mood) in (1u8..).zip(moods) {
        let id = format!("order-{number}");
        let coin = coin(number, "KUDOS:10", "KUDOS:0.2");
        let reply = program
            .post_private("private/ledger/orders", &json!({"contract_terms": terms(&id)}))
            .await;
        let hash: HashCode = serde_json::from_value(reply["h_contract"].clone()).unwrap();
        program
            .sandbox
            .deposit(Deposit {
                coin_pub: coin.coin_pub,
                h_contract: hash,
                merchant_pub,
                amount_with_fee: coin.amount.parse().unwrap(),
                deposit_fee: coin.refund_fee.parse().unwrap(),
                refund_fee: coin.refund_fee.parse().unwrap(),
                refund_deadline: None,
            })
            .unwrap();
        let paid = number != 2;
        let body = json!({"deposits": [told(&coin)], "paid": paid});
        program
            .post_private(&format!("private/ledger/orders/{id}/deposits"), &body)
            .await;
        answered.extend([None, None]);
        if let Some(kind) = mood {
            program.sandbox.fault(Fault::new(kind)).unwrap();
        }
        let (path, body) = if paid {
            let approval = json!({"refund": "KUDOS:4", "reason": format!("{MARK} reason {number}")});
            program
                .post_private(&format!("private/orders/{id}/refund"), &approval)
                .await;
            answered.push(None);
            ("refund", json!({ "h_contract": hash }))
        } else {
            let named = json!({"coin_pub": coin.coin_pub, "contribution": "KUDOS:10",
                               "exchange_url": format!("https://{MARK}.example/")});
            ("abort", json!({"h_contract": hash, "coins": [named]}))
        };
        let path = format!("orders/{id}/{path}");
        let (status, request, _) = program
            .send("POST", &path, &[], body.to_string().into_bytes())
            .await;
        assert!([200, 502].contains(&status), "{status}");
        answered.push(request);
        let (status, request, _) = program
            .send("GET", &format!("orders/{id}?h_contract={hash}"), &[], vec![])
            .await;
        assert_eq!((status, request.is_some()), (if paid { 200 } else { 402 }, !paid));
        answered.push(request);
    }
    answered.extend(ask_wrongly(program).await);
    // Its text is given to who asks and to nobody else.
    let asked = json!({"scope": "readonly", "description": format!("{MARK} clerk")});
    let token = program.post_private("private/token", &asked).await;
    let token = token["access_token"].as_str().unwrap().to_owned();
    answered.push(None);
    (answered, token)
}

/// What nobody should send.
async fn ask_wrongly(program: &Program) -> Vec<Option<String>> {
    let mut answered = Vec::new();
    let wrong = format!("Bearer secret-token:{MARK}-wrong-0123456789abcdef");
    let right = format!("Bearer secret-token:{MARK}-admin-token-0123456789");
    let garbage = format!("{{\"refund\": \"{MARK}\", \"reason\": \"{MARK}\", {MARK}");
    let requests = [
        (
            "POST",
            "private/orders/order-1/refund".into(),
            wrong.as_str(),
            garbage.clone(),
            401,
        ),
        (
            "POST",
            "private/orders/order-1/refund".into(),
            &right,
            garbage.clone(),
            400,
        ),
        ("POST", "orders/order-1/refund".into(), "", garbage, 400),
        (
            "GET",
            format!("orders/order-1?h_contract={MARK}"),
            "",
            String::new(),
            400,
        ),
        (
            "GET",
            format!("orders/{MARK}%0a{MARK}?h_contract={MARK}"),
            "",
            String::new(),
            400,
        ),
        ("GET", format!("{MARK}/x?{MARK}"), "", String::new(), 404),
        ("GET", format!("instances/{MARK}/config"), "", String::new(), 404),
        (MARK, "config".into(), "", String::new(), 405),
    ];
    for (method, path, bearer, body, expected) in requests {
        let headers = [
            ("authorization", bearer),
            ("user-agent", MARK),
            ("x-forwarded-for", MARK),
        ];
        let (status, request, _) = program.send(method, &path, &headers, body.into_bytes()).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(request.is_some());
        answered.push(request);
    }
    answered
}

/// `SEQ:reason` of an approval.
fn reason_of_approval(ledger: &Path) -> String {
    let ledger = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let seq: i64 = ledger
        .query_row(
            "SELECT min(seq) FROM attachment WHERE name = 'reason'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    format!("{seq}:reason")
}

/// What must stand in no line: marks, tokens, private keys in all spellings, and every signature, hash of 64 bytes and
/// attachment of the ledger.
fn secrets(program: &Program) -> BTreeSet<String> {
    let mut secrets = BTreeSet::from([MARK.to_owned(), program.token.clone()]);
    secrets.extend(program.token.strip_prefix("secret-token:").map(str::to_owned));
    let mut keys = vec![MERCHANT.to_vec()];
    for file in std::fs::read_dir(program.path("keys")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "key") {
            keys.push(bytes);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            // Salts and hashes of tokens.
            let file: Value = serde_json::from_slice(&bytes).unwrap();
            gather(&file["tokens"], 20, &mut secrets);
        }
    }
    assert!(keys.len() >= 6, "keys before and after the rotation");
    for key in keys {
        let text = String::from_utf8(key.clone()).unwrap_or_default();
        let spellings = [base32::encode(&key), HEXLOWER.encode(&key), BASE64.encode(&key)];
        secrets.extend(spellings);
        if text.trim().len() >= 32 {
            secrets.insert(text.trim().to_owned());
        }
    }
    let before = secrets.len();
    let ledger = program.path("data/ledger.sqlite3");
    Copy::open(&ledger)
        .unwrap()
        .walk::<CopyError>(|event| {
            let sealed: Value = serde_json::from_slice(&event.unwrap().sealed).unwrap();
            gather(&sealed["facts"], LONG, &mut secrets);
            Ok(())
        })
        .unwrap();
    let ledger = Connection::open_with_flags(&ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut attachments = ledger
        .prepare("SELECT bytes FROM attachment WHERE bytes IS NOT NULL")
        .unwrap();
    let attachments = attachments.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    for bytes in attachments {
        let bytes = bytes.unwrap();
        // Its middle: a line that held a part of it would hold more than this.
        let text = String::from_utf8_lossy(&bytes);
        let middle: String = text.chars().skip(text.chars().count() / 2).take(24).collect();
        if middle.len() >= 12 {
            secrets.insert(middle);
        }
    }
    assert!(secrets.len() > before + 20, "{secrets:?}");
    secrets
}

/// Collects a document's texts of this length and more.
fn gather(value: &Value, at_least: usize, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.len() >= at_least => {
            into.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, at_least, into)),
        Value::Object(members) => members.values().for_each(|member| gather(member, at_least, into)),
        _ => {}
    }
}
