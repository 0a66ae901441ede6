//! Folding: in one go or interrupted, from what the writer published or from the file.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quittance_events::seal::{event_digest, no_digest};
use quittance_events::{AttachmentName, Event, Order, Seq};

use crate::story::{event, steps};
use crate::support::{Home, append, at, order_key, refund_answer};

/// An event of the order `a` with what its `reply` attachment holds.
type Told = (Event, Option<Vec<u8>>);

fn apply(order: &mut Option<Order>, (event, reply): &Told) {
    match order {
        None => *order = Some(Order::begin(event).unwrap()),
        Some(order) => order
            .apply(event, &event_digest(&event.canonical()), reply.as_deref())
            .unwrap(),
    }
}

proptest! {
    #[test]
    fn a_fold_that_is_interrupted_and_taken_up_gives_the_same(steps in steps(), stop in any::<prop::sample::Index>()) {
        let key = order_key("a");
        let (mut order, mut events, mut seq) = (None, Vec::<Told>::new(), Seq::FIRST);
        for (second, step) in (1..).zip(steps) {
            let Some(new) = event(order.as_ref(), step, at(second)) else { continue };
            seq = seq.next();
            let reply = new.attachments.into_iter().find(|(name, _)| *name == AttachmentName::Reply);
            let mut facts = new.facts;
            // The writer says what an answer rests on; here the test does.
            if let (quittance_events::Facts::RefundAnswered(f), Some(order)) = (&mut facts, &order) {
                f.as_of = order.moved;
            }
            let told = (
                Event {
                    at_us: at(second),
                    attachments: BTreeMap::new(),
                    facts,
                    instance: Some(key.instance.clone()),
                    ledger: "x.example/y".into(),
                    order: Some(key.order.clone()),
                    prev: no_digest(),
                    seq,
                    version: 1,
                },
                reply.map(|(_, bytes)| bytes),
            );
            apply(&mut order, &told);
            events.push(told);
        }
        let (before, after) = events.split_at(stop.index(events.len()));
        let mut resumed = None;
        for told in before {
            apply(&mut resumed, told);
        }
        // What was folded so far is kept as it is; the rest comes from bytes.
        let mut resumed = resumed.clone();
        for (event, reply) in after {
            let parsed = Event::parse_canonical(&event.canonical()).unwrap();
            prop_assert_eq!(&parsed, event);
            apply(&mut resumed, &(parsed, reply.clone()));
        }
        prop_assert_eq!(resumed, order);
    }
}

proptest! {
    // Each case makes a ledger and opens it several times.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_the_writer_publishes_is_what_the_file_says(steps in steps(), stops in any::<u32>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new();
            let mut ledger = home.open();
            let key = order_key("a");
            let mut published = None;
            for (index, step) in steps.into_iter().enumerate() {
                let second = u64::try_from(index).unwrap() + 1;
                if stops >> (index % 32) & 3 == 3 {
                    drop(ledger);
                    ledger = home.open();
                    prop_assert_eq!(&ledger.order(&key).unwrap(), &published, "before step {}", index);
                }
                let Some(new) = event(published.as_deref(), step, at(second)) else { continue };
                let done = append(&ledger, &key, at(second), vec![new]).await;
                prop_assert_eq!(&ledger.cached(&key), &done.folded);
                published = done.order();
            }
            drop(ledger);
            let ledger = home.open();
            let order = ledger.order(&key).unwrap();
            prop_assert_eq!(&order, &published);
            // The same state gives the same body.
            if let (Some(order), Some(published)) = (order, published)
                && order.payment.is_some()
            {
                prop_assert_eq!(refund_answer(&order, at(60)), refund_answer(&published, at(60)));
            }
            Ok(())
        })?;
    }
}
