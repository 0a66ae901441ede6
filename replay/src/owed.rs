//! What an event of an order calls for in its own commit: a late deposit its extension, a contract its claim, a
//! confirmation its deposits. One commit's events of an order stand side by side with one time.

use quittance_events::OrderKey;
use quittance_taler::{Amount, CoinPub};

use crate::findings::{Draft, Findings, Mark, Marks};
use crate::fold::OrderFold;
use crate::parts::Decision;
use crate::rules::{self, Rule};
use crate::selling;

/// What is still missing of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// A deposit that must be given back.
    GivenBack(CoinPub),
    /// The claim of the contract that this event records.
    Claim(u64),
    /// The deposit of a coin that the exchange confirmed in this event.
    Deposit(u64, CoinPub),
    /// The payment that does not count this coin, which this event gives back.
    Payment(u64, CoinPub),
    /// The end of the terms at the second event, of which the first has what is not forgotten.
    Erased(u64, u64),
    /// The payment, where the request of the second event is paid in full by what the first one confirmed.
    Completed(u64, u64),
}

/// What stayed owed.
pub(crate) struct Left {
    /// None where it is only noted, because there may be a good reason.
    pub(crate) rule: Option<&'static Rule>,
    pub(crate) seq: u64,
    pub(crate) text: String,
    pub(crate) stake: Option<Amount>,
    pub(crate) depends: [Mark; 2],
    pub(crate) mark: Mark,
}

/// What a commit that is over now left owing.
pub(crate) fn left(order: &mut OrderFold) -> Vec<Left> {
    let owed = std::mem::take(&mut order.owed);
    let left = owed.into_iter().filter_map(|owed| match owed {
        Owed::GivenBack(coin) => order.deposit(&coin).map(|deposit| Left {
            rule: Some(&rules::ABORT_LATE_DEPOSIT),
            seq: deposit.seq,
            text: format!("the late deposit of coin {coin} is not given back"),
            stake: Some(deposit.facts.amount_with_fee),
            depends: [Mark::Coin(coin), Mark::Payment],
            mark: Mark::Coin(coin),
        }),
        Owed::Claim(seq) => Some(Left {
            rule: Some(&rules::ORDER_CLAIMED),
            seq,
            text: "no claim stands right behind the contract".to_owned(),
            stake: Some(order.terms.amount),
            depends: [Mark::Terms; 2],
            mark: Mark::Terms,
        }),
        Owed::Deposit(seq, coin) => Some(Left {
            rule: Some(&rules::DEPOSIT_CONFIRMED),
            seq,
            text: format!("coin {coin} is confirmed, and its deposit is not recorded with it"),
            stake: order.asked_of(&coin),
            depends: [Mark::Coin(coin), Mark::Terms],
            mark: Mark::Coin(coin),
        }),
        Owed::Payment(seq, coin) => Some(Left {
            rule: Some(&rules::ABORT_EXTENDED),
            seq,
            text: format!(
                "coin {coin}: no abort had named it, the order was not paid before, and no payment follows"
            ),
            stake: order.deposited(&coin).or_else(|| order.asked_of(&coin)),
            depends: [Mark::Coin(coin), Mark::Payment],
            mark: Mark::Permission(coin, quittance_events::RefundId::ABORT),
        }),
        Owed::Erased(seq, terms) => Some(Left {
            rule: Some(&rules::ORDER_FORGOTTEN),
            seq,
            text: format!("the terms of event {terms} are not erased with it"),
            stake: None,
            depends: [Mark::Terms; 2],
            mark: Mark::Terms,
        }),
        Owed::Completed(seq, batch) => selling::pays(order, batch).then(|| Left {
            rule: None,
            seq,
            text: format!(
                "all coins of the wallet's request at event {batch} are deposited and pay the order, and it is not recorded \
                 as paid; another request with other coins may have asked for the last of them"
            ),
            stake: None,
            depends: [Mark::Terms; 2],
            mark: Mark::Terms,
        }),
    });
    left.collect()
}

/// Likewise, where a decision is not of that commit.
pub(crate) fn left_before(order: &mut OrderFold, next: &Decision) -> Vec<Left> {
    if order.is_same_commit(next.first(), next.event.at_us) {
        return Vec::new();
    }
    left(order)
}

/// Tells what stayed owed in an order.
pub(crate) fn tell(key: &OrderKey, left: Vec<Left>, marks: &mut Marks, findings: &mut Findings) {
    for left in left {
        let Some(rule) = left.rule else {
            findings.note(Some(left.seq), Some(key), left.text);
            continue;
        };
        let draft = Draft::new(rule, left.seq, left.text)
            .of(Some(key))
            .stake(left.stake);
        let cause = marks.cause(&left.depends).or(findings.all_orders);
        let root = findings.add(draft, cause);
        marks.set(left.mark, root);
    }
}
