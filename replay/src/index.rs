//! Indexes and projections of the file against the fold: head, order index, open permissions. No answer is judged by
//! them, but a service that trusts them acts on them.

use std::collections::BTreeSet;

use quittance_events::copy::{Copy, CopyError, StoredOpen};

use crate::book::{Book, Filed, Place};
use crate::findings::{Draft, Findings};
use crate::log::Log;
use crate::rules;

/// Compares all of it.
pub(crate) fn check(copy: &Copy, log: &Log, book: &Book, findings: &mut Findings) -> Result<(), CopyError> {
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
    check_orders(copy, book, |seq, text, expected, found| {
        tell(findings, seq, text, expected, found);
    })?;
    for (instance, order) in copy.empty_orders()? {
        let text = format!("the index lists the order {instance}/{order}, which has no event");
        tell(findings, None, text, String::new(), String::new());
    }
    let found: BTreeSet<StoredOpen> = copy.open_permissions()?.into_iter().collect();
    let expected: BTreeSet<StoredOpen> = book
        .open()
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
    book: &Book,
    mut tell: impl FnMut(Option<i64>, String, String, String),
) -> Result<(), CopyError> {
    let own = || "the ledger's own events".to_owned();
    let name = |filed: Filed| book.name(filed).map_or_else(own, ToString::to_string);
    let agrees = |filed: Filed, found: Option<&(String, String)>| match (book.name(filed), found) {
        (Some(key), Some((instance, order))) => {
            key.instance.as_str() == instance && key.order.as_str() == order
        }
        (None, None) => true,
        _ => false,
    };
    let mut places = book.places().iter().peekable();
    let missing = |place: &Place| {
        let expected = place.order().map_or_else(String::new, name);
        (
            Some(place.seq),
            "the index does not file this event".to_owned(),
            expected,
            "nowhere".to_owned(),
        )
    };
    copy.walk_index::<CopyError>(|seq, found| {
        while let Some(place) = places.next_if(|place| place.seq < seq) {
            let (seq, text, expected, found) = missing(place);
            tell(seq, text, expected, found);
        }
        let place = places.next_if(|place| place.seq == seq);
        let (text, expected) = match place.map(Place::order) {
            None => (
                "the index files an event that is not there, or files it twice",
                String::new(),
            ),
            Some(None) => return Ok(()),
            Some(Some(filed)) if agrees(filed, found.as_ref()) => return Ok(()),
            Some(Some(filed)) => ("the index files this event elsewhere", name(filed)),
        };
        let found = found.map_or_else(own, |(instance, order)| format!("{instance}/{order}"));
        tell(Some(seq), text.to_owned(), expected, found);
        Ok(())
    })?;
    for place in places {
        let (seq, text, expected, found) = missing(place);
        tell(seq, text, expected, found);
    }
    Ok(())
}
