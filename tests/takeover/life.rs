//! Successors of ledgers whose keys were rotated and whose attachments were erased.

use quittance::app::StartError;
use quittance::commands;
use quittance::takeover::TakeoverError;
use quittance_events::create::Beginnings;
use quittance_events::facts::{KeyRole, Verdict};
use quittance_events::{AttachmentName, Facts};
use quittance_sandbox::{Fault, FaultKind};

use crate::support::{Shop, coin};

const BOTH: [KeyRole; 2] = [KeyRole::Event, KeyRole::Checkpoint];

#[tokio::test]
async fn a_ledger_with_rotated_keys_is_continued_by_one_with_a_recovery_key() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:10", "KUDOS:0.02")];
    let hash = shop.sell("sold", "KUDOS:10", &coins, true).await;
    shop.approve("sold", "KUDOS:3").await.expect(200);
    shop.stop().await;
    let clock = shop.clock.clock();
    commands::rotate_keys(&shop.config, &clock, &BOTH, None).unwrap();
    shop.start().await;
    // Sealed by the new key, of format version 2.
    shop.approve("sold", "KUDOS:4").await.expect(200);
    shop.stop().await;
    let (old, anchor) = (shop.config.ledger.clone(), shop.config.anchor.clone());

    let recovery = shop.folder.path().join("recovery.key");
    let beginnings = Beginnings {
        recovery_key: Some(commands::make_recovery_key(&recovery).unwrap()),
    };
    let continued = shop
        .try_to_continue_with("second", &old, &anchor, beginnings)
        .await
        .unwrap();
    assert_eq!(
        (continued.lost, continued.orders, continued.predecessor.generation),
        (0, 1, None)
    );
    let kinds = shop.kinds();
    assert_eq!(kinds[..3], ["ledger_opened", "format_raised", "order_recorded"]);
    shop.audit_after(Some(&old)).await;

    shop.start().await;
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(body["refund_amount"], "KUDOS:4");
    shop.approve("sold", "KUDOS:5").await.expect(200);
    shop.stop().await;
    // The event key is lost, and the recovery key stands in.
    std::fs::remove_file(shop.config.keys.join("event.key")).unwrap();
    let rotated = commands::rotate_keys(&shop.config, &clock, &[KeyRole::Event], Some(&recovery)).unwrap();
    shop.vkey.clone_from(&rotated[0].1);
    shop.start().await;
    let body = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(body["refund_amount"], "KUDOS:5");
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn an_order_in_flight_whose_bytes_are_erased_is_not_continued() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.02")];
    let hash = shop.sell("half", "KUDOS:8", &coins, false).await;
    let fault = Fault {
        times: 1,
        ..Fault::new(FaultKind::Status {
            status: 404,
            code: 1005,
        })
    };
    shop.sandbox.fault(fault).unwrap();
    shop.abort("half", hash, &coins).await.expect(200);
    shop.stop().await;
    let events = shop.events();
    let refused = events
        .iter()
        .find(|event| matches!(&event.facts, Facts::ExchangeReplied(f) if f.verdict == Verdict::Refused))
        .unwrap();
    let clock = shop.clock.clock();
    let (config, target) = (shop.config.clone(), (refused.seq, AttachmentName::Reply));
    commands::erase(&config, &clock, target, "asked to").unwrap();

    let error = shop
        .try_to_continue_as("second", &config.ledger, &config.anchor)
        .await
        .unwrap_err();
    let said = error.to_string();
    let words = format!("the reply of event {} is erased", refused.seq);
    assert!(
        matches!(error, StartError::Takeover(TakeoverError::Erased { .. })) && said.contains(&words),
        "{said}"
    );
    assert!(!shop.folder.path().join("second/data/ledger.sqlite3").exists());

    // Past its wire deadline the order stays behind, and the rest is continued.
    shop.clock.advance_s(400_000);
    shop.start().await;
    let others = [coin(2, "KUDOS:2", "KUDOS:0.02")];
    shop.sell("sold", "KUDOS:2", &others, true).await;
    shop.stop().await;
    // What the refused try left, as it is told to be removed.
    std::fs::remove_dir_all(shop.folder.path().join("second")).unwrap();
    let continued = shop.continue_as("second", &config.ledger, &config.anchor).await;
    assert_eq!((continued.orders, continued.left), (1, 1));
    shop.audit_after(Some(&config.ledger)).await;
}
