//! Payments against aborts: every order in which two wallets' payments and aborts, replies and crashes can come, on a
//! model of the exchange that books what it takes. Whatever happened: an abort's coins pay for nothing, no coin has two
//! permissions, and once the order is paid every coin that may be deposited counts for it or goes back.

use std::collections::BTreeSet;
use std::time::Duration;

use quittance_events::facts::{AbortCoinState, AbortExtended, AbortRequested};

use super::pay::{
    batch, checked, ended, folded, is_configured, paid_coin, pay, payment, price, reply, sold, unreached,
};
use super::*;
use crate::decide::abort::not_before;
use crate::decide::pay::{Payment, completed, decide as decide_pay, recorded as record};
use crate::limits::DEPOSIT_LINGERS;

const SECOND: &str = "https://second.example/";

/// What can happen next. A payment and its replies are one step (an order has one payment or abort at a time), but for
/// the replies that a crash or a time-out takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A wallet pays; how the exchanges end, one after the other.
    Pay(usize, [End; 2]),
    /// A wallet aborts all coins that it ever named.
    Abort(usize),
    /// The first batch of which nothing is known is told after all.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Taken and told.
    Confirmed,
    /// Refused and told.
    Refused,
    /// Taken, and the reply is lost.
    Lost,
    /// Taken, and the service stopped before anything was recorded of it.
    Crashed,
}

/// Wallet 0 pays with one coin at each exchange, wallet 1 with one coin alone.
fn payments() -> [Payment; 2] {
    [
        payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(2, "6", SECOND)]),
        payment(vec![paid_coin(3, "10", EXCHANGE)]),
    ]
}

#[derive(Clone)]
struct World {
    order: Order,
    /// What the exchanges have, whatever the service knows.
    taken: BTreeSet<CoinPub>,
    /// Permissions made of each coin.
    permitted: Vec<CoinPub>,
    paid_by: Option<usize>,
}

