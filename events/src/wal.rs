//! Takes erased bytes out of the WAL while the ledger is served: the commit that erases them has SQLite overwrite them in
//! the file, but the pages as they were before stay in the WAL until it is emptied. That waits for nobody who reads.

use crate::schema;
use crate::writer::Writer;

/// What the WAL may still have beside events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wal {
    /// Nothing.
    Clean,
    /// Bytes that were erased.
    MayHoldErased,
    /// The same, and the log says why it could not be emptied.
    Told,
}

impl Writer {
    /// Takes what was erased out of the WAL, too. Where somebody reads the ledger just now, the next commit tries again,
    /// or the next idle moment.
    pub(crate) fn clear_wal(&mut self) {
        if self.wal == Wal::Clean {
            return;
        }
        self.shared.condition.begin();
        let truncated = schema::try_truncate_wal(&self.conn);
        self.shared.condition.end();
        match truncated {
            Ok(()) => self.wal = Wal::Clean,
            Err(_) if self.wal == Wal::Told => {}
            Err(error) => {
                tracing::warn!(%error, "the WAL may hold erased bytes until nobody reads the ledger");
                self.wal = Wal::Told;
            }
        }
    }
}
