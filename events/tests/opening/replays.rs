//! Opening replays nothing: shown by events that cannot even be read.

use std::collections::BTreeMap;

use quittance_events::facts::LedgerOpened;
use quittance_events::seal::no_digest;
use quittance_events::{Event, NewEvent, Seq, create};
use quittance_taler::Digest32;

use crate::support::{Home, append, at, copy_file, deposit, keys, order_key, terms};

/// The genesis and `orders` orders of two events each.
fn many(orders: usize) -> Vec<(Event, NewEvent)> {
    let keys = keys();
    let genesis = LedgerOpened {
        origin: crate::support::ORIGIN.into(),
        event_key: keys.event.public().key(),
        checkpoint_key: Digest32::from_bytes(*keys.checkpoint.verifier().public_key()),
        recovery_key: None,
        predecessor: None,
    };
    let first = Event {
        at_us: at(0),
        attachments: BTreeMap::new(),
        facts: genesis.clone().into(),
        instance: None,
        ledger: crate::support::ORIGIN.into(),
        order: None,
        prev: no_digest(),
        seq: Seq::FIRST,
        version: quittance_events::event::FIRST_VERSION,
    };
    let mut events = vec![(first.clone(), NewEvent::bare(genesis))];
    for number in 0..orders {
        for new in [terms(), deposit(1)] {
            let key = order_key(&format!("order-{number}"));
            let facts = new.facts.clone();
            let event = Event {
                facts,
                instance: Some(key.instance),
                order: Some(key.order),
                ..first.clone()
            };
            events.push((event, NewEvent::bare(new.facts)));
        }
    }
    events
}

/// Bytes that this thread has read from files so far, from the disk or from memory.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines()
        .find_map(|line| line.strip_prefix("rchar: "))
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn opening_reads_the_same_few_pages_however_many_events_there_are() {
    for orders in [10, 5_000] {
        let home = Home::empty();
        create::create(&home.paths, &keys(), many(orders)).unwrap();
        let size = std::fs::metadata(&home.paths.ledger).unwrap().len();
        let before = bytes_read();
        let ledger = home.open();
        let opened = bytes_read() - before;
        assert_eq!(ledger.open_permissions().unwrap(), []);
        let asked = bytes_read() - before - opened;
        ledger.order(&order_key("order-3")).unwrap().unwrap();
        let read = bytes_read() - before - opened - asked;
        for (what, bytes) in [
            ("opening", opened),
            ("open permissions", asked),
            ("an order", read),
        ] {
            assert!(bytes < 300_000, "{what}: {bytes} bytes of {size}");
        }
    }
}

#[tokio::test]
async fn opening_reads_neither_old_events_nor_their_number() {
    let home = Home::empty();
    create::create(&home.paths, &keys(), many(5_000)).unwrap();
    let broken = Home::empty();
    copy_file(&home.paths.ledger, &broken.paths.ledger);
    copy_file(&home.paths.anchor, &broken.paths.anchor);
    // On a copy every event is destroyed but the genesis, the last, and those of the order that is read below.
    broken
        .stranger()
        .execute_batch(
            "DROP TRIGGER event_update;
             UPDATE event SET sealed = x'00', signature = x'00' WHERE seq NOT IN (1, 4, 5, 10001);",
        )
        .unwrap();
    for path in [&home, &broken] {
        let ledger = path.open();
        let order = ledger.order(&order_key("order-1")).unwrap().unwrap();
        assert_eq!((order.moved.get(), order.deposits.len()), (5, 1));
        let done = append(&ledger, &order_key("new"), at(1), vec![terms()]).await;
        assert_eq!(done.seqs[0].get(), 10_002);
        ledger.close();
    }
    // Only who reads a destroyed order notices.
    let ledger = broken.open();
    let error = ledger.order(&order_key("order-2")).unwrap_err().to_string();
    assert!(error.contains("damaged ledger: event 6"), "{error}");
    assert!(home.open().order(&order_key("order-2")).unwrap().is_some());
}
