//! A successor serves wallets what the ledger before it owed them, and gives no id to two amounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quittance::app::StartError;
use quittance::commands;
use quittance::takeover::TakeoverError;
use quittance_events::create::Beginnings;
use quittance_events::facts::LedgerOpened;
use quittance_events::{Event, Facts};
use quittance_sandbox::{Fault, FaultKind};
use serde_json::Value;

use crate::support::{Coin, Shop, coin};

const FIRST: u64 = 1 << 20;

/// Live ledger and anchor of the shop as it is configured now.
fn live(shop: &Shop) -> (PathBuf, PathBuf) {
    (shop.config.ledger.clone(), shop.config.anchor.clone())
}

/// What the exchange was asked, by coin and id. It never saw an id with two amounts.
fn asked(shop: &Shop) -> BTreeMap<(String, u64), String> {
    let mut asked = BTreeMap::new();
    for request in shop.sandbox.requests() {
        if !request.path.ends_with("/refund") {
            continue;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let id = body["rtransaction_id"].as_u64().unwrap();
        let amount = body["refund_amount"].as_str().unwrap().to_owned();
        let before = asked.insert((request.path.clone(), id), amount.clone());
        assert!(
            before.is_none_or(|before| before == amount),
            "{} {id}",
            request.path
        );
    }
    asked
}

/// Type, id and amount of each entry of a refund's answer.
fn entries(body: &Value) -> Vec<(&str, u64, &str)> {
    let refunds = body["refunds"].as_array().unwrap();
    refunds
        .iter()
        .map(|entry| {
            (
                entry["type"].as_str().unwrap(),
                entry["rtransaction_id"].as_u64().unwrap(),
                entry["refund_amount"].as_str().unwrap(),
            )
        })
        .collect()
}

/// What the exchange gave back of this coin, in units.
fn given_back(shop: &Shop, coin: &Coin) -> u128 {
    let granted = shop.sandbox.refunds();
    let of_coin = granted.iter().filter(|refund| refund.coin_pub == coin.coin_pub);
    of_coin.map(|refund| refund.amount.units()).sum()
}

fn units(text: &str) -> u128 {
    text.parse::<quittance_taler::Amount>().unwrap().units()
}

fn genesis(events: &[Event]) -> &LedgerOpened {
    match &events[0].facts {
        Facts::LedgerOpened(genesis) => genesis,
        other => panic!("it begins with {other:?}"),
    }
}

fn fail(shop: &Shop, coin: &Coin, kind: FaultKind, times: u32) {
    let coin_pub = Some(coin.coin_pub);
    shop.sandbox
        .fault(Fault {
            times,
            coin_pub,
            ..Fault::new(kind)
        })
        .unwrap();
}

#[tokio::test]
async fn after_a_loss_what_the_backup_has_is_served_and_new_ids_begin_far_above() {
    let mut shop = Shop::open().await;
    let coins = [
        coin(1, "KUDOS:10", "KUDOS:0.02"),
        coin(2, "KUDOS:5", "KUDOS:0.02"),
    ];
    let hash = shop.sell("sold", "KUDOS:15", &coins, true).await;
    shop.approve("sold", "KUDOS:3").await.expect(200);
    shop.fetch("sold", hash).await.expect(200);
    // Granted, and not yet asked for.
    shop.approve("sold", "KUDOS:4").await.expect(200);
    let backup = shop.folder.path().join("backup.sqlite3");
    let made = commands::back_up(&shop.config, &backup).unwrap();
    // What follows is lost: an approval that the exchange has confirmed, and an order.
    shop.approve("sold", "KUDOS:6").await.expect(200);
    shop.fetch("sold", hash).await.expect(200);
    shop.sell("lost", "KUDOS:1", &[coin(3, "KUDOS:1", "KUDOS:0.02")], true)
        .await;
    shop.stop().await;
    assert_eq!(given_back(&shop, &coins[0]), units("KUDOS:6"));
    let (old, anchor) = live(&shop);
    let held = shop.events().len();

    shop.clock.advance_s(3600);
    let continued = shop.continue_as("second", &backup, &anchor).await;
    let predecessor = &continued.predecessor;
    assert_eq!((predecessor.size, predecessor.generation), (made.events, Some(1)));
    assert_eq!(continued.lost, u64::try_from(held).unwrap() - made.events);
    assert_eq!((continued.orders, continued.left), (1, 0));
    assert!(old.exists() && continued.id_doubts.is_empty());

    shop.start().await;
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(body["refund_amount"], "KUDOS:4");
    assert_eq!(
        entries(&body),
        [("success", 1, "KUDOS:3"), ("success", 2, "KUDOS:1")]
    );
    // The shop grants again what was lost, and more; of the first coin the exchange gives no more than its deposit.
    shop.approve("sold", "KUDOS:6").await.expect(200);
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(entries(&body)[2], ("success", FIRST, "KUDOS:2"));
    shop.approve("sold", "KUDOS:15").await.expect(200);
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(
        entries(&body)[3..],
        [("failure", FIRST + 1, "KUDOS:4"), ("success", FIRST, "KUDOS:5")]
    );
    assert_eq!(body["refunds"][3]["exchange_status"], 409);
    assert!(given_back(&shop, &coins[0]) <= units("KUDOS:10"));
    assert_eq!(given_back(&shop, &coins[1]), units("KUDOS:5"));
    let asked = asked(&shop);
    assert_eq!(asked.len(), 6, "{asked:?}");

    // The lost order is told anew; its ids begin at the generation too.
    let lost = [coin(3, "KUDOS:1", "KUDOS:0.02")];
    let hash = shop.sell("lost", "KUDOS:1", &lost, true).await;
    shop.approve("lost", "KUDOS:1").await.expect(200);
    let body = shop.fetch("lost", hash).await.expect(200);
    assert_eq!(entries(&body), [("success", FIRST, "KUDOS:1")]);
    shop.audit_after(Some(&backup)).await;
    // The lost ledger, should it be found again: the successor began within it.
    let report = shop.audit_after(Some(&old)).await;
    let behind = format!("{} events of the predecessor", continued.lost);
    assert!(
        report.notes.iter().any(|note| note.text.contains(&behind)),
        "{:?}",
        report.notes
    );

    // A successor of the successor, without a loss: the generation stays, ids go on.
    let (old, anchor) = live(&shop);
    let continued = shop.continue_as("third", &old, &anchor).await;
    assert_eq!((continued.lost, continued.predecessor.generation), (0, Some(1)));
    shop.start().await;
    let more = [coin(4, "KUDOS:2", "KUDOS:0.02")];
    let hash = shop.sell("more", "KUDOS:2", &more, true).await;
    shop.approve("more", "KUDOS:1").await.expect(200);
    let body = shop.fetch("more", hash).await.expect(200);
    assert_eq!(entries(&body), [("success", FIRST, "KUDOS:1")]);
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn without_a_loss_ids_go_on() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:10", "KUDOS:0.02")];
    let hash = shop.sell("sold", "KUDOS:10", &coins, true).await;
    let unpaid = shop
        .sell("unpaid", "KUDOS:9", &[coin(2, "KUDOS:4", "KUDOS:0.02")], false)
        .await;
    shop.approve("sold", "KUDOS:3").await.expect(200);
    let before = shop.fetch("sold", hash).await.expect(200);
    shop.audit().await;
    let (old, anchor) = live(&shop);
    let file = std::fs::read(&old).unwrap();
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!((continued.lost, continued.predecessor.generation), (0, None));
    assert_eq!((continued.orders, continued.left), (2, 0));
    assert_eq!(std::fs::read(&old).unwrap(), file, "the old ledger is only read");
    shop.start().await;
    let after = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(after, before, "the wallet is told the same");
    shop.approve("sold", "KUDOS:5").await.expect(200);
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(entries(&body)[1], ("success", 2, "KUDOS:2"));
    // The rest of the payment, and the instance's token, work on.
    shop.book(unpaid, &[coin(3, "KUDOS:5", "KUDOS:0.02")]);
    let paid = shop
        .tell("unpaid", &[coin(3, "KUDOS:5", "KUDOS:0.02")], true)
        .await;
    assert_eq!(paid.expect(200)["paid"], true);
    assert_eq!(asked(&shop).len(), 2);
    shop.audit_after(Some(&old)).await;
    let events = shop.events();
    assert_eq!(genesis(&events).generation(), 0);
    assert_eq!(
        shop.kinds()[..9],
        [
            "ledger_opened",
            "order_recorded",
            "deposit_recorded",
            "payment_completed",
            "refund_carried_in",
            "order_recorded",
            "deposit_recorded",
            "instance_added",
            "exchange_keys_seen"
        ]
    );
}

#[tokio::test]
async fn an_abort_half_way_is_finished_by_the_successor() {
    let mut shop = Shop::open().await;
    let coins = [
        coin(1, "KUDOS:4", "KUDOS:0.02"),
        coin(2, "KUDOS:3", "KUDOS:0.02"),
        coin(3, "KUDOS:2", "KUDOS:0.02"),
    ];
    let hash = shop.sell("half", "KUDOS:9", &coins[..2], false).await;
    // The first coin comes back; of the second nothing is heard; the third was never deposited.
    fail(
        &shop,
        &coins[1],
        FaultKind::Status {
            status: 503,
            code: 60,
        },
        1,
    );
    let reply = shop.abort("half", hash, &coins).await;
    assert_eq!(reply.expect(200)["refunds"][1]["type"], "failure");
    assert_eq!(
        (given_back(&shop, &coins[0]), given_back(&shop, &coins[1])),
        (units("KUDOS:4"), 0)
    );
    shop.audit().await;
    let (old, anchor) = live(&shop);
    // Past the deadline: only what is open keeps it in flight.
    shop.clock.advance_s(172_800);
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!(continued.orders, 1);
    shop.start().await;
    shop.until("the second coin's refund", async || {
        given_back(&shop, &coins[1]) == units("KUDOS:3")
    })
    .await;
    shop.until("both answers are recorded", async || {
        let reply = shop.abort("half", hash, &coins).await;
        reply.status == 200
            && reply.json()["refunds"][0]["type"] == "success"
            && reply.json()["refunds"][1]["type"] == "success"
    })
    .await;
    let body = shop.abort("half", hash, &coins).await.expect(200);
    assert_eq!(body["refunds"][2]["type"], "undeposited");
    // An aborted coin stays aborted: its deposit comes too late, and goes back.
    shop.book(hash, &coins[2..]);
    shop.tell("half", &coins[2..], false).await.expect(200);
    shop.until("the late coin's refund", async || {
        given_back(&shop, &coins[2]) == units("KUDOS:2")
    })
    .await;
    assert_eq!(given_back(&shop, &coins[0]), units("KUDOS:4"));
    assert!(asked(&shop).keys().all(|(_, id)| *id == 0));
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn a_coin_whose_abort_was_refused_counts_on_and_is_not_sent_again() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.02"), coin(2, "KUDOS:3", "KUDOS:0.02")];
    let hash = shop.sell("sold", "KUDOS:4", &coins[..1], false).await;
    fail(
        &shop,
        &coins[0],
        FaultKind::Status {
            status: 403,
            code: 1506,
        },
        1,
    );
    shop.abort("sold", hash, &coins[..1]).await.expect(200);
    // It counts for the payment again; what comes after the payment goes back.
    shop.tell("sold", &[], true).await.expect(200);
    shop.book(hash, &coins[1..]);
    shop.tell("sold", &coins[1..], true).await.expect(200);
    shop.until("the late coin's refund", async || {
        given_back(&shop, &coins[1]) == units("KUDOS:3")
    })
    .await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    shop.audit().await;
    let (old, anchor) = live(&shop);
    let before = shop.asked();
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!(continued.orders, 1);
    shop.start().await;
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(entries(&body), [("success", 1, "KUDOS:1")]);
    let path = format!("/coins/{}/refund", coins[0].coin_pub);
    let of_first: Vec<u64> = asked(&shop)
        .into_keys()
        .filter(|(asked, _)| *asked == path)
        .map(|(_, id)| id)
        .collect();
    assert_eq!(of_first, [0, 1]);
    let body = shop.abort("sold", hash, &coins[..1]).await.expect(200);
    assert_eq!(
        (&body["refunds"][0]["type"], &body["refunds"][0]["exchange_code"]),
        (&"failure".into(), &1506.into())
    );
    // The refused abort is not asked again; the confirmed one may be, and the refund is.
    assert!(shop.asked() <= before + 2);
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn what_is_concluded_stays_behind() {
    let mut shop = Shop::open().await;
    let sold = [coin(1, "KUDOS:4", "KUDOS:0.02")];
    let hash = shop.sell("done", "KUDOS:4", &sold, true).await;
    shop.approve("done", "KUDOS:1").await.expect(200);
    shop.fetch("done", hash).await.expect(200);
    let open = [coin(2, "KUDOS:4", "KUDOS:0.02")];
    let open_hash = shop.sell("open", "KUDOS:4", &open, true).await;
    shop.approve("open", "KUDOS:2").await.expect(200);
    fail(&shop, &open[0], FaultKind::LostReply, 1);
    shop.fetch("open", open_hash).await.expect(200);
    shop.until("the delivery is recorded", async || {
        let status = shop.status("done", hash).await.json();
        status["refund_taken"] == "KUDOS:1"
    })
    .await;
    shop.stop().await;
    shop.clock.advance_s(172_800);
    let (old, anchor) = live(&shop);
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!((continued.orders, continued.left), (1, 1));
    shop.start().await;
    assert_eq!(shop.fetch("done", hash).await.status, 404);
    // Past its deadline, as a repeat: the exchange had granted it.
    let body = shop.fetch("open", open_hash).await.expect(200);
    assert_eq!(entries(&body), [("success", 1, "KUDOS:2")]);
    assert_eq!(given_back(&shop, &open[0]), units("KUDOS:2"));
    shop.audit_after(Some(&old)).await;
}

/// Tries to continue; nothing may be there afterwards.
async fn refused(shop: &mut Shop, name: &str, old: &Path, anchor: &Path) -> StartError {
    let error = shop.try_to_continue_as(name, old, anchor).await.unwrap_err();
    let data = shop.folder.path().join(name).join("data");
    for file in ["ledger.sqlite3", "ledger.sqlite3.new"] {
        assert!(!data.join(file).exists(), "{file}: {error}");
    }
    error
}

#[tokio::test]
async fn what_does_not_hold_is_not_continued() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.02")];
    shop.sell("sold", "KUDOS:4", &coins, true).await;
    let (old, anchor) = live(&shop);
    let first = shop.config.clone();
    // A ledger that is served, as its lock says.
    let takeover = quittance::takeover::Takeover {
        old: old.clone(),
        anchor: anchor.clone(),
        old_keys: None,
        after_loss: false,
    };
    let mut config = first.clone();
    config.ledger = shop.folder.path().join("served/ledger.sqlite3");
    config.anchor = shop.folder.path().join("served/ledger.anchor");
    config.keys = shop.folder.path().join("served/keys");
    let try_it = |config: &quittance::config::Config| {
        quittance::takeover::continue_ledger(config, &shop.clock.clock(), &takeover, &Beginnings::default())
            .unwrap_err()
    };
    let error = try_it(&config);
    assert!(
        matches!(error, StartError::Takeover(TakeoverError::Served(_))),
        "{error}"
    );
    let time = shop.clock.clock();
    shop.stop().await;
    let try_it = |config: &quittance::config::Config| {
        quittance::takeover::continue_ledger(config, &time, &takeover, &Beginnings::default()).unwrap_err()
    };
    // The same name, another currency, and no key for the instance.
    let error = try_it(&config);
    assert!(
        matches!(error, StartError::Takeover(TakeoverError::SameOrigin(_))),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
    config.origin = "shop.example/served".into();
    let error = try_it(&config);
    assert!(
        matches!(error, StartError::Takeover(TakeoverError::NoInstanceKey(_))),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
    config.currency = "EUR".parse().unwrap();
    let error = try_it(&config);
    assert!(
        matches!(error, StartError::Takeover(TakeoverError::Currency(_))),
        "{error}"
    );
    assert!(!shop.folder.path().join("served").exists());

    // Another ledger's anchor, none, and a ledger that somebody changed.
    let foreign = shop.folder.path().join("foreign.anchor");
    let text = std::fs::read_to_string(&anchor).unwrap();
    std::fs::write(&foreign, text.replace("shop.example/test", "shop.example/else")).unwrap();
    let error = refused(&mut shop, "second", &old, &foreign).await;
    assert!(error.to_string().contains("log.anchor"), "{error}");
    let nowhere = shop.folder.path().join("nowhere.anchor");
    let error = refused(&mut shop, "second", &old, &nowhere).await;
    assert!(
        matches!(error, StartError::Takeover(TakeoverError::Unusable(_))),
        "{error}"
    );
    let forged = shop.folder.path().join("forged.sqlite3");
    std::fs::copy(&old, &forged).unwrap();
    let conn = rusqlite::Connection::open(&forged).unwrap();
    conn.execute_batch(
        "DROP TRIGGER event_update;
         UPDATE event SET signature = zeroblob(64) WHERE seq = 3;",
    )
    .unwrap();
    conn.close().unwrap();
    let error = refused(&mut shop, "second", &forged, &anchor).await;
    assert!(error.to_string().contains("log.signature at event 3"), "{error}");
    // What an earlier try left is not written over.
    let left = shop.folder.path().join("second/data/ledger.sqlite3.new");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "left").unwrap();
    let error = shop
        .try_to_continue_as("second", &old, &anchor)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("ledger.sqlite3.new exists already"),
        "{error}"
    );
    assert_eq!(std::fs::read(&left).unwrap(), b"left");
    std::fs::remove_dir_all(shop.folder.path().join("second")).unwrap();
    // The real one is continued after all these.
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!(continued.orders, 1);
    // And only once under these paths.
    let error = quittance::takeover::continue_ledger(&shop.config, &time, &takeover, &Beginnings::default())
        .unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
}
