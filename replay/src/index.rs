//! Indexes and projections of the file against the fold: head, order index, open permissions. No answer is judged by
//! them, but a service that trusts them acts on them.

use std::collections::BTreeSet;

use quittance_events::OrderKey;
use quittance_events::copy::{Copy, CopyError, StoredOpen};

use crate::findings::{Draft, Findings};
use crate::log::Log;
use crate::rules;

/// Under which order an event is filed; 0 is the ledger's own.
pub(crate) type Filed = u32;

/// What the index must say.
pub(crate) struct Wanted<'a> {
    /// Of each event, in order: its number and under which order it is filed. Nothing where it could not be read.
    pub(crate) filed: &'a [(i64, Option<Filed>)],
    /// Orders by number, from 1.
    pub(crate) orders: &'a [OrderKey],
    pub(crate) open: BTreeSet<(OrderKey, Vec<u8>, i64)>,
}

/// Compares all of it.
pub(crate) fn check(
    copy: &Copy,
    log: &Log,
    wanted: Wanted,
    findings: &mut Findings,
) -> Result<(), CopyError> {
    // Where events themselves are in doubt, their index is too.
    let mut root = findings.place_up_to(u64::MAX);
    let mut tell =
        |findings: &mut Findings, seq: Option<i64>, text: String, expected: String, found: String| {
            let draft = match seq.and_then(|seq| u64::try_from(seq).ok()) {
                Some(seq) => Draft::new(&rules::LOG_INDEX, seq, text),
                None => Draft::of_file(&rules::LOG_INDEX, text),
            };
            root = Some(findings.add(draft.differs(expected, found), root));
        };
    let frontier = log.frontier.to_bytes();
    let expected = format!("{} events, latest time {}", log.count, log.greatest_at.get());
    match copy.head()? {
        None => tell(
            findings,
            None,
            "the head row is missing".into(),
            expected,
            "none".into(),
        ),
        Some(head) => {
            let found = format!("{} events, latest time {}", head.size, head.greatest_at_us);
            if expected != found {
                tell(
                    findings,
                    None,
                    "the head row is not what the events come to".into(),
                    expected,
                    found,
                );
            } else if head.frontier != frontier {
                tell(
                    findings,
                    None,
                    "the head row's tree is not that of the events".into(),
                    String::new(),
                    String::new(),
                );
            }
        }
    }
    check_orders(copy, &wanted, |seq, text, expected, found| {
        tell(findings, seq, text, expected, found);
    })?;
    for (instance, order) in copy.empty_orders()? {
        let text = format!("the index lists the order {instance}/{order}, which has no event");
        tell(findings, None, text, String::new(), String::new());
    }
    let found: BTreeSet<StoredOpen> = copy.open_permissions()?.into_iter().collect();
    let expected: BTreeSet<StoredOpen> = wanted
        .open
        .into_iter()
        .map(|(key, coin_pub, rtransaction_id)| StoredOpen {
            instance: key.instance.to_string(),
            order: key.order.to_string(),
            coin_pub,
            rtransaction_id,
        })
        .collect();
    for open in expected.symmetric_difference(&found) {
        let coin = quittance_taler::base32::encode(&open.coin_pub);
        let what = if expected.contains(open) {
            "is open and not listed as such"
        } else {
            "is listed as open and is not"
        };
        let text = format!(
            "order {}/{}: coin {coin}, id {} {what}",
            open.instance, open.order, open.rtransaction_id
        );
        tell(findings, None, text, String::new(), String::new());
    }
    Ok(())
}

fn check_orders(
    copy: &Copy,
    wanted: &Wanted,
    mut tell: impl FnMut(Option<i64>, String, String, String),
) -> Result<(), CopyError> {
    let name = |filed: Filed| match usize::try_from(filed)
        .ok()
        .and_then(|n| wanted.orders.get(n.checked_sub(1)?))
    {
        Some(key) => key.to_string(),
        None => "the ledger's own events".to_owned(),
    };
    let mut events = wanted.filed.iter().peekable();
    copy.walk_index::<CopyError>(|seq, found| {
        while let Some((missing, filed)) = events.next_if(|(wanted, _)| *wanted < seq) {
            let expected = filed.map_or_else(String::new, name);
            tell(
                Some(*missing),
                "the index does not file this event".into(),
                expected,
                "nowhere".into(),
            );
        }
        let found = found.map_or_else(|| name(0), |(instance, order)| format!("{instance}/{order}"));
        match events.next_if(|(wanted, _)| *wanted == seq) {
            None => tell(
                Some(seq),
                "the index files an event that is not there, or files it twice".into(),
                String::new(),
                found,
            ),
            Some((_, None)) => {}
            Some((_, Some(filed))) if name(*filed) == found => {}
            Some((_, Some(filed))) => tell(
                Some(seq),
                "the index files this event elsewhere".into(),
                name(*filed),
                found,
            ),
        }
        Ok(())
    })?;
    for (missing, filed) in events {
        let expected = filed.map_or_else(String::new, name);
        tell(
            Some(*missing),
            "the index does not file this event".into(),
            expected,
            "nowhere".into(),
        );
    }
    Ok(())
}
