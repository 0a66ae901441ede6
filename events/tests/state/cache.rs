//! The bounded cache and the indexes, against the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quittance_events::copy::{Copy, CopyError};
use quittance_events::facts::{AbortCoinState, ExchangeKeysSeen, Verdict};
use quittance_events::limits::ORDERS_CACHED_MAX;
use quittance_events::{Append, Ledger, NewEvent, Order, OrderKey, Stream};
use quittance_taler::MasterPub;

use crate::support::{
    Home, aborted, append, approved, at, coin, deposit, id, on, order_key, paid, replied, requested, terms,
    unreached,
};

/// Orders of every sort, a little of each in every batch.
async fn fill(ledger: &Arc<Ledger>, orders: usize) -> BTreeMap<OrderKey, Arc<Order>> {
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..orders {
        let ledger = Arc::clone(ledger);
        callers.spawn(async move {
            let key = order_key(&format!("order-{number}"));
            let mut events = vec![terms(), deposit(1)];
            match number % 4 {
                0 => events.extend([aborted(&[
                    (1, AbortCoinState::Deposited),
                    (2, AbortCoinState::Undeposited),
                ])]),
                1 => events.extend([
                    paid(&[1]),
                    approved(1, &[1]),
                    requested(1, &[1]),
                    unreached(1, 1, 1),
                ]),
                2 => events.extend([
                    paid(&[1]),
                    approved(1, &[1]),
                    approved(2, &[1]),
                    requested(1, &[1]),
                    requested(2, &[1]),
                    replied(1, 1, 1, Verdict::Confirmed),
                    replied(1, 2, 1, Verdict::Later),
                ]),
                _ => {}
            }
            (
                key.clone(),
                ledger
                    .append(on(&key, quittance_events::Seq::NONE, at(1), events))
                    .await
                    .unwrap()
                    .order()
                    .unwrap(),
            )
        });
    }
    callers.join_all().await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_order_is_folded_again_to_the_equal_state() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    let published = fill(&ledger, ORDERS_CACHED_MAX + 100).await;
    let evicted = published
        .keys()
        .filter(|key| ledger.cached(key).is_none())
        .count();
    assert!(evicted >= 100, "{evicted}");
    for (key, state) in &published {
        assert_eq!(ledger.order(key).unwrap().as_ref(), Some(state), "{key}");
    }
    // The writer takes up an evicted order as well as a cached one.
    let gone = published.keys().find(|key| ledger.cached(key).is_none()).unwrap();
    let before = &published[gone];
    let done = append(&ledger, gone, at(2), vec![deposit(3)])
        .await
        .order()
        .unwrap();
    assert_eq!(done.deposits.len(), before.deposits.len() + 1);
    let gone = done.key.clone();
    ledger.close();
    drop(ledger);
    let ledger = home.open();
    for (key, state) in &published {
        let expected = if *key == gone { &done } else { state };
        assert_eq!(ledger.order(key).unwrap().as_ref(), Some(expected), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_indexes_say_what_the_events_say() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    fill(&ledger, 40).await;
    let keys = ExchangeKeysSeen {
        master_pub: MasterPub::from_bytes([9; 32]),
        url: "u".into(),
        signkeys: Vec::new(),
    };
    let of_the_ledger = Append {
        stream: Stream::Ledger(None),
        at: at(2),
        events: vec![NewEvent::bare(keys)],
    };
    ledger.append(of_the_ledger).await.unwrap();
    append(
        &ledger,
        &order_key("order-4"),
        at(2),
        vec![replied(1, 0, 1, Verdict::Refused)],
    )
    .await;
    append(
        &ledger,
        &order_key("order-8"),
        at(2),
        vec![replied(1, 0, 1, Verdict::Confirmed)],
    )
    .await;
    let reported = ledger.open_permissions().unwrap();
    let folded: BTreeSet<_> = (0..40)
        .filter_map(|number| ledger.order(&order_key(&format!("order-{number}"))).unwrap())
        .flat_map(|order| {
            order
                .open_permissions()
                .map(|(coin, id)| (order.key.clone(), coin, id))
                .collect::<Vec<_>>()
        })
        .collect();
    // Ten aborts of which two are decided, ten refunds in vain, ten of which one of two is confirmed.
    assert_eq!(folded.len(), 10 - 2 + 10 + 10);
    assert!(folded.contains(&(order_key("order-2"), coin(1), id(2))));
    assert_eq!(reported.iter().cloned().collect::<BTreeSet<_>>(), folded);
    assert_eq!(reported.len(), folded.len());
    ledger.close();

    let copy = Copy::open(&home.paths.ledger).unwrap();
    let events = home.events();
    let mut filed = Vec::new();
    copy.walk_index::<CopyError>(|seq, names| {
        filed.push((seq, names));
        Ok(())
    })
    .unwrap();
    let wanted: Vec<_> = events
        .iter()
        .map(|event| {
            let key = event.order_key();
            (
                event.seq.sql(),
                key.map(|key| (key.instance.to_string(), key.order.to_string())),
            )
        })
        .collect();
    assert_eq!(filed, wanted);
    assert_eq!(copy.empty_orders().unwrap(), []);
    assert_eq!(copy.integrity().unwrap(), Vec::<String>::new());
    assert_eq!(copy.schema_differences().unwrap(), Vec::<String>::new());
    let head = copy.head().unwrap().unwrap();
    assert_eq!(usize::try_from(head.size).unwrap(), events.len());
    assert_eq!(u64::try_from(head.greatest_at_us).unwrap(), at(2).get());
}

#[test]
fn an_order_that_was_never_recorded_is_none() {
    let home = Home::new();
    let ledger = home.open();
    assert_eq!(ledger.order(&order_key("nobody")).unwrap(), None);
    assert_eq!(ledger.cached(&order_key("nobody")), None);
    assert_eq!(ledger.open_permissions().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_beside_the_writer_never_see_an_order_go_back() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    let key = order_key("busy");
    append(
        &ledger,
        &key,
        at(1),
        vec![terms(), deposit(1), aborted(&[(1, AbortCoinState::Deposited)])],
    )
    .await;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let (ledger, key, done) = (Arc::clone(&ledger), key.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut last = 0;
                let mut other = 0_usize;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let attempt = ledger
                        .order(&key)
                        .unwrap()
                        .unwrap()
                        .outcome(&coin(1), id(0))
                        .unwrap()
                        .attempt;
                    assert!(attempt >= last, "{attempt} after {last}");
                    last = attempt;
                    // Keeps the busy order falling out of the cache.
                    other += 1;
                    ledger
                        .order(&order_key(&format!("order-{}", (other * 7 + reader) % 1200)))
                        .unwrap();
                }
            })
        })
        .collect();
    fill(&ledger, ORDERS_CACHED_MAX + 176).await;
    for attempt in 1..=150 {
        append(&ledger, &key, at(2), vec![unreached(1, 0, attempt)]).await;
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(
        ledger
            .order(&key)
            .unwrap()
            .unwrap()
            .aborted(&coin(1))
            .unwrap()
            .outcome
            .attempt,
        150
    );
}
