//! Which contract terms become an order.

use std::sync::Arc;

use quittance_events::{AttachmentName, Facts, Folded};
use quittance_taler::{ContractTerms, MerchantPub, TermsExchange};

use super::*;
use crate::decide::order::{OrderRequest, decide};

fn request() -> OrderRequest {
    let terms = terms("10");
    OrderRequest {
        terms: ContractTerms {
            order_id: "boots".into(),
            amount: terms.amount,
            timestamp: terms.timestamp_s,
            refund_deadline: terms.refund_deadline_s,
            wire_transfer_deadline: terms.wire_deadline_s,
            merchant_pub: terms.merchant_pub,
            exchanges: vec![TermsExchange {
                url: EXCHANGE.into(),
                master_pub: exchange(),
            }],
            choice_index: None,
        },
        h_contract: hash(),
        canonical: b"{}".to_vec(),
    }
}

fn record(order: Option<&Order>, request: &OrderRequest) -> Decided {
    let currency = "KUDOS".parse().unwrap();
    let folded = order.map(|order| Folded::Recorded(Arc::new(order.clone())));
    decide(
        folded.as_ref(),
        request,
        &merchant().merchant_pub(),
        currency,
        &by(),
    )
}

#[test]
fn terms_are_recorded_with_what_refunds_need_of_them() {
    let events = record(None, &request()).unwrap();
    let [
        NewEvent {
            facts: Facts::OrderRecorded(facts),
            attachments,
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    let mut expected = terms("10");
    expected.exchanges.truncate(1);
    assert_eq!(facts, &expected);
    assert_eq!(attachments, &[(AttachmentName::Terms, b"{}".to_vec())]);
}

#[test]
fn equal_terms_again_change_nothing() {
    assert_eq!(record(Some(&recorded(terms("10"))), &request()).unwrap(), []);
}

#[test]
fn terms_of_others_are_refused() {
    let order = recorded(terms("10"));
    let foreign = MerchantPub::from_bytes([1; 32]);
    let with = |change: &dyn Fn(&mut OrderRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    for (order, request, expected) in [
        (None, with(&|r| r.terms.merchant_pub = foreign), (400, 2502)),
        (None, with(&|r| r.terms.amount = amount("EUR:10")), (409, 2024)),
        (
            Some(&order),
            with(&|r| r.h_contract = HashCode::from_bytes([1; 64])),
            (409, 2503),
        ),
        (
            Some(&order),
            with(&|r| r.terms.choice_index = Some(0)),
            (409, 2503),
        ),
    ] {
        assert_eq!(refused(record(order, &request)), expected, "{:?}", request.terms);
    }
}
