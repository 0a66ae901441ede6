//! What the writer counts as it goes, for whoever watches the service: plain numbers, in no format of any monitoring
//! system, kept by this process alone and lost with it. Nothing is decided on them. They name no order.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::append::AppendError;
use crate::condition::Trouble;
use crate::ids::Seq;

/// Upper bounds of batch sizes, in events. Appends of one commit are bounded, events of one append less tightly.
const BATCH_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// Upper bounds of commit times, in microseconds: a good disk's flush is the first, a failing one's the last.
const TIME_BOUNDS_US: [u64; 11] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
];

/// How often values fell between bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bounds, each included.
    pub bounds: &'static [u64],
    /// Values up to each bound and above the one before; last, those above all bounds.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: u64,
}

/// The writer's figures at one moment. Counts are since the ledger was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Events in the ledger.
    pub events: u64,
    /// Events that the last stored checkpoint covers.
    pub checkpointed: u64,
    /// Events that the anchor speaks of.
    pub anchored: u64,
    /// Since the last checkpoint was signed, or the ledger opened.
    pub checkpoint_age: Duration,
    /// For how long there have been events that the anchor does not speak of; zero where there are none.
    pub unanchored_for: Duration,
    /// Events of each commit.
    pub batches: Distribution,
    /// Microseconds that each commit took, from signing to the last flush.
    pub commits_us: Distribution,
    /// Commits that failed.
    pub commit_failures: u64,
    /// Checkpoints that could not be stored.
    pub checkpoint_failures: u64,
    /// Times that the anchor could not be moved.
    pub anchor_failures: u64,
    /// Appends whose order had moved on; they are decided again.
    pub moved: u64,
    /// Appends that were refused because of the clock.
    pub clock_behind: u64,
    /// Appends that were refused for another reason.
    pub unfit: u64,
    /// Appends that wait for the writer.
    pub waiting: usize,
    /// What is wrong, as far as the last tries tell.
    pub trouble: Option<Trouble>,
}

