//! Orders that are sold here, before anybody pays.

use std::sync::Arc;

use quittance_events::Folded;
use quittance_events::facts::{DepositForm, Failure};
use quittance_events::order::{AbortedCoin, Outcome};
use quittance_events::sale::{Batch, BatchAttempt};

use super::pay::{created, folded, offered, sold};
use super::*;
use crate::decide::sale::delete;

fn taken_back(folded: &Folded, force: bool, now: Micros) -> Decided {
    delete(Some(folded), force, now, &by())
}

#[test]
fn an_order_goes_unless_there_is_or_may_be_money_in_it() {
    let deadline = created("10").pay_deadline_s.seconds().unwrap();
    let (before, after) = (at(deadline - 1), at(deadline));
    let awaiting = (409, 2520);
    assert_eq!(taken_back(&offered("10"), false, before).unwrap().len(), 1);
    assert_eq!(refused(delete(None, true, after, &by())), (404, 2005));

    let order = sold("10");
    assert_eq!(refused(taken_back(&folded(&order), false, before)), awaiting);
    assert_eq!(taken_back(&folded(&order), true, before).unwrap().len(), 1);
    assert_eq!(taken_back(&folded(&order), false, after).unwrap().len(), 1);

    let batch = Batch {
        seq: Seq::FIRST,
        exchange_master_pub: exchange(),
        exchange_url: EXCHANGE.into(),
        layout: DepositForm::PerCoin,
        wallet_data_hash: None,
        coins: Vec::new(),
        attempt: 1,
        last: None,
        is_unsure: false,
    };
    let replied = |verdict| BatchAttempt::Replied {
        seq: Seq::FIRST,
        http_status: 409,
        error_code: None,
        verdict,
    };
    for (last, stays) in [
        (None, true),
        (Some(BatchAttempt::Unreached(Failure::Timeout)), true),
        (Some(replied(Verdict::Later)), true),
        (Some(replied(Verdict::Refused)), false),
    ] {
        let mut order = order.clone();
        let last = Batch {
            last,
            ..batch.clone()
        };
        order.sale.as_mut().unwrap().batches.push(last.clone());
        let decided = taken_back(&folded(&order), true, after);
        assert_eq!(decided.is_err(), stays, "{last:?}");
    }
    // An attempt before the refusal may have been taken.
    let mut unsure = order.clone();
    unsure.sale.as_mut().unwrap().batches.push(Batch {
        last: Some(replied(Verdict::Refused)),
        is_unsure: true,
        ..batch
    });
    assert_eq!(refused(taken_back(&folded(&unsure), true, after)), awaiting);
    let mut aborted = order.clone();
    aborted.aborts.push(AbortedCoin {
        coin_pub: coin(1),
        permission: None,
        outcome: Outcome::default(),
    });
    assert_eq!(refused(taken_back(&folded(&aborted), true, after)), awaiting);
    let mut gone = order;
    gone.sale.as_mut().unwrap().deleted = true;
    assert_eq!(refused(taken_back(&folded(&gone), true, after)), (404, 2005));
    // One that was told is its own backend's.
    let told = Folded::Recorded(Arc::new(recorded(terms("10"))));
    assert_eq!(refused(taken_back(&told, true, after)), awaiting);
}
