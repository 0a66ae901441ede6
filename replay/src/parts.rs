//! Joins the parts of a long decision: they follow each other, differ in their lists alone, and are judged as one.

use std::collections::BTreeMap;

use quittance_events::facts::{LIST_MAX, Part};
use quittance_events::{AttachmentName, Event, Facts};

use crate::findings::Root;

/// Bytes behind an event, as far as they can be relied on.
#[derive(Clone)]
pub(crate) enum Attachment {
    Bytes(Vec<u8>),
    /// Erased, or not those whose digest was sealed.
    Gone,
}

/// One decision: an event, or all parts of one.
#[derive(Clone)]
pub(crate) struct Decision {
    /// The first event, its list that of all parts.
    pub(crate) event: Event,
    /// The number under which the first event is stored.
    pub(crate) row: i64,
    /// The last part's sequence.
    pub(crate) last: u64,
    pub(crate) attachments: BTreeMap<AttachmentName, Attachment>,
    /// A finding about the bytes of one of its events.
    pub(crate) root: Option<Root>,
}

impl Decision {
    pub(crate) fn first(&self) -> u64 {
        self.event.seq.get()
    }

    pub(crate) fn bytes(&self, name: AttachmentName) -> Option<&[u8]> {
        match self.attachments.get(&name) {
            Some(Attachment::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

/// How many entries an event lists.
fn listed(facts: &Facts) -> usize {
    match facts {
        Facts::PaymentCompleted(f) => f.coins.len(),
        Facts::RefundCarriedIn(f) => f.rows.len(),
        Facts::RefundApproved(f) => f.rows.len(),
        Facts::RefundRequested(f) => f.rows.len(),
        Facts::AbortRequested(f) => f.coins.len(),
        Facts::AbortExtended(f) => f.coins.len(),
        Facts::AbortRefused(f) => f.coins.len(),
        Facts::AbortAnswered(f) => f.coins.len(),
        Facts::RefundAnswered(f) => f.rows.as_ref().map_or(0, Vec::len),
        Facts::DepositRequested(f) => f.coins.len(),
        Facts::ExchangeKeysSeen(f) => f.signkeys.len(),
        _ => 0,
    }
}

/// Appends the next part's list; says whether the two agree otherwise. The lists are out of the way meanwhile: a ledger may
/// have parts without end, and none is compared with all before it.
fn join(whole: &mut Facts, next: Facts) -> bool {
    macro_rules! join {
        ($whole:ident, $next:ident, $list:ident) => {{
            let mut rest = $next;
            let mut list = std::mem::take(&mut $whole.$list);
            let mut more = std::mem::take(&mut rest.$list);
            rest.part = $whole.part;
            let agree = rest == *$whole;
            list.append(&mut more);
            $whole.$list = list;
            agree
        }};
    }
    match (whole, next) {
        (Facts::PaymentCompleted(w), Facts::PaymentCompleted(n)) => join!(w, n, coins),
        (Facts::RefundCarriedIn(w), Facts::RefundCarriedIn(n)) => join!(w, n, rows),
        (Facts::RefundApproved(w), Facts::RefundApproved(n)) => join!(w, n, rows),
        (Facts::RefundRequested(w), Facts::RefundRequested(n)) => join!(w, n, rows),
        (Facts::AbortRequested(w), Facts::AbortRequested(n)) => join!(w, n, coins),
        (Facts::AbortExtended(w), Facts::AbortExtended(n)) => join!(w, n, coins),
        (Facts::AbortRefused(w), Facts::AbortRefused(n)) => join!(w, n, coins),
        (Facts::AbortAnswered(w), Facts::AbortAnswered(n)) => join!(w, n, coins),
        (Facts::DepositRequested(w), Facts::DepositRequested(n)) => join!(w, n, coins),
        (Facts::RefundAnswered(w), Facts::RefundAnswered(mut n)) => {
            let (mut list, more) = (w.rows.take(), n.rows.take());
            n.part = w.part;
            let agree = n == *w && list.is_some() == more.is_some();
            if let (Some(list), Some(mut more)) = (&mut list, more) {
                list.append(&mut more);
            }
            w.rows = list;
            agree
        }
        _ => false,
    }
}

/// What pushing an event brought.
pub(crate) struct Pushed {
    /// Decisions that are complete now, or will never be.
    pub(crate) ready: Vec<Decision>,
    /// What is wrong with the parts, at which event.
    pub(crate) wrong: Vec<(u64, &'static str)>,
}

/// The decision whose parts are being joined.
#[derive(Default)]
pub(crate) struct Joiner(Option<Decision>);

impl Joiner {
    /// Takes the next event, alone or as a part.
    pub(crate) fn push(&mut self, mut next: Decision) -> Pushed {
        let mut pushed = Pushed {
            ready: Vec::new(),
            wrong: Vec::new(),
        };
        let seq = next.first();
        if listed(&next.event.facts) > LIST_MAX {
            pushed.wrong.push((seq, "it lists more than 200 entries"));
        }
        let part = next.event.facts.part();
        if let Some(mut held) = self.0.take() {
            let follows = matches!((held_part(&held), part), (Some(Part(i, n)), Some(Part(j, m))) if n == m && j == i + 1)
                && held.last + 1 == seq
                && (&held.event.order, &held.event.instance, held.event.at_us)
                    == (&next.event.order, &next.event.instance, next.event.at_us);
            if follows {
                held.last = seq;
                held.root = held.root.or(next.root);
                if let Some(Part(i, n)) = part {
                    set_part(&mut held.event.facts, Part(i, n));
                }
                if !join(&mut held.event.facts, next.event.facts) {
                    pushed
                        .wrong
                        .push((seq, "it differs from the part before it in more than its list"));
                }
                return self.hold_or_release(held, pushed);
            }
            pushed
                .wrong
                .push((seq, "the next part of the decision before it is missing"));
            pushed.ready.push(held);
        }
        if matches!(part, Some(Part(i, n)) if i != 1 || n < 2) {
            pushed
                .wrong
                .push((seq, "it is a part whose first part does not stand before it"));
            next.last = seq;
            pushed.ready.push(next);
            return pushed;
        }
        self.hold_or_release(next, pushed)
    }

    /// The ledger ends, or an event cannot be read.
    pub(crate) fn end(&mut self) -> Pushed {
        let mut pushed = Pushed {
            ready: Vec::new(),
            wrong: Vec::new(),
        };
        if let Some(held) = self.0.take() {
            pushed
                .wrong
                .push((held.last, "the next part of this decision is missing"));
            pushed.ready.push(held);
        }
        pushed
    }

    fn hold_or_release(&mut self, decision: Decision, mut pushed: Pushed) -> Pushed {
        if Part::is_last(held_part(&decision)) {
            pushed.ready.push(decision);
        } else {
            self.0 = Some(decision);
        }
        pushed
    }
}

fn held_part(decision: &Decision) -> Option<Part> {
    decision.event.facts.part()
}

fn set_part(facts: &mut Facts, part: Part) {
    let place = match facts {
        Facts::PaymentCompleted(f) => &mut f.part,
        Facts::RefundCarriedIn(f) => &mut f.part,
        Facts::RefundApproved(f) => &mut f.part,
        Facts::RefundRequested(f) => &mut f.part,
        Facts::AbortRequested(f) => &mut f.part,
        Facts::AbortExtended(f) => &mut f.part,
        Facts::AbortRefused(f) => &mut f.part,
        Facts::RefundAnswered(f) => &mut f.part,
        Facts::AbortAnswered(f) => &mut f.part,
        Facts::DepositRequested(f) => &mut f.part,
        _ => return,
    };
    *place = Some(part);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use quittance_taler::CoinPub;

    use super::*;
    use quittance_events::facts::AbortRefused;

    fn refused(i: u32, n: u32) -> Facts {
        let mut coin = [0; 32];
        coin[..4].copy_from_slice(&i.to_be_bytes());
        Facts::AbortRefused(AbortRefused {
            http_status: 412,
            error_code: 2254,
            coins: vec![CoinPub::from_bytes(coin)],
            part: Some(Part(i, n)),
        })
    }

    /// As many parts as a hostile ledger may have: it takes a moment, and was minutes while each was compared with all
    /// before it.
    #[test]
    fn many_parts_take_the_time_of_their_number() {
        const PARTS: u32 = 200_000;
        let mut whole = refused(1, PARTS);
        for i in 2..=PARTS {
            set_part(&mut whole, Part(i, PARTS));
            assert!(join(&mut whole, refused(i, PARTS)), "part {i}");
        }
        let Facts::AbortRefused(whole) = whole else {
            panic!("another kind")
        };
        assert_eq!(whole.coins.len(), usize::try_from(PARTS).unwrap());
        assert!(whole.coins.is_sorted());
    }

    #[test]
    fn parts_that_differ_in_more_than_their_lists_are_told() {
        let mut whole = refused(1, 2);
        let mut other = refused(2, 2);
        if let Facts::AbortRefused(f) = &mut other {
            f.http_status = 409;
        }
        set_part(&mut whole, Part(2, 2));
        assert!(!join(&mut whole, other));
        assert_eq!(listed(&whole), 2);
    }
}
