//! How much room the ledger's file system has. Below a reserve nothing new is taken on, so that what is open can still
//! be settled, answered and anchored while the operator makes room. It frees nothing and watches no other disk.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quittance_events::Facts;

use crate::limits::DISK_ASK_EVERY;

/// Tells how many bytes this process may still write. Tests bring their own.
pub type Free = Arc<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// Bytes free on the file system that `path` is on.
#[must_use]
pub fn free_at(path: &Path) -> Free {
    let path = path.to_owned();
    Arc::new(move || {
        let told = rustix::fs::statvfs(&path)?;
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    })
}

/// Whether an event takes on what was not there before, rather than settling or answering what was.
#[must_use]
pub fn takes_on(facts: &Facts) -> bool {
    matches!(
        facts,
        Facts::OrderRecorded(_)
            | Facts::DepositRecorded(_)
            | Facts::PaymentCompleted(_)
            | Facts::RefundCarriedIn(_)
            | Facts::RefundApproved(_)
            | Facts::AbortRequested(_)
            | Facts::AbortExtended(_)
            | Facts::AbortRefused(_)
            | Facts::InstanceAdded(_)
            | Facts::AccountAdded(_)
            | Facts::OrderCreated(_)
            | Facts::DepositRequested(_)
    )
}

struct State {
    free: Free,
    asked: Option<Instant>,
    is_low: bool,
    /// The file system gave no answer the last time, and the log says so.
    unknown: bool,
}

/// The ledger's disk.
pub struct Disk {
    reserve: u64,
    state: Mutex<State>,
}

impl Disk {
    /// With a reserve in bytes.
    #[must_use]
    pub fn new(reserve: u64, free: Free) -> Disk {
        let state = State {
            free,
            asked: None,
            is_low: false,
            unknown: false,
        };
        Disk {
            reserve,
            state: Mutex::new(state),
        }
    }

    /// Takes this for the truth from now on.
    pub fn measure_by(&self, free: Free) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free = free;
        state.asked = None;
    }

    /// Whether less than the reserve is free. The file system is asked once a second at most.
    pub fn is_low(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.asked.is_some_and(|asked| asked.elapsed() < DISK_ASK_EVERY) {
            return state.is_low;
        }
        state.asked = Some(Instant::now());
        let free = match (state.free)() {
            Ok(free) => free,
            Err(error) => {
                if !state.unknown {
                    tracing::error!(%error, "the file system does not tell how much is free; its reserve is not kept");
                }
                state.unknown = true;
                // A commit that finds no room is refused anyway, with nothing half-done.
                state.is_low = false;
                return false;
            }
        };
        let is_low = free < self.reserve;
        match (state.is_low, is_low) {
            (false, true) => tracing::error!(
                free,
                reserve = self.reserve,
                "the disk is nearly full: nothing new is taken on"
            ),
            (true, false) => tracing::info!(free, "the disk has room again"),
            _ => {}
        }
        state.unknown = false;
        state.is_low = is_low;
        is_low
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn it_is_low_below_the_reserve_and_asked_once_a_second() {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let disk = Disk::new(
            100,
            Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(99)
            }),
        );
        let begun = Instant::now();
        for _ in 0..1000 {
            assert!(disk.is_low());
        }
        let most = begun.elapsed().as_secs() + 1;
        assert!(asked.load(Ordering::SeqCst) <= most);
        disk.measure_by(Arc::new(|| Ok(100)));
        assert!(!disk.is_low());
    }

    #[test]
    fn a_file_system_that_does_not_tell_refuses_nothing() {
        let disk = Disk::new(100, Arc::new(|| Err(io::Error::other("gone"))));
        assert!(!disk.is_low());
    }

    #[test]
    fn a_real_file_system_has_some_room() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_at(folder.path())().unwrap() > 0);
        free_at(&folder.path().join("missing"))().unwrap_err();
    }
}
