//! Checkpoints against the tree of the events: signature, size, root. Those that the ledger stores are compared
//! while its events pass; the anchor and the checkpoint of an earlier audit come from outside and are compared
//! afterwards.

use std::collections::VecDeque;

use quittance_events::copy::{Copy, CopyError};
use quittance_taler::Amount;
use quittance_tlog::{Checkpoint, CheckpointError, Frontier, Hash, Note, NoteError};

use crate::findings::{Draft, Findings, Root};
use crate::log::Log;
use crate::rules::{self, Rule};

/// Checkpoints read at once: a ledger may hold one for every second of its life.
const PAGE: u32 = 1_000;

/// Checkpoints that do not hold which are told of one by one. The first says where history parts; more say the same.
const FAULTS_TOLD: usize = 100;

/// Why a checkpoint does not hold, and at which size it was to.
pub(crate) struct Fault {
    seq: Option<u64>,
    why: Why,
}

enum Why {
    NoKey,
    Foreign(String),
    OtherSize(u64),
    CutOff(u64),
    OtherRoot(u64),
}

/// The size that a note speaks of, before anybody checked its signature.
pub(crate) fn claimed(note: &str) -> Option<Checkpoint> {
    Checkpoint::parse_text(Note::parse(note).ok()?.text()).ok()
}

/// Holds a note against the tree. Gives the size that it covers.
fn judge(
    note: &str,
    wanted_size: Option<u64>,
    log: &Log,
    root_of: impl FnOnce(u64) -> Option<Hash>,
) -> Result<u64, Fault> {
    let fault = |seq, why| Err(Fault { seq, why });
    let size = claimed(note).map_or(0, |checkpoint| checkpoint.size);
    let Some(key) = log.keys.checkpoint_at(size) else {
        return fault(wanted_size, Why::NoKey);
    };
    let checkpoint = match Checkpoint::open(note, key) {
        Ok(checkpoint) => checkpoint,
        Err(e) => return fault(wanted_size, Why::Foreign(foreign(note, &e))),
    };
    let size = checkpoint.size;
    if wanted_size.is_some_and(|wanted| wanted != size) {
        return fault(wanted_size, Why::OtherSize(size));
    }
    if size > log.count {
        return fault(Some(size), Why::CutOff(size));
    }
    let root = if size == 0 {
        Some(Frontier::default().root())
    } else {
        root_of(size)
    };
    if root == Some(checkpoint.root) {
        Ok(size)
    } else {
        fault(Some(size), Why::OtherRoot(size))
    }
}

fn foreign(note: &str, error: &CheckpointError) -> String {
    let signers: Vec<String> = Note::parse(note).map_or_else(
        |_| Vec::new(),
        |note| {
            let signatures = note.signatures().iter();
            signatures
                .map(|line| format!("{}+{:08x}", line.name(), line.key_id()))
                .collect()
        },
    );
    match error {
        CheckpointError::Note(NoteError::NotSigned(_)) => format!(
            "it is signed by {}, a key that neither the first event nor a rotation names",
            signers.join(", ")
        ),
        error => format!("it is no checkpoint of this ledger: {error}"),
    }
}

/// Tells why a note does not hold.
fn tell(rule: &'static Rule, fault: &Fault, stake: &[Amount], log: &Log, findings: &mut Findings) -> Root {
    let draft = |text: String| {
        let draft = match fault.seq {
            Some(seq) => Draft::new(rule, seq, text),
            None => Draft::of_file(rule, text),
        };
        draft.stake(stake.iter().copied())
    };
    match &fault.why {
        Why::NoKey => {
            let cause = findings.place_up_to(1);
            findings.add(draft("no first event names a key to check it with".into()), cause)
        }
        Why::Foreign(text) => {
            let cause = findings.place_at(1);
            findings.add(draft(text.clone()), cause)
        }
        Why::OtherSize(size) => {
            let wanted = fault.seq.unwrap_or(0);
            findings.add(
                draft(format!("it is stored for {wanted} events and speaks of {size}")),
                None,
            )
        }
        Why::CutOff(size) => {
            let text = format!(
                "it speaks of {size} events, the ledger holds {}: its end is cut off",
                log.count
            );
            let cause = findings.place_up_to(*size);
            let root = findings.add(draft(text), cause);
            findings.mark_place(log.count + 1, root);
            root
        }
        Why::OtherRoot(size) => {
            let cause = findings.place_up_to(*size);
            let text = format!("its root is not that of the first {size} events");
            let root = findings.add(draft(text), cause);
            findings.mark_place(*size, root);
            root
        }
    }
}

