//! Random lives of an order. Each step is one that the order can take as it stands; whether a service should have
//! taken it is nothing to the fold.

use proptest::prelude::*;
use quittance_events::facts::{
    AbortCoinState, AbortExtended, AbortRefused, CarriedInRow, ExtendedCoin, RefundCarriedIn,
    RefundDelivered, Verdict,
};
use quittance_events::{NewEvent, Order, Seq};
use quittance_taler::{EddsaSignature, Micros, Timestamp};

use crate::support::{
    aborted, amount, approved, coin, deposit, id, paid, refund_answer, replied, requested, terms, unreached,
};

/// What happens next, with what the choices in it are made by.
pub(crate) type Step = (u8, u8, u8);

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0..11_u8, any::<u8>(), any::<u8>()), 1..24)
}

fn pick<T: Copy>(from: &[T], by: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(by) % from.len()])
}

fn number_of(coin_pub: quittance_taler::CoinPub) -> usize {
    (0..256).find(|n| coin(*n) == coin_pub).unwrap()
}

/// The event of this step, or none where the order allows none.
pub(crate) fn event(order: Option<&Order>, (kind, a, b): Step, now: Micros) -> Option<NewEvent> {
    let Some(order) = order else { return Some(terms()) };
    let number = usize::from(a % 8);
    let refund = u64::from(b % 3) + 1;
    let verdicts = [
        Verdict::Confirmed,
        Verdict::Refused,
        Verdict::Later,
        Verdict::Unproven,
        Verdict::Malformed,
    ];
    Some(match kind {
        0 => deposit(number),
        1 => paid(&[number, usize::from(b % 8)]),
        2 if order.row(&coin(number), id(refund)).is_none() => approved(refund, &[number]),
        3 => {
            let fresh: Vec<_> = order.rows.iter().filter(|row| !row.requested).collect();
            let row = pick(&fresh, b)?;
            requested(row.rtransaction_id.get(), &[number_of(row.coin_pub)])
        }
        4 => aborted(&[(
            number,
            [
                AbortCoinState::Deposited,
                AbortCoinState::Undeposited,
                AbortCoinState::Known,
            ][usize::from(b % 3)],
        )]),
        5 => NewEvent::bare(AbortExtended {
            coins: vec![ExtendedCoin {
                coin_pub: coin(number),
                amount: amount("KUDOS:1"),
                merchant_sig: EddsaSignature::from_bytes([b; 64]),
            }],
            part: None,
            by: None,
        }),
        6 => NewEvent::bare(AbortRefused {
            http_status: 412,
            error_code: 2254,
            coins: vec![coin(number), coin(usize::from(b % 8))],
            part: None,
        }),
        7 | 8 => {
            let rows = order
                .rows
                .iter()
                .filter(|row| row.requested)
                .map(|row| (row.coin_pub, row.rtransaction_id));
            let aborts = order.aborts.iter().filter(|coin| coin.permission.is_some());
            let sent: Vec<_> = rows
                .chain(aborts.map(|coin| (coin.coin_pub, quittance_events::RefundId::ABORT)))
                .collect();
            let (coin_pub, refund) = pick(&sent, a)?;
            let number = number_of(coin_pub);
            let attempt = order.outcome(&coin_pub, refund)?.attempt + 1;
            if kind == 7 {
                replied(number, refund.get(), attempt, pick(&verdicts, b)?)
            } else {
                unreached(number, refund.get(), attempt)
            }
        }
        9 if order.payment.is_some() => refund_answer(order, now).0,
        10 => {
            let every = (1..=order.last.get()).map(|seq| Seq::new(seq).unwrap());
            let waiting: Vec<_> = every.filter(|seq| order.awaits_delivery(*seq)).collect();
            NewEvent::bare(RefundDelivered {
                answer: pick(&waiting, a)?,
            })
        }
        2 => NewEvent::bare(RefundCarriedIn {
            rows: vec![CarriedInRow {
                coin_pub: coin(number),
                rtransaction_id: id(100 + u64::from(b)),
                amount: amount("KUDOS:0.5"),
                execution_s: Timestamp::from_s(u64::from(b)).unwrap(),
                merchant_sig: EddsaSignature::from_bytes([b; 64]),
            }],
            part: None,
            by: "token".parse().unwrap(),
        }),
        _ => return None,
    })
}
