//! Rows in, rows out: the SQL of the ledger file. Each function is one statement or one walk; what belongs in a
//! transaction is the caller's to know. Checks nothing that the auditor checks.

use rusqlite::{Connection, OptionalExtension, params};

use quittance_taler::{CoinPub, Digest32, EddsaSignature, Micros};
use quittance_tlog::tree::Frontier;

use crate::book::Book;
use crate::event::{AttachmentName, Event, Facts};
use crate::facts::AbortCoinState;
use crate::ids::{InstanceId, OrderId, OrderKey, RefundId, Seq};
use crate::order::FoldError;
use crate::sale::Folded;
use crate::seal::{Salt, event_digest};

/// What can be wrong with a ledger file that is being read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own word.
    #[error("the ledger file cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A settings error.
    #[error(transparent)]
    Connect(#[from] crate::schema::ConnectError),
    /// A row that no ledger has.
    #[error("damaged ledger: {0}")]
    Damaged(String),
    /// Events that do not add up.
    #[error(transparent)]
    Fold(#[from] FoldError),
}

/// An event with its seal and attachments, ready to be stored.
#[derive(Debug, Clone)]
pub struct SealedEvent {
    /// The event.
    pub event: Event,
    /// Its canonical bytes.
    pub sealed: Vec<u8>,
    /// Their digest.
    pub digest: Digest32,
    /// The event key's signature.
    pub signature: EddsaSignature,
    /// Raw bytes behind it.
    pub attachments: Vec<(AttachmentName, Salt, Vec<u8>)>,
}

/// The end of the ledger: what the next event is chained to.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) size: Seq,
    pub(crate) digest: Digest32,
    pub(crate) frontier: Frontier,
    /// Greatest `at_us` since the last clock correction.
    pub(crate) greatest_at: Micros,
}

