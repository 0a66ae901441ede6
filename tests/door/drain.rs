//! SIGTERM, to the program itself: what was accepted is answered, and the record ends in order.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quittance_sandbox::{Fault, FaultKind};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Options, Shop, coin};
use crate::wire::{Wire, get, post};

const WALLETS: u8 = 12;
const PATIENCE: Duration = Duration::from_mins(1);

/// The program, on this shop's ledger.
async fn start(shop: &Shop) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_quittance"))
        .arg("serve")
        .arg("-c")
        .arg(&shop.config.file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, stdout.read_line(&mut line))
        .await
        .expect("it starts")
        .unwrap();
    let addr = line
        .trim()
        .strip_prefix("listening on http://")
        .and_then(|rest| rest.strip_suffix('/'));
    (child, addr.expect("where it listens").parse().unwrap())
}

async fn terminate(child: &Child) {
    let id = child.id().unwrap().to_string();
    let status = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_loses_no_request_that_was_accepted_and_signs_the_last_checkpoint() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut shop = Shop::open_with(Options {
        start_s: now.as_secs(),
        ..Options::default()
    })
    .await;
    let mut requests = Vec::new();
    for number in 1..=WALLETS {
        let id = format!("order-{number}");
        let coins = [coin(number, "KUDOS:4", "KUDOS:0.1")];
        let hash = shop.sell(&id, "KUDOS:4", &coins, true).await;
        shop.approve(&id, "KUDOS:1").await.expect(200);
        shop.sandbox
            .fault(Fault {
                coin_pub: Some(coins[0].coin_pub),
                delay: Duration::from_secs(1),
                ..Fault::new(FaultKind::Delay)
            })
            .unwrap();
        requests.push(post(
            &format!("orders/{id}/refund"),
            &json!({ "h_contract": hash }).to_string(),
        ));
    }
    shop.stop().await;

    let (mut child, addr) = start(&shop).await;
    let mut idle = Wire::from(1, addr).await;
    assert_eq!(idle.ask(get("health")).await.status, 200);
    let mut wallets = Vec::new();
    for request in &requests {
        let mut wire = Wire::from(1, addr).await;
        wire.say(request).await;
        wallets.push(wire);
    }
    shop.until("all are under way", async || shop.asked() == usize::from(WALLETS))
        .await;
    terminate(&child).await;
    idle.ends().await;
    for wallet in &mut wallets {
        let answer = wallet.answer().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["refunds"][0]["type"], "success");
        assert_eq!(answer.header("connection"), Some("close"));
        wallet.ends().await;
    }
    let ended = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());

    let events = shop.events();
    let anchor = std::fs::read_to_string(&shop.config.anchor).unwrap();
    assert_eq!(anchor.lines().nth(1), Some(events.len().to_string().as_str()));
    let delivered = events
        .iter()
        .filter(|event| event.facts.kind() == "refund_delivered");
    assert_eq!(delivered.count(), usize::from(WALLETS));
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_on_its_way_when_it_stops_is_answered() {
    let mut shop = Shop::open().await;
    let addr = shop.app().addr();
    // Kept open, idle, and asking at the very moment.
    let mut kept = Wire::from(1, addr).await;
    assert_eq!(kept.ask(get("config")).await.status, 200);
    let mut fresh = Wire::from(1, addr).await;
    kept.say(get("config")).await;
    fresh.say(get("config")).await;
    shop.stop().await;
    for wire in [&mut kept, &mut fresh] {
        assert_eq!(wire.answer().await.status, 200);
        wire.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hung_up_does_not_take_its_request_with_it_when_it_stops() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    shop.sandbox
        .fault(Fault {
            delay: Duration::from_millis(700),
            ..Fault::new(FaultKind::Delay)
        })
        .unwrap();
    let mut wire = Wire::to(&shop).await;
    wire.say(post(
        "orders/sold/refund",
        &json!({ "h_contract": hash }).to_string(),
    ))
    .await;
    shop.until("it is under way", async || shop.asked() == 1).await;
    drop(wire);
    shop.stop().await;
    let kinds = shop.kinds();
    assert!(
        kinds.contains(&"exchange_replied") && kinds.contains(&"refund_answered"),
        "{kinds:?}"
    );
    shop.audit().await;
}
