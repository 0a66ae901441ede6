//! Every bound of this crate in one place, each with its reason.

use std::time::Duration;

/// Appends that may wait for the writer at once. A longer queue would only hide a dead disk; past it callers wait.
pub const QUEUE_MAX: usize = 1024;

/// Appends in one commit. Group commit gains little beyond this, and a batch's latency stays in the milliseconds.
pub const BATCH_MAX: usize = 256;

/// From this many events on, a batch's signatures are made on two cores: below, starting a thread costs more.
pub const PARALLEL_SIGN_MIN: usize = 8;

/// Orders kept folded in memory. An order of one coin takes about 2 KiB; one of 512 coins a few hundred.
pub const ORDERS_CACHED_MAX: usize = 1024;

/// Receipts kept, so that a wallet that asks again costs no signature.
pub const RECEIPTS_CACHED_MAX: usize = 8192;

/// Roots of full hash tiles kept, so that a tile or proof at the tree's right edge does not hash the same 65,280 leaves
/// each time: at most 255 of each of the 7 levels below the top are asked for at once.
pub const TILE_ROOTS_CACHED_MAX: usize = 2048;

/// Read-only connections kept open.
pub const READERS_MAX: usize = 4;

/// Checkpoints are signed at most this often: the anchor costs two flushes.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a vain try to take erased bytes out of the WAL the next one is made, if no commit comes before: readers
/// are done in milliseconds, but for an auditor's tool, which reads for as long as it takes.
pub const WAL_RETRY: Duration = Duration::from_secs(1);

/// A commit, or a checkpoint with its anchor, that takes longer than this hangs: they take milliseconds, and a disk
/// that is merely busy a second.
pub const COMMIT_STALLED: Duration = Duration::from_secs(10);

/// After a failed commit, a probe is made at most this often however many ask: each costs a flush.
pub const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// How long, in event time, checkpoints bear the old checkpoint key's signature beside the new one's: monitors and
/// witnesses that pinned the old key get a month to learn of the new one.
pub const CHECKPOINT_KEYS_OVERLAP_S: u64 = 30 * 86_400;

/// Bytes of one sample of an erased attachment that is searched for in the ledger's files: long enough to stand nowhere
/// by chance.
pub const ERASED_SAMPLE_BYTES: usize = 32;

/// A shorter text than a sample is searched for as a whole from this length on; a shorter one may stand anywhere, and
/// the salt before it tells.
pub const ERASED_SAMPLE_MIN: usize = 16;

/// Samples of one erased attachment: each is compared with the whole ledger.
pub const ERASED_SAMPLES_MAX: usize = 16;

/// How far an event's time may lie below the greatest so far, in seconds: small clock steps are normal, larger
/// ones make execution times worthless and need the operator's word.
pub const CLOCK_BACK_MAX_S: u64 = 60;