struct Tally<const BOUNDS: usize> {
    bounds: &'static [u64; BOUNDS],
    counts: [AtomicU64; BOUNDS],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const BOUNDS: usize> Tally<BOUNDS> {
    fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Tally {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::default()),
            above: AtomicU64::default(),
            sum: AtomicU64::default(),
        }
    }

    fn add(&self, value: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        place
            .map_or(&self.above, |place| &self.counts[place])
            .fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn read(&self) -> Distribution {
        let counts = self.counts.iter().chain([&self.above]);
        Distribution {
            bounds: self.bounds,
            counts: counts.map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// Where the writer counts; everybody else reads a [`Snapshot`].
pub(crate) struct Stats {
    opened: Instant,
    events: AtomicU64,
    checkpointed: AtomicU64,
    anchored: AtomicU64,
    /// Microseconds after `opened`.
    checkpointed_at: AtomicU64,
    /// Microseconds after `opened`; counts only while `anchored` is below `events`.
    unanchored_since: AtomicU64,
    batches: Tally<{ BATCH_BOUNDS.len() }>,
    commits_us: Tally<{ TIME_BOUNDS_US.len() }>,
    commit_failures: AtomicU64,
    checkpoint_failures: AtomicU64,
    anchor_failures: AtomicU64,
    moved: AtomicU64,
    clock_behind: AtomicU64,
    unfit: AtomicU64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Stats {
    pub(crate) fn new() -> Stats {
        let zero = AtomicU64::default;
        Stats {
            opened: Instant::now(),
            events: zero(),
            checkpointed: zero(),
            anchored: zero(),
            checkpointed_at: zero(),
            unanchored_since: zero(),
            batches: Tally::new(&BATCH_BOUNDS),
            commits_us: Tally::new(&TIME_BOUNDS_US),
            commit_failures: zero(),
            checkpoint_failures: zero(),
            anchor_failures: zero(),
            moved: zero(),
            clock_behind: zero(),
            unfit: zero(),
        }
    }

    /// The ledger as it was opened.
    pub(crate) fn begin(&self, events: Seq, checkpointed: Seq, anchored: Seq) {
        self.events.store(events.get(), Relaxed);
        self.checkpointed.store(checkpointed.get(), Relaxed);
        self.anchored.store(anchored.get(), Relaxed);
    }

    pub(crate) fn committed(&self, events: usize, took: Duration) {
        self.batches.add(u64::try_from(events).unwrap_or(u64::MAX));
        self.commits_us.add(micros(took));
    }

    /// The ledger has this many events by now.
    pub(crate) fn grown(&self, events: Seq) {
        if self.events.load(Relaxed) == self.anchored.load(Relaxed) {
            self.unanchored_since
                .store(micros(self.opened.elapsed()), Relaxed);
        }
        self.events.store(events.get(), Relaxed);
    }

    pub(crate) fn commit_failed(&self) {
        self.commit_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self, error: &AppendError) {
        let counter = match error {
            AppendError::Moved => &self.moved,
            AppendError::ClockBehind { .. } => &self.clock_behind,
            _ => &self.unfit,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn checkpointed(&self, size: Seq) {
        self.checkpointed.store(size.get(), Relaxed);
        self.checkpointed_at.store(micros(self.opened.elapsed()), Relaxed);
    }

    pub(crate) fn checkpoint_failed(&self) {
        self.checkpoint_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn anchored(&self, size: Seq) {
        self.anchored.store(size.get(), Relaxed);
    }

    pub(crate) fn anchor_failed(&self) {
        self.anchor_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self, waiting: usize, trouble: Option<Trouble>) -> Snapshot {
        let since = |at: &AtomicU64| {
            let at = Duration::from_micros(at.load(Relaxed));
            self.opened.elapsed().saturating_sub(at)
        };
        // Read before `events`, which only grows: what is anchored meanwhile is not told as missing.
        let (checkpointed, anchored) = (self.checkpointed.load(Relaxed), self.anchored.load(Relaxed));
        let events = self.events.load(Relaxed);
        Snapshot {
            events,
            checkpointed,
            anchored,
            checkpoint_age: since(&self.checkpointed_at),
            unanchored_for: if anchored < events {
                since(&self.unanchored_since)
            } else {
                Duration::ZERO
            },
            batches: self.batches.read(),
            commits_us: self.commits_us.read(),
            commit_failures: self.commit_failures.load(Relaxed),
            checkpoint_failures: self.checkpoint_failures.load(Relaxed),
            anchor_failures: self.anchor_failures.load(Relaxed),
            moved: self.moved.load(Relaxed),
            clock_behind: self.clock_behind.load(Relaxed),
            unfit: self.unfit.load(Relaxed),
            waiting,
            trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn values_are_counted_at_the_first_bound_that_holds_them() {
        let tally = Tally::new(&BATCH_BOUNDS);
        for value in [1, 1, 3, 4, 512, 513, 10_000] {
            tally.add(value);
        }
        let read = tally.read();
        assert_eq!(read.counts, [2, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(read.sum, 11_034);
        assert_eq!(read.bounds.len() + 1, read.counts.len());
    }

    #[test]
    fn what_the_anchor_lacks_has_an_age_until_it_is_moved() {
        let seq = |size| Seq::new(size).unwrap();
        let stats = Stats::new();
        stats.begin(seq(3), seq(3), seq(3));
        assert_eq!(stats.read(0, None).unanchored_for, Duration::ZERO);
        stats.grown(seq(4));
        let first = stats.unanchored_since.load(Relaxed);
        stats.anchor_failed();
        stats.grown(seq(5));
        assert_eq!(stats.unanchored_since.load(Relaxed), first);
        let read = stats.read(2, None);
        assert_eq!((read.events, read.anchored, read.waiting), (5, 3, 2));
        assert_eq!(read.anchor_failures, 1);
        stats.anchored(seq(5));
        assert_eq!(stats.read(0, None).unanchored_for, Duration::ZERO);
    }
}
