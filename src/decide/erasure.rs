//! Whether an attachment may be erased as far as the service is concerned. Whether it must be is for the law.

use quittance_events::{AttachmentName, Event, Facts, Folded, RefundId};
use quittance_taler::Micros;

/// What the service still needs the bytes for. An exchange's reply is told to wallets with every answer while its
/// permission is open; a request and a contract back what is open.
#[must_use]
pub fn needed(folded: &Folded, event: &Event, name: AttachmentName, at: Micros) -> Option<String> {
    let order = match folded {
        Folded::Recorded(order) => order,
        Folded::Offered(offer) if offer.deleted || at.is_past(offer.created.pay_deadline_s) => return None,
        Folded::Offered(_) => return Some("a wallet can claim the order until its pay deadline".into()),
    };
    let mut open = order.open_permissions();
    match (name, &event.facts) {
        (AttachmentName::Terms, _) => match open.next() {
            Some((coin, id)) => Some(format!("the refund of coin {coin}, id {id}, is not decided")),
            None if at.is_past(order.terms.wire_deadline_s) => None,
            None => Some("refunds can be granted until the order's wire deadline".into()),
        },
        (AttachmentName::Body, Facts::AbortRequested(f)) => {
            let named = |coin| f.coins.iter().any(|named| named.coin_pub == coin);
            open.find(|(coin, id)| *id == RefundId::ABORT && named(*coin))
                .map(|(coin, _)| format!("the abort's refund of coin {coin} is not decided"))
        }
        (AttachmentName::Body, Facts::DepositRequested(_)) => {
            let mut batches = order.sale.iter().flat_map(|sale| &sale.batches);
            batches
                .any(|batch| batch.seq == event.seq && !batch.is_decided())
                .then(|| "whether these coins are deposited is not decided".into())
        }
        (AttachmentName::Reply, Facts::ExchangeReplied(f)) => {
            let is_this = |(coin, id)| (coin, id) == (f.coin_pub, f.rtransaction_id);
            let speaks = open.any(is_this) && order.last_reply(&f.coin_pub, f.rtransaction_id) == event.seq;
            speaks.then(|| {
                format!(
                    "wallets are told it until the refund of coin {}, id {}, is decided",
                    f.coin_pub, f.rtransaction_id
                )
            })
        }
        _ => None,
    }
}