pub(crate) fn insert_event(conn: &Connection, sealed: &SealedEvent) -> rusqlite::Result<()> {
    let seq = sealed.event.seq.sql();
    conn.prepare_cached("INSERT INTO event (seq, sealed, signature) VALUES (?1, ?2, ?3)")?
        .execute(params![
            seq,
            sealed.sealed,
            sealed.signature.as_bytes().as_slice()
        ])?;
    for (name, salt, bytes) in &sealed.attachments {
        conn.prepare_cached("INSERT INTO attachment (seq, name, salt, bytes) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![seq, name.as_str(), salt.as_slice(), bytes])?;
    }
    if let Facts::AttachmentErased(f) = &sealed.event.facts {
        conn.prepare_cached("UPDATE attachment SET salt = NULL, bytes = NULL WHERE seq = ?1 AND name = ?2")?
            .execute(params![f.seq.sql(), f.name.as_str()])?;
    }
    index_event(conn, &sealed.event)
}

/// Brings indexes and open permissions up to an event. Uses nothing but the event's own facts, so that they can be
/// rebuilt from the events alone.
fn index_event(conn: &Connection, event: &Event) -> rusqlite::Result<()> {
    let seq = event.seq.sql();
    let Some(key) = event.order_key() else {
        conn.prepare_cached("INSERT INTO ledger_event (seq) VALUES (?1)")?
            .execute([seq])?;
        return Ok(());
    };
    let row = match order_row(conn, &key)? {
        Some(row) => row,
        None => conn
            .prepare_cached("INSERT INTO order_index (instance, order_id) VALUES (?1, ?2)")?
            .insert(params![key.instance.as_str(), key.order.as_str()])?,
    };
    conn.prepare_cached("INSERT INTO order_event (order_row, seq) VALUES (?1, ?2)")?
        .execute([row, seq])?;
    for (coin, id, opens) in permission_changes(&event.facts) {
        let statement = if opens {
            "INSERT OR IGNORE INTO open_permission (order_row, coin_pub, rtransaction_id) VALUES (?1, ?2, ?3)"
        } else {
            "DELETE FROM open_permission WHERE order_row = ?1 AND coin_pub = ?2 AND rtransaction_id = ?3"
        };
        conn.prepare_cached(statement)?
            .execute(params![row, coin.as_bytes().as_slice(), id.sql()])?;
    }
    Ok(())
}

/// Which permissions an event opens (true: from here on the background asks) or closes (false).
#[must_use]
pub fn permission_changes(facts: &Facts) -> Vec<(CoinPub, RefundId, bool)> {
    match facts {
        Facts::RefundRequested(f) => f
            .rows
            .iter()
            .map(|row| (row.coin_pub, row.rtransaction_id, true))
            .collect(),
        Facts::AbortRequested(f) => f
            .coins
            .iter()
            .filter(|coin| matches!(coin.state, AbortCoinState::Deposited | AbortCoinState::Asked))
            .map(|coin| (coin.coin_pub, RefundId::ABORT, true))
            .collect(),
        Facts::AbortExtended(f) => f
            .coins
            .iter()
            .map(|coin| (coin.coin_pub, RefundId::ABORT, true))
            .collect(),
        Facts::ExchangeReplied(f) if f.verdict.is_conclusive() => {
            vec![(f.coin_pub, f.rtransaction_id, false)]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn write_head(conn: &Connection, head: &Head) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO head (id, size, frontier, greatest_at_us) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET size = ?1, frontier = ?2, greatest_at_us = ?3",
    )?
    .execute(params![
        head.size.sql(),
        head.frontier.to_bytes(),
        micros_sql(head.greatest_at)
    ])?;
    Ok(())
}

/// Takes the head's row away and writes it again, which dirties its page and so makes the commit go to the disk: SQLite
/// skips an update that changes no byte.
pub(crate) fn rewrite_head(conn: &Connection, head: &Head) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM head WHERE id = 1", [])?;
    write_head(conn, head)
}

pub(crate) fn insert_checkpoint(conn: &Connection, size: Seq, note: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO checkpoint (size, note) VALUES (?1, ?2)")?
        .execute(params![size.sql(), note])?;
    Ok(())
}

pub(crate) fn checkpoint_at(conn: &Connection, size: u64) -> Result<Option<String>, StoreError> {
    let Ok(size) = i64::try_from(size) else {
        return Ok(None);
    };
    Ok(conn
        .prepare_cached("SELECT note FROM checkpoint WHERE size = ?1")?
        .query_row([size], |row| row.get(0))
        .optional()?)
}

/// How many events the latest checkpoint covers; 0 before the first.
pub(crate) fn checkpointed_size(conn: &Connection) -> Result<u64, StoreError> {
    let size: Option<i64> = conn
        .prepare_cached("SELECT max(size) FROM checkpoint")?
        .query_row([], |row| row.get(0))?;
    size.map_or(Ok(0), |size| seq_of(size).map(Seq::get))
}

pub(crate) fn latest_checkpoint(conn: &Connection) -> Result<Option<String>, StoreError> {
    Ok(conn
        .query_row(
            "SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?)
}

/// Reads the head row and checks it against the last event, so that a service never continues a file whose
/// projections were left behind.
pub(crate) fn read_head(conn: &Connection) -> Result<Head, StoreError> {
    let (size, frontier, greatest): (i64, Vec<u8>, i64) = conn
        .query_row(
            "SELECT size, frontier, greatest_at_us FROM head WHERE id = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?
        .ok_or_else(|| StoreError::Damaged("the head row is missing".into()))?;
    let last: Option<(i64, Vec<u8>)> = conn
        .query_row(
            "SELECT seq, sealed FROM event ORDER BY seq DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (last_seq, last_sealed) = last
        .ok_or_else(|| StoreError::Damaged("a ledger begins with its genesis, this one is empty".into()))?;
    if last_seq != size {
        return Err(StoreError::Damaged(format!(
            "the head says {size} events, the last one is {last_seq}"
        )));
    }
    let size = seq_of(size)?;
    let frontier = Frontier::from_bytes(size.get(), &frontier)
        .map_err(|e| StoreError::Damaged(format!("the head's tree: {e}")))?;
    let greatest_at = u64::try_from(greatest)
        .ok()
        .and_then(|us| Micros::new(us).ok())
        .ok_or_else(|| StoreError::Damaged(format!("the head's time {greatest}")))?;
    Ok(Head {
        size,
        digest: event_digest(&last_sealed),
        frontier,
        greatest_at,
    })
}

pub(crate) fn order_row(conn: &Connection, key: &OrderKey) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM order_index WHERE instance = ?1 AND order_id = ?2")?
        .query_row(params![key.instance.as_str(), key.order.as_str()], |row| {
            row.get(0)
        })
        .optional()
}

/// Folds an order from its events; `None` where the ledger does not have it. `book` knows which events are of which
/// format version: only a command that nothing runs beside raises it, so that it is as new as the file.
pub(crate) fn read_order(
    conn: &Connection,
    key: &OrderKey,
    book: &Book,
) -> Result<Option<Folded>, StoreError> {
    // One read transaction, so that the order is seen at one moment.
    let tx = conn.unchecked_transaction()?;
    let Some(row) = order_row(&tx, key)? else {
        return Ok(None);
    };
    let mut statement = tx.prepare_cached(
        "SELECT event.seq, event.sealed, attachment.bytes FROM order_event
         CROSS JOIN event ON event.seq = order_event.seq
         LEFT JOIN attachment ON attachment.seq = event.seq AND attachment.name = 'reply'
         WHERE order_row = ?1 ORDER BY order_event.seq",
    )?;
    let mut rows = statement.query([row])?;
    let mut order: Option<Folded> = None;
    while let Some(row) = rows.next()? {
        let sealed = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let reply = row.get_ref(2)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let event = parse_stored(row.get(0)?, sealed)?;
        check_version(&event, book)?;
        match &mut order {
            None => order = Some(Folded::begin(&event)?),
            Some(order) => order.apply(&event, &event_digest(sealed), reply)?,
        }
    }
    Ok(order)
}

/// Refuses an event of another version than its place in the ledger has.
pub(crate) fn check_version(event: &Event, book: &Book) -> Result<(), StoreError> {
    let expected = book.version_at(event.seq);
    if event.version == expected {
        return Ok(());
    }
    let (seq, found) = (event.seq, event.version);
    Err(StoreError::Damaged(format!(
        "event {seq} is of format version {found}, the ledger is at {expected} there"
    )))
}

/// One event, where the ledger has it.
pub(crate) fn read_event(conn: &Connection, seq: Seq) -> Result<Option<Event>, StoreError> {
    let sealed: Option<Vec<u8>> = conn
        .query_row("SELECT sealed FROM event WHERE seq = ?1", [seq.sql()], |row| {
            row.get(0)
        })
        .optional()?;
    sealed.map(|sealed| parse_stored(seq.sql(), &sealed)).transpose()
}

/// An attachment's bytes; `None` where there is none or they are erased.
pub(crate) fn read_attachment(
    conn: &Connection,
    seq: Seq,
    name: AttachmentName,
) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = conn
        .prepare_cached("SELECT bytes FROM attachment WHERE seq = ?1 AND name = ?2")?
        .query_row(params![seq.sql(), name.as_str()], |row| row.get(0))
        .optional()?;
    Ok(bytes.flatten())
}

/// Walks the events that belong to no order: genesis, instances, keys, erasures, clock corrections.
pub(crate) fn read_ledger_events(conn: &Connection) -> Result<Vec<Event>, StoreError> {
    let mut statement = conn.prepare(
        // CROSS JOIN keeps SQLite from walking all events and asking of each whether it is one of the few.
        "SELECT event.seq, event.sealed FROM ledger_event CROSS JOIN event ON event.seq = ledger_event.seq
         ORDER BY ledger_event.seq",
    )?;
    let mut rows = statement.query([])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(parse_stored(
            row.get(0)?,
            row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(events)
}

/// All permissions that may have been sent and are not decided.
pub(crate) fn read_open_permissions(
    conn: &Connection,
) -> Result<Vec<(OrderKey, CoinPub, RefundId)>, StoreError> {
    let mut statement = conn.prepare(
        "SELECT instance, order_id, coin_pub, rtransaction_id FROM open_permission
         JOIN order_index ON order_index.id = order_row ORDER BY order_row, coin_pub, rtransaction_id",
    )?;
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let key = order_key(row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str())?;
        let coin_bytes: Vec<u8> = row.get(2)?;
        let coin_bytes = <[u8; 32]>::try_from(coin_bytes)
            .map_err(|_| StoreError::Damaged("an open permission's coin".into()))?;
        let id: i64 = row.get(3)?;
        let id = u64::try_from(id)
            .ok()
            .and_then(|id| RefundId::new(id).ok())
            .ok_or_else(|| StoreError::Damaged(format!("an open permission's id {id}")))?;
        open.push((key, CoinPub::from_bytes(coin_bytes), id));
    }
    Ok(open)
}

/// Reads an index row's names.
pub(crate) fn order_key(
    instance: Result<&str, rusqlite::types::FromSqlError>,
    order: Result<&str, rusqlite::types::FromSqlError>,
) -> Result<OrderKey, StoreError> {
    let damaged = |what: &dyn std::fmt::Display| StoreError::Damaged(format!("order index: {what}"));
    let instance: InstanceId = instance
        .map_err(|e| damaged(&e))?
        .parse()
        .map_err(|e| damaged(&e))?;
    let order: OrderId = order.map_err(|e| damaged(&e))?.parse().map_err(|e| damaged(&e))?;
    Ok(OrderKey { instance, order })
}

pub(crate) fn parse_stored(seq: i64, sealed: &[u8]) -> Result<Event, StoreError> {
    let event = Event::parse(sealed).map_err(|e| StoreError::Damaged(format!("event {seq}: {e}")))?;
    if event.seq.sql() != seq {
        return Err(StoreError::Damaged(format!(
            "event {seq} says that it is {}",
            event.seq
        )));
    }
    Ok(event)
}

pub(crate) fn seq_of(value: i64) -> Result<Seq, StoreError> {
    u64::try_from(value)
        .ok()
        .and_then(|value| Seq::new(value).ok())
        .ok_or_else(|| StoreError::Damaged(format!("sequence number {value}")))
}

pub(crate) fn micros_sql(time: Micros) -> i64 {
    i64::try_from(time.get()).expect("microseconds are below 2^53")
}
