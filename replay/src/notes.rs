//! Checkpoints and the anchor against the tree of the events: signature, size, root.

use quittance_tlog::{Checkpoint, Frontier, Note};

use crate::findings::{Draft, Findings, Root};
use crate::log::Log;
use crate::rules::Rule;

/// The size that a note speaks of, before anybody checked its signature.
pub(crate) fn claimed_size(note: &str) -> Option<u64> {
    Checkpoint::parse_text(Note::parse(note).ok()?.text())
        .ok()
        .map(|checkpoint| checkpoint.size)
}

/// Compares a note with the tree, after the walk. Says whether it holds.
pub(crate) fn check_note(
    rule: &'static Rule,
    note: &str,
    wanted_size: Option<u64>,
    log: &Log,
    findings: &mut Findings,
) -> Option<u64> {
    let tell = |findings: &mut Findings, seq: Option<u64>, text: String, cause: Option<Root>| {
        let draft = seq.map_or_else(
            || Draft::of_file(rule, text.clone()),
            |seq| Draft::new(rule, seq, text.clone()),
        );
        findings.add(draft, cause)
    };
    let Some(key) = log.keys.checkpoint_at(claimed_size(note).unwrap_or(0)) else {
        let cause = findings.place_up_to(1);
        tell(
            findings,
            wanted_size,
            "no first event names a key to check it with".into(),
            cause,
        );
        return None;
    };
    let checkpoint = match Checkpoint::open(note, key) {
        Ok(checkpoint) => checkpoint,
        Err(e) => {
            let cause = findings.place_at(1);
            tell(
                findings,
                wanted_size,
                format!("it is no checkpoint of this ledger: {e}"),
                cause,
            );
            return None;
        }
    };
    let size = checkpoint.size;
    if let Some(wanted) = wanted_size.filter(|wanted| *wanted != size) {
        tell(
            findings,
            Some(wanted),
            format!("it is stored for {wanted} events and speaks of {size}"),
            None,
        );
        return None;
    }
    if size > log.count {
        let text = format!(
            "it speaks of {size} events, the ledger holds {}: its end is cut off",
            log.count
        );
        let cause = findings.place_up_to(size);
        let root = tell(findings, Some(size), text, cause);
        findings.mark_place(log.count + 1, root);
        return None;
    }
    let root = if size == 0 {
        Some(Frontier::default().root())
    } else {
        log.roots.get(&size).copied().flatten()
    };
    if root != Some(checkpoint.root) {
        let cause = findings.place_up_to(size);
        let text = format!("its root is not that of the first {size} events");
        let root = tell(findings, Some(size), text, cause);
        findings.mark_place(size, root);
        return None;
    }
    Some(size)
}