impl World {
    fn record(&mut self, events: &[NewEvent]) {
        for event in events {
            match &event.facts {
                Facts::AbortRequested(AbortRequested { coins, .. }) => {
                    let permitted = coins.iter().filter(|coin| coin.amount.is_some());
                    self.permitted.extend(permitted.map(|coin| coin.coin_pub));
                }
                Facts::AbortExtended(AbortExtended { coins, .. }) => {
                    self.permitted.extend(coins.iter().map(|coin| coin.coin_pub));
                }
                Facts::DepositRequested(f) => {
                    for coin in &f.coins {
                        assert!(
                            self.order.aborted(&coin.coin_pub).is_none(),
                            "asked for under an abort"
                        );
                    }
                }
                Facts::PaymentCompleted(f) => {
                    assert!(self.order.payment.is_none(), "paid twice");
                    assert_eq!(f.paid, kudos("10"));
                    assert!(f.coins.iter().all(|coin| self.taken.contains(coin)));
                }
                _ => {}
            }
        }
        self.order = after(&self.order, events);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pay(wallet, ends) => self.pay(wallet, ends),
            Step::Abort(wallet) => self.abort(wallet),
            Step::Late => {
                let open = self.order.sale.as_ref().unwrap().batches.iter();
                let Some(number) = open.clone().position(|batch| !batch.is_decided()) else {
                    return;
                };
                let attempt = batch(&self.order, number).attempt + 1;
                let outcome = reply(&self.order, number, attempt, Verdict::Confirmed);
                let coins = &batch(&self.order, number).coins;
                self.taken.extend(coins.iter().map(|coin| coin.coin_pub));
                self.record(&record(&self.order, &outcome, &merchant()));
            }
        }
    }

    fn pay(&mut self, wallet: usize, ends: [End; 2]) {
        let payment = &payments()[wallet];
        let decided = decide_pay(
            Some(&folded(&self.order)),
            payment,
            &checked(&self.order, payment),
            &price("10"),
            is_configured,
            &merchant(),
            now(),
        );
        let was_paid = self.order.payment.is_some();
        let names_aborted = payment
            .coins
            .iter()
            .any(|coin| self.order.aborted(&coin.coin_pub).is_some());
        let Ok(events) = decided else {
            assert!(was_paid || names_aborted, "{:?}", decided.unwrap_err());
            assert_ne!(self.paid_by, Some(wallet), "the payer gets the same answer again");
            return;
        };
        assert!(self.paid_by == Some(wallet) || !was_paid && !names_aborted);
        self.record(&events);
        if was_paid {
            assert_eq!(events, []);
            return;
        }
        if self.order.payment.is_some() {
            self.paid_by = Some(wallet);
            return;
        }
        let open: Vec<usize> = checked(&self.order, payment)
            .wanted
            .iter()
            .filter_map(|wanted| {
                let batches = &self.order.sale.as_ref().unwrap().batches;
                batches.iter().rposition(|batch| {
                    !batch.is_decided()
                        && batch.exchange_master_pub == wanted.exchange
                        && batch.coins == wanted.coins
                })
            })
            .collect();
        for (number, end) in open.into_iter().zip(ends) {
            let (known, attempt) = (batch(&self.order, number), batch(&self.order, number).attempt + 1);
            let coins: Vec<CoinPub> = known.coins.iter().map(|coin| coin.coin_pub).collect();
            // What an exchange has taken it does not refuse.
            let had = coins.iter().all(|coin| self.taken.contains(coin));
            let end = if had && end == End::Refused {
                End::Confirmed
            } else {
                end
            };
            if end != End::Refused {
                self.taken.extend(coins);
            }
            let outcome = match end {
                End::Confirmed => reply(&self.order, number, attempt, Verdict::Confirmed),
                End::Refused => reply(&self.order, number, attempt, Verdict::Refused),
                End::Lost => unreached(&self.order, number, attempt),
                End::Crashed => return,
            };
            self.record(&record(&self.order, &outcome, &merchant()));
            let done = completed(&self.order, payment, &price("10"), &merchant());
            if !done.is_empty() {
                self.record(&done);
                self.paid_by = Some(wallet);
            }
        }
    }

    fn abort(&mut self, wallet: usize) {
        let coins: Vec<u8> = if wallet == 0 { vec![1, 2] } else { vec![3] };
        let mut events = match abort(&self.order, &coins) {
            Ok(events) => events,
            Err(refusal) => {
                assert!(self.order.payment.is_some(), "{refusal:?}");
                refusal.events
            }
        };
        if self.paid_by == Some(wallet) {
            assert!(events.iter().all(|event| event.facts.kind() == "abort_refused"));
        }
        if let [
            NewEvent {
                facts: Facts::AbortRequested(facts),
                ..
            },
        ] = events.as_mut_slice()
        {
            for coin in &facts.coins {
                let may_be_taken = self.taken.contains(&coin.coin_pub);
                match coin.state {
                    AbortCoinState::Undeposited => assert!(!may_be_taken, "taken, and said not to be"),
                    AbortCoinState::Deposited => assert!(may_be_taken),
                    AbortCoinState::Asked | AbortCoinState::Known => {}
                }
            }
        }
        self.record(&events);
    }

    fn check(&self, steps: &[Step]) {
        let permitted: BTreeSet<CoinPub> = self.permitted.iter().copied().collect();
        assert_eq!(
            permitted.len(),
            self.permitted.len(),
            "two permissions of a coin: {steps:?}"
        );
        let Some(paid) = &self.order.payment else { return };
        for coin in &paid.coins {
            assert!(!permitted.contains(coin), "counted and given back: {steps:?}");
        }
        for coin in &self.taken {
            let is_counted = paid.coins.contains(coin);
            assert!(
                is_counted || permitted.contains(coin),
                "kept for nothing: {steps:?}"
            );
        }
    }
}

fn every_step() -> Vec<Step> {
    const ENDS: [End; 4] = [End::Confirmed, End::Refused, End::Lost, End::Crashed];
    let mut steps = vec![Step::Abort(0), Step::Abort(1), Step::Late];
    for first in ENDS {
        steps.push(Step::Pay(1, [first, first]));
        for second in ENDS {
            steps.push(Step::Pay(0, [first, second]));
        }
    }
    steps
}

/// Every way on from here, three steps of any sort and one that shows what they led to.
fn go_on(world: &World, steps: &mut Vec<Step>, ended: &mut impl FnMut(&World)) {
    let next = match steps.len() {
        4 => return ended(world),
        3 => vec![
            Step::Pay(0, [End::Confirmed; 2]),
            Step::Pay(1, [End::Confirmed; 2]),
            Step::Abort(0),
        ],
        2 => every_step()
            .into_iter()
            .filter(|step| !matches!(step, Step::Pay(_, [first, second]) if first != second))
            .collect(),
        _ => every_step(),
    };
    for step in next {
        let mut world = world.clone();
        steps.push(step);
        world.step(step);
        world.check(steps);
        go_on(&world, steps, ended);
        steps.pop();
    }
}