/// Compares a note from outside with the tree, after the walk. Gives the size that it covers, if it holds.
pub(crate) fn check_given(
    rule: &'static Rule,
    note: &str,
    stake: &[Amount],
    log: &Log,
    findings: &mut Findings,
) -> Option<u64> {
    match judge(note, None, log, |size| log.roots.get(&size).copied().flatten()) {
        Ok(size) => Some(size),
        Err(fault) => {
            tell(rule, &fault, stake, log, findings);
            None
        }
    }
}

/// The checkpoints that the ledger stores, compared while its events pass.
pub(crate) struct Stored<'a> {
    copy: &'a Copy,
    page: VecDeque<(i64, String)>,
    /// Where the next page begins; nothing after the last.
    next: Option<i64>,
    /// Checkpoints that hold.
    pub(crate) sound: u64,
    seen: bool,
    faults: Vec<Fault>,
    faults_untold: u64,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(copy: &'a Copy) -> Stored<'a> {
        Stored {
            copy,
            page: VecDeque::new(),
            next: Some(i64::MIN),
            sound: 0,
            seen: false,
            faults: Vec::new(),
            faults_untold: 0,
        }
    }

    fn first(&mut self) -> Result<Option<&(i64, String)>, CopyError> {
        if self.page.is_empty()
            && let Some(next) = self.next.take()
        {
            // Where a page cannot be read, none is asked for any more.
            self.page = self.copy.checkpoints_from(next, PAGE)?.into();
            let after = self.page.back().and_then(|(size, _)| size.checked_add(1));
            // In a damaged file sizes may come out of order; going back would never end.
            self.next = after.filter(|after| *after > next);
        }
        Ok(self.page.front())
    }

    /// Judges those up to the events read so far; to be called after each event.
    ///
    /// # Errors
    /// They cannot be read; said once.
    pub(crate) fn reach(&mut self, log: &Log) -> Result<(), CopyError> {
        while self
            .first()?
            .is_some_and(|(size, _)| u64::try_from(*size).unwrap_or(0) <= log.count)
        {
            self.judge_first(log);
        }
        Ok(())
    }

    fn judge_first(&mut self, log: &Log) {
        let Some((size, note)) = self.page.pop_front() else {
            return;
        };
        self.seen = true;
        let wanted = u64::try_from(size).unwrap_or(0);
        match judge(&note, Some(wanted), log, |_| Some(log.frontier.root())) {
            Ok(_) => self.sound += 1,
            Err(fault) if self.faults.len() < FAULTS_TOLD => self.faults.push(fault),
            Err(_) => self.faults_untold += 1,
        }
    }

    /// Tells of all that do not hold; at the ledger's end those that speak of more events than there are, too.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn end(
        mut self,
        is_whole: bool,
        log: &Log,
        findings: &mut Findings,
    ) -> Result<u64, CopyError> {
        let mut read = Ok(());
        if is_whole {
            while match self.first() {
                Ok(first) => first.is_some(),
                Err(error) => {
                    read = Err(error);
                    false
                }
            } {
                self.judge_first(log);
            }
        }
        let mut root = None;
        for fault in &self.faults {
            root = Some(tell(&rules::LOG_TREE, fault, &[], log, findings));
        }
        if self.faults_untold > 0 {
            let text = format!("{} more checkpoints do not hold", self.faults_untold);
            findings.add(Draft::of_file(&rules::LOG_TREE, text), root);
        }
        if !self.seen && read.is_ok() {
            findings.note(None, None, "the ledger holds no checkpoint");
        }
        read.map(|()| self.sound)
    }
}
