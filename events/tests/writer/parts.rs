//! Lists that are longer than an event may hold become parts of one decision.

use quittance_events::facts::{
    AbortCoinState, AnsweredRow, ApprovedRow, CarriedInRow, LIST_MAX, Part, RefundApproved, RefundCarriedIn,
    Verdict,
};
use quittance_events::{AttachmentName, Facts, NewEvent, Order};
use quittance_taler::{EddsaSignature, Timestamp};

use crate::support::{
    Home, aborted, amount, append, at, coin, deposit, id, order_key, refund_answer, refunding, replied, terms,
};

fn numbered(order: &Order) -> Vec<usize> {
    let place = |row: &quittance_events::order::Row| (0..600).find(|n| coin(*n) == row.coin_pub).unwrap();
    order.rows.iter().map(place).collect()
}

#[tokio::test]
async fn long_lists_are_cut_and_come_together_again_in_their_order() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let coins: Vec<usize> = (0..=2 * LIST_MAX).collect();
    let order = refunding(&ledger, &key, &coins).await.order().unwrap();
    assert_eq!(numbered(&order), coins);
    assert_eq!(order.payment.as_ref().unwrap().coins.len(), coins.len());
    append(
        &ledger,
        &key,
        at(11),
        vec![replied(400, 1, 1, Verdict::Confirmed)],
    )
    .await;
    let order = ledger.order(&key).unwrap().unwrap();
    let (answer, body) = refund_answer(&order, at(12));
    let done = append(&ledger, &key, at(12), vec![answer.clone()]).await;
    let recorded = done.answer.unwrap();
    assert_eq!(done.seqs.len(), 3);
    assert_eq!(recorded.seq, done.seqs[2], "an answer is its last part");
    assert_eq!(recorded.body, quittance_events::seal::answer_digest(&body));
    // Once recorded, all of it is.
    assert!(append(&ledger, &key, at(13), vec![answer]).await.seqs.is_empty());
    let delivery = quittance_events::facts::RefundDelivered { answer: recorded.seq };
    let told = quittance_events::Append {
        stream: quittance_events::Stream::Told(key.clone()),
        at: at(13),
        events: vec![NewEvent::bare(delivery)],
    };
    let taken = ledger.append(told).await.unwrap().order().unwrap();
    let taken: Vec<bool> = taken.rows.iter().map(|row| row.taken).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    assert!(taken[400], "a row of the last part");
    ledger.close();

    let events = home.events();
    let mut approved: Vec<&ApprovedRow> = Vec::new();
    let mut answered: Vec<&AnsweredRow> = Vec::new();
    let mut parts = Vec::new();
    for event in &events {
        match &event.facts {
            Facts::RefundApproved(f) => {
                approved.extend(&f.rows);
                // The attachment is on part 1, the other facts are in all.
                assert_eq!(event.attachments.len(), usize::from(f.part == Some(Part(1, 3))));
                assert_eq!((f.total, f.by.as_str()), (amount("KUDOS:1"), "token"));
            }
            Facts::RefundAnswered(f) => {
                answered.extend(f.rows.as_ref().unwrap());
                assert_eq!((f.as_of, f.body), (recorded.as_of, recorded.body));
                assert_eq!(f.refund_amount, Some(amount("KUDOS:0.401")));
            }
            _ => {}
        }
        if let Some(part) = event.facts.part() {
            parts.push((event.facts.kind(), part.0, part.1));
        }
    }
    let rows: Vec<_> = approved.iter().map(|row| row.coin_pub).collect();
    assert_eq!(rows, coins.iter().map(|n| coin(*n)).collect::<Vec<_>>());
    assert_eq!(answered.iter().map(|row| row.coin_pub).collect::<Vec<_>>(), rows);
    let kinds = [
        "payment_completed",
        "refund_approved",
        "refund_requested",
        "refund_answered",
    ];
    let wanted: Vec<_> = kinds
        .iter()
        .flat_map(|kind| (1..=3).map(move |i| (*kind, i, 3)))
        .collect();
    assert_eq!(parts, wanted);
}

#[tokio::test]
async fn exactly_a_full_list_has_no_part() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let mut events = vec![terms()];
    let coins: Vec<_> = (0..LIST_MAX).map(|n| (n, AbortCoinState::Undeposited)).collect();
    events.push(aborted(&coins));
    let done = append(&ledger, &key, at(1), events).await;
    assert_eq!(done.seqs.len(), 2);
    let answer = quittance_events::answer::abort(
        &done.order().unwrap(),
        &coins.iter().map(|(n, _)| coin(*n)).collect::<Vec<_>>(),
        quittance_events::facts::Undeposited::Typed,
    );
    let quittance_events::answer::AbortAnswer::Recorded(answer) = answer else {
        panic!("all are conclusive")
    };
    let recorded = append(&ledger, &key, at(2), vec![NewEvent::bare(answer.facts)]).await;
    assert_eq!(recorded.seqs.len(), 1);
    ledger.close();
    assert!(home.events().iter().all(|event| event.facts.part().is_none()));
}

#[tokio::test]
async fn a_full_list_of_the_longest_values_fits_a_leaf() {
    let home = Home::new();
    let ledger = home.open();
    let mut key = order_key(&"o".repeat(64));
    key.instance = "i".repeat(64).parse().unwrap();
    let most = amount("ABCDEFGHIJK:4503599627370496.99999999");
    let last = Timestamp::from_s(9_007_199_254).unwrap();
    let sig = EddsaSignature::from_bytes([0xff; 64]);
    let rtransaction_id = id((1 << 53) - 1);
    let carried = RefundCarriedIn {
        rows: (0..2 * LIST_MAX)
            .map(|n| CarriedInRow {
                coin_pub: coin(n),
                rtransaction_id,
                amount: most,
                execution_s: last,
                merchant_sig: sig,
            })
            .collect(),
        part: None,
        by: "t".repeat(32).parse().unwrap(),
    };
    let approved = RefundApproved {
        total: most,
        execution_s: last,
        rows: (0..2 * LIST_MAX)
            .map(|n| ApprovedRow {
                coin_pub: coin(n),
                rtransaction_id,
                amount: most,
                merchant_sig: sig,
            })
            .collect(),
        part: None,
        by: "t".repeat(32).parse().unwrap(),
    };
    let events = vec![
        terms(),
        deposit(1),
        NewEvent::bare(carried),
        NewEvent::with(approved, AttachmentName::Reason, vec![0xff; 100_000]),
    ];
    assert_eq!(append(&ledger, &key, at(1), events).await.seqs.len(), 6);
}
