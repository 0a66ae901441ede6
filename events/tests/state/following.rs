//! Following what was recorded, a piece at a time.

use quittance_events::facts::{WebhookDelivered, WebhookGivenUp};
use quittance_events::{Append, NewEvent, Seq, Stream};

use crate::support::{Home, append, approved, at, deposit, order_key, paid, terms};

const KINDS: [&str; 3] = ["payment_completed", "refund_approved", "webhook_delivered"];

#[tokio::test]
async fn what_was_recorded_is_found_once_and_in_order_however_it_is_cut() {
    let home = Home::new();
    let ledger = home.open();
    for number in 1..=4 {
        let key = order_key(&format!("order-{number}"));
        let events = vec![terms(), deposit(1), paid(&[1]), approved(1, &[1])];
        let appended = append(&ledger, &key, at(100 * number), events).await;
        let before = appended.order().unwrap();
        let of = appended.seqs[2];
        let webhook: quittance_events::WebhookId = "till".parse().unwrap();
        let told = [
            NewEvent::bare(WebhookDelivered {
                webhook: webhook.clone(),
                of,
                attempt: 1,
                http_status: 204,
            }),
            NewEvent::bare(WebhookGivenUp {
                webhook,
                of,
                attempt: 2,
            }),
        ];
        let stream = Stream::Told(key.clone());
        let events = told.to_vec();
        let appended = ledger
            .append(Append {
                stream,
                at: at(100 * number),
                events,
            })
            .await
            .unwrap();
        // They are the order's, and move it nowhere.
        let after = appended.order().unwrap();
        assert_eq!(
            (after.moved, after.last),
            (before.moved, *appended.seqs.last().unwrap())
        );
    }
    drop(ledger);
    let events = home.events();
    let ledger = home.open();
    let all: Vec<(Seq, &str)> = events
        .iter()
        .map(|event| (event.seq, event.facts.kind()))
        .filter(|(_, kind)| KINDS.contains(kind))
        .collect();
    assert_eq!(all.len(), 12);
    for most in [1, 2, 5, 1000] {
        let (mut seen, mut found) = (Seq::NONE, Vec::new());
        while seen < events.last().unwrap().seq {
            let (piece, next) = ledger.events_of_kinds(seen, most, &KINDS).unwrap();
            assert!(next > seen && next.get() - seen.get() <= most);
            found.extend(piece.iter().map(|event| (event.seq, event.facts.kind())));
            seen = next;
        }
        assert_eq!(found, all);
        assert_eq!(
            ledger.events_of_kinds(seen, most, &KINDS).unwrap(),
            (Vec::new(), seen)
        );
    }
    // From a time on nothing is missed, whatever the stride; with the smallest nothing is looked at in vain.
    let times: Vec<_> = events.iter().map(|event| (event.seq, event.at_us)).collect();
    for stride in [1, 3, 1000] {
        for from in [at(0), at(150), at(200), at(400), at(1000)] {
            let before = ledger.before(from, stride).unwrap();
            assert!(times.iter().all(|(seq, time)| *time < from || *seq > before));
            if stride == 1 {
                let last_earlier = times
                    .iter()
                    .filter(|(_, time)| *time < from)
                    .map(|(seq, _)| *seq)
                    .max();
                assert_eq!(before, last_earlier.unwrap_or(Seq::NONE));
            }
        }
    }
}
