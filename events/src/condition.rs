//! Whether the ledger can record, as far as the writer's last tries tell. It is the writer's word and not a guess from
//! free space or file modes: what failed counts as failing until a later try succeeds.

use std::sync::Mutex;
use std::time::Instant;

use crate::cache::lock;
use crate::limits::{COMMIT_STALLED, PROBE_PAUSE};

/// Why nothing can be recorded, or what is recorded is not safe from being cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The writer thread has ended, or the ledger is closed.
    WriterGone,
    /// The writer is in one commit, or checkpoint, for longer than any disk that is well takes.
    Stalled,
    /// The last commit failed, and no later one or probe succeeded.
    CannotCommit,
    /// The ledger records, but the anchor could not be moved up to the last checkpoint.
    AnchorNotMoved,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 4] = [
        Trouble::WriterGone,
        Trouble::Stalled,
        Trouble::CannotCommit,
        Trouble::AnchorNotMoved,
    ];

    /// The one word by which monitors know it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Trouble::WriterGone => "ledger_writer_gone",
            Trouble::Stalled => "ledger_stalled",
            Trouble::CannotCommit => "ledger_cannot_commit",
            Trouble::AnchorNotMoved => "anchor_not_moved",
        }
    }
}

#[derive(Default)]
struct State {
    commit_failed: bool,
    anchor_failed: bool,
    /// Since when the writer is at the disk.
    busy_since: Option<Instant>,
    probed: Option<Instant>,
}

/// What the writer tells of its tries.
#[derive(Default)]
pub(crate) struct Condition(Mutex<State>);

impl Condition {
    /// The writer turns to the disk.
    pub(crate) fn begin(&self) {
        lock(&self.0).busy_since = Some(Instant::now());
    }

    /// It is back; it waits for what comes next.
    pub(crate) fn end(&self) {
        lock(&self.0).busy_since = None;
    }

    pub(crate) fn committed(&self, succeeded: bool) {
        lock(&self.0).commit_failed = !succeeded;
    }

    pub(crate) fn anchored(&self, succeeded: bool) {
        lock(&self.0).anchor_failed = !succeeded;
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let state = lock(&self.0);
        let stalled = |since: Instant| since.elapsed() >= COMMIT_STALLED;
        if state.busy_since.is_some_and(stalled) {
            Some(Trouble::Stalled)
        } else if state.commit_failed {
            Some(Trouble::CannotCommit)
        } else if state.anchor_failed {
            Some(Trouble::AnchorNotMoved)
        } else {
            None
        }
    }

    /// Whether it is time to try again; who is told so tries.
    pub(crate) fn take_probe(&self) -> bool {
        let mut state = lock(&self.0);
        let due = state.probed.is_none_or(|probed| probed.elapsed() >= PROBE_PAUSE);
        if due {
            state.probed = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_in_trouble_until_it_succeeds() {
        let condition = Condition::default();
        assert_eq!(condition.trouble(), None);
        condition.anchored(false);
        assert_eq!(condition.trouble(), Some(Trouble::AnchorNotMoved));
        condition.committed(false);
        assert_eq!(condition.trouble(), Some(Trouble::CannotCommit));
        condition.committed(true);
        condition.anchored(true);
        assert_eq!(condition.trouble(), None);
    }

    #[test]
    fn a_commit_without_end_is_a_stall() {
        let condition = Condition::default();
        condition.begin();
        assert_eq!(condition.trouble(), None);
        lock(&condition.0).busy_since = Instant::now().checked_sub(COMMIT_STALLED);
        assert_eq!(condition.trouble(), Some(Trouble::Stalled));
        condition.end();
        assert_eq!(condition.trouble(), None);
    }

    #[test]
    fn one_caller_in_a_second_probes() {
        let condition = Condition::default();
        assert!(condition.take_probe());
        assert!(!condition.take_probe());
        lock(&condition.0).probed = Instant::now().checked_sub(PROBE_PAUSE);
        assert!(condition.take_probe());
    }
}
