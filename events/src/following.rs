//! Reading what was recorded lately, for those who act on it afterwards: events of a few kinds, in order, a bounded
//! piece at a time. Nothing is kept for it in the file; whoever follows remembers how far he has come.

use rusqlite::{Connection, params_from_iter, types::Value};

use quittance_taler::Micros;

use crate::event::Event;
use crate::ids::Seq;
use crate::ledger::Ledger;
use crate::store::{self, StoreError, seq_of};

fn events_of_kinds(
    conn: &Connection,
    after: Seq,
    most: u64,
    kinds: &[&str],
) -> Result<(Vec<Event>, Seq), StoreError> {
    // One read transaction, so that events and end are those of one moment.
    let tx = conn.unchecked_transaction()?;
    let last: Option<i64> = tx
        .prepare_cached("SELECT max(seq) FROM event")?
        .query_row([], |row| row.get(0))?;
    let last = seq_of(last.unwrap_or(0))?;
    let end = Seq::new(after.get().saturating_add(most)).map_or(last, |end| end.min(last));
    // Canonical JSON has this member in one form. Were it a text within another, the event's own kind would tell.
    let forms = kinds
        .iter()
        .map(|kind| Value::Blob(format!("\"kind\":\"{kind}\"").into_bytes()));
    let condition = vec!["instr(sealed, ?) > 0"; kinds.len()].join(" OR ");
    let mut statement = tx.prepare_cached(&format!(
        "SELECT seq, sealed FROM event WHERE seq > ? AND seq <= ? AND ({condition}) ORDER BY seq"
    ))?;
    let bounds = [Value::Integer(after.sql()), Value::Integer(end.sql())];
    let mut rows = statement.query(params_from_iter(bounds.into_iter().chain(forms)))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let sealed = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let event = store::parse_stored(row.get(0)?, sealed)?;
        if kinds.contains(&event.facts.kind()) {
            events.push(event);
        }
    }
    Ok((events, end.max(after)))
}

impl Ledger {
    /// The events of these kinds among the `most` that follow `after`, and the last that was looked at. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn events_of_kinds(
        &self,
        after: Seq,
        most: u64,
        kinds: &[&str],
    ) -> Result<(Vec<Event>, Seq), StoreError> {
        self.read(|conn| events_of_kinds(conn, after, most, kinds))
    }

    /// The event before the first that may have been recorded at or after `from`, found by looking at one event in
    /// `stride`; [`Seq::NONE`] where all may. What a successor carried in from its predecessor is always before it. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn before(&self, from: Micros, stride: u64) -> Result<Seq, StoreError> {
        self.read(|conn| {
            let carried_in = match store::read_event(conn, Seq::FIRST)? {
                Some(Event {
                    facts: crate::Facts::LedgerOpened(f),
                    at_us,
                    ..
                }) if f.predecessor.is_some() => Some(at_us),
                _ => None,
            };
            let last: Option<i64> = conn.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
            let mut seq = seq_of(last.unwrap_or(0))?;
            while let Some(event) = store::read_event(conn, seq)? {
                if event.at_us < from || carried_in.is_some_and(|at| event.at_us <= at) {
                    return Ok(seq);
                }
                seq = Seq::new(seq.get().saturating_sub(stride)).unwrap_or(Seq::NONE);
            }
            Ok(Seq::NONE)
        })
    }
}
