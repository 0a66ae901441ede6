//! Exchange replies: two bytes of status, then the body. A confirmation counts with a valid signature alone, a refusal
//! with a code alone, and whatever is judged can be recorded and read again.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quittance::exchange::Reply;
use quittance::exchange::verdict::{claimed_proof, judge};
use quittance_events::book::Book;
use quittance_events::facts::Verdict;
use quittance_events::ids::SAFE_INTEGER_MAX;
use quittance_events::{Event, Order, RefundId};
use quittance_fuzz::{bounded, exchange};

static SCENE: LazyLock<(Order, Book)> = LazyLock::new(|| (exchange::order(), exchange::book()));

fuzz_target!(|data: &[u8]| {
    let Some((status, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (order, book) = &*SCENE;
    let reply = Reply {
        http_status: u16::from_be_bytes(*status),
        body: body.to_vec(),
    };
    bounded(data.len(), 512, || {
        for id in [RefundId::ABORT, exchange::approved()] {
            let facts = judge(order, (exchange::coin(), id), 1, &reply, book, exchange::now());
            assert!(facts.error_code.is_none_or(|code| code <= SAFE_INTEGER_MAX));
            let is_claim = reply.http_status == 200 || facts.verdict == Verdict::Confirmed;
            let claimed = claimed_proof(&reply).filter(|_| is_claim);
            assert_eq!(facts.exchange_pub.zip(facts.exchange_sig), claimed);
            match facts.verdict {
                Verdict::Confirmed => {
                    let (key, signature) = claimed_proof(&reply).expect("a proof");
                    assert!(key.verify(&exchange::confirmation(id), &signature));
                }
                Verdict::Refused => {
                    assert!((400..500).contains(&reply.http_status) && facts.error_code.is_some());
                }
                Verdict::Later => assert!(reply.http_status >= 400),
                Verdict::Unproven => assert_eq!(reply.http_status, 200),
                Verdict::Malformed => assert_ne!(reply.http_status, 200),
            }
            let event = exchange::event(facts);
            assert_eq!(
                Event::parse_canonical(&event.canonical()).expect("as recorded"),
                event
            );
        }
    });
});