#[test]
fn whatever_the_order_of_things_nothing_is_kept_and_nothing_given_back_twice() {
    let world = World {
        order: sold("10"),
        taken: BTreeSet::new(),
        permitted: Vec::new(),
        paid_by: None,
    };
    let (mut paid, mut ways) = (0, 0);
    go_on(&world, &mut Vec::new(), &mut |world| {
        ways += 1;
        paid += usize::from(world.order.payment.is_some());
    });
    // It is not for lack of payments that nothing went wrong.
    assert!(paid * 3 > ways, "{paid} of {ways}");
    assert!(paid < ways);
}

#[test]
fn a_coin_in_question_is_asked_back_for_what_it_was_to_pay() {
    let order = sold("10");
    let [both, _] = payments();
    let order = after(&order, &pay(&order, &both, "10").unwrap());
    let order = ended(&order, &reply(&order, 1, 1, Verdict::Confirmed), &both, "10");
    let events = abort(&order, &[1, 2]).unwrap();
    let Facts::AbortRequested(facts) = &events[0].facts else {
        panic!("{events:?}")
    };
    let coins: Vec<_> = facts.coins.iter().map(|coin| (coin.state, coin.amount)).collect();
    assert_eq!(
        coins,
        [
            (AbortCoinState::Asked, Some(kudos("4"))),
            (AbortCoinState::Deposited, Some(kudos("6")))
        ]
    );
    assert!(is_permitted(
        1,
        0,
        kudos("4"),
        &facts.coins[0].merchant_sig.unwrap()
    ));
    let order = after(&order, &events);
    assert_eq!(order.open_permissions().count(), 2);
    // Its deposit is told after all: it is recorded, and the permission stands.
    let late = record(&order, &reply(&order, 0, 1, Verdict::Confirmed), &merchant());
    assert_eq!(kinds(&late), ["deposit_replied", "deposit_recorded"]);
    let order = after(&order, &late);
    assert_eq!(completed(&order, &both, &price("10"), &merchant()), []);
    assert_eq!(
        refused(pay(&order, &both, "10")),
        (402, 2167),
        "the abort took its coins out of any payment"
    );
}

#[test]
fn a_refund_waits_for_a_deposit_that_may_be_on_its_way() {
    let order = sold("10");
    let [both, _] = payments();
    let order = after(&order, &pay(&order, &both, "10").unwrap());
    let order = after(&order, &record(&order, &unreached(&order, 0, 1), &merchant()));
    let order = ended(&order, &reply(&order, 1, 1, Verdict::Confirmed), &both, "10");
    let order = aborted(&order, &[1, 2, 3]);
    let not_before = |order: &Order, number, since_s| {
        not_before(order, &coin(number), |_| Duration::from_secs(since_s), at(NOW_S))
    };
    let linger = DEPOSIT_LINGERS.as_secs();
    assert_eq!(not_before(&order, 1, 0), Some(at(NOW_S + linger)));
    assert_eq!(not_before(&order, 1, linger - 1), Some(at(NOW_S + 1)));
    assert_eq!(not_before(&order, 1, linger), None);
    assert_eq!(not_before(&order, 1, linger + 1), None);
    // Deposited, and never asked for.
    assert_eq!(not_before(&order, 2, 0), None);
    assert_eq!(not_before(&order, 3, 0), None);
    let confirmed = record(&order, &reply(&order, 0, 2, Verdict::Confirmed), &merchant());
    assert_eq!(not_before(&after(&order, &confirmed), 1, 0), None);
}

#[test]
fn a_coin_that_the_exchange_will_not_give_back_pays_after_all() {
    let order = sold("10");
    let [_, one] = payments();
    let order = after(&order, &pay(&order, &one, "10").unwrap());
    let order = aborted(&order, &[3]);
    let order = after(&order, &[replied(3, 0, Verdict::Refused, 410, Some(1503))]);
    assert_eq!(
        pay(&order, &one, "10").unwrap(),
        [],
        "its batch is still in question"
    );
    let order = ended(&order, &reply(&order, 0, 1, Verdict::Confirmed), &one, "10");
    assert_eq!(order.payment.unwrap().coins, [coin(3)].into());
}

#[test]
fn a_coin_that_was_never_deposited_stays_under_its_abort() {
    let order = sold("10");
    let [_, one] = payments();
    let order = after(&order, &pay(&order, &one, "10").unwrap());
    let order = aborted(&order, &[3]);
    let order = after(&order, &[replied(3, 0, Verdict::Refused, 404, Some(1502))]);
    assert_eq!(refused(pay(&order, &one, "10")), (402, 2167));
}
