//! The command as its user types it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use quittance::app::open_ledger;
use quittance::config::Config;
use quittance_taler::EddsaPrivateKey;
use serde_json::{Value, json};
use tempfile::TempDir;

const EXCHANGE: &str = "F80MFRG8HVH6R9CQ47KRFQSJP3T6DBJ4K1D9B703RJY3Z39TBMJ0";

struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(TempDir::new().unwrap());
        let text = format!(
            "[taler]\nCURRENCY = KUDOS\n[merchant]\nSERVE = tcp\nBIND_TO = 127.0.0.1\nPORT = 0\n\
             BASE_URL = https://shop.example/\n[merchant-exchange-x]\nEXCHANGE_BASE_URL = https://exchange.example/\n\
             MASTER_KEY = {EXCHANGE}\nCURRENCY = KUDOS\n[quittance]\nLEDGER = data/ledger.sqlite3\n\
             ANCHOR = anchor/ledger.anchor\nKEYS = keys/\nORIGIN = shop.example/import\n"
        );
        fs::write(home.path("quittance.conf"), text).unwrap();
        let key = home.path("merchant.key");
        fs::write(&key, [7; 32]).unwrap();
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        home.ok(&["init"]);
        home.ok(&[
            "instance",
            "add",
            "--id",
            "default",
            "--merchant-key",
            key.to_str().unwrap(),
        ]);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quittance"));
        command
            .args(arguments)
            .arg("-c")
            .arg(self.path("quittance.conf"))
            .env_remove("RUST_LOG");
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code, standard output, standard error.
    fn import(&self, arguments: &[&str], text: &str) -> (i32, String, String) {
        fs::write(self.path("orders.ndjson"), text).unwrap();
        let file = self.path("orders.ndjson");
        let mut all = vec!["import", file.to_str().unwrap()];
        all.extend_from_slice(arguments);
        said(&self.command(&all).output().unwrap())
    }
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn order(id: &str) -> Value {
    let merchant_pub = EddsaPrivateKey::from_bytes([7; 32]).merchant_pub();
    json!({
        "contract_terms": {
            "order_id": id, "amount": "KUDOS:1", "summary": "boots", "timestamp": {"t_s": 1_700_000_000},
            "pay_deadline": {"t_s": 1_700_000_600}, "refund_deadline": {"t_s": 1_700_086_400},
            "wire_transfer_deadline": {"t_s": 1_700_172_800}, "merchant_pub": merchant_pub,
            "merchant_base_url": "https://shop.example/", "products": [],
            "exchanges": [{"url": "https://exchange.example/", "master_pub": EXCHANGE}],
        },
        "deposits": [{"coin_pub": EXCHANGE, "exchange_url": "https://exchange.example/", "amount_with_fee": "KUDOS:1",
                      "deposit_fee": "KUDOS:0", "refund_fee": "KUDOS:0"}],
        "paid": true,
    })
}

#[test]
fn it_says_what_it_did_and_exits_as_it_promises() {
    let home = Home::new();
    let two = format!("{}\n{}", order("a"), order("b"));
    let would = "2 lines: 2 would be recorded, 0 known already, 0 skipped; \
                 2 orders, 2 deposits, 2 payments and 0 refunds are new\n";
    assert_eq!(
        home.import(&["--dry-run"], &two),
        (0, would.into(), String::new())
    );
    assert_eq!(
        home.import(&[], &two),
        (0, would.replace("would be ", ""), String::new())
    );
    let known = "2 lines: 0 recorded, 2 known already, 0 skipped; \
                 0 orders, 0 deposits, 0 payments and 0 refunds are new\n";
    assert_eq!(home.import(&[], &two), (0, known.into(), String::new()));

    let (code, summary, skipped) = home.import(
        &[],
        &format!(
            "{}\n{{\"contract_terms\":{{\"order_id\":\"x\\n\\u001b\"}}}}\n",
            order("c")
        ),
    );
    assert_eq!(code, 1);
    assert!(
        summary.starts_with("2 lines: 1 recorded, 0 known already, 1 skipped; "),
        "{summary}"
    );
    assert!(skipped.starts_with("line 2, order x\\n\\u{1b}: "), "{skipped}");
    assert_eq!(skipped.lines().count(), 1);
    assert_eq!(home.import(&[], "").0, 0);
    assert_eq!(
        home.ok(&["import", "/dev/null"]).split(':').next(),
        Some("0 lines")
    );
}

#[test]
fn it_reads_standard_input() {
    let home = Home::new();
    let mut child = home
        .command(&["import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", order("a")).unwrap();
    drop(stdin);
    let (code, summary, wrong) = said(&child.wait_with_output().unwrap());
    assert_eq!((code, wrong.as_str()), (0, ""));
    assert!(summary.starts_with("1 lines: 1 recorded, "), "{summary}");
}

#[test]
fn it_needs_the_ledger_for_itself_and_a_file_that_is_there() {
    let home = Home::new();
    let (code, _, wrong) = said(
        &home
            .command(&["import", "/nowhere/orders.ndjson"])
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(wrong.contains("/nowhere/orders.ndjson"), "{wrong}");
    let folder = home.path("data");
    let (code, _, wrong) = said(
        &home
            .command(&["import", folder.to_str().unwrap()])
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(wrong.contains("stopped after 0 lines"), "{wrong}");
    let config = Config::load(&home.path("quittance.conf")).unwrap();
    let held = open_ledger(&config, "serve").unwrap();
    let (code, _, wrong) = home.import(&[], "");
    assert_eq!(code, 1);
    assert!(wrong.contains("serve"), "{wrong}");
    held.close();
    assert_eq!(home.import(&[], "").0, 0);
}
