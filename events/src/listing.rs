//! Walking the orders of an instance in the order in which they first came. Reads a bounded piece at a time and says
//! where to go on; which orders are wanted is for the caller to say.

use std::ops::ControlFlow;

use rusqlite::{Connection, params};

use crate::ids::{InstanceId, OrderId, OrderKey};
use crate::ledger::Ledger;
use crate::sale::Folded;
use crate::store::{self, StoreError};

/// A piece of the walk.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Only rows below this one, newest first, or above it, oldest first.
    pub beyond: Option<u64>,
    /// Backwards in time.
    pub newest_first: bool,
    /// Rows of all instances that are passed at most.
    pub rows_max: u64,
    /// Orders of the instance that are folded at most.
    pub orders_max: u64,
}

/// Orders with their rows, and the row beyond which the next piece begins; none where nothing is there.
type Rows = (Vec<(u64, OrderKey)>, Option<u64>);

/// The instance's rows of a piece.
fn rows(conn: &Connection, instance: &InstanceId, piece: Piece) -> Result<Rows, StoreError> {
    let Piece {
        beyond,
        newest_first,
        rows_max,
        orders_max,
    } = piece;
    let sql = |row: u64| i64::try_from(row).unwrap_or(i64::MAX);
    let unsigned = |row: i64| {
        u64::try_from(row).map_err(|_| StoreError::Damaged(format!("row {row} of the order index")))
    };
    let last: Option<i64> = conn
        .prepare_cached("SELECT max(id) FROM order_index")?
        .query_row([], |row| row.get(0))?;
    let last = last.map_or(Ok(0), unsigned)?;
    // Ids grow by one with each order, so that a range of them bounds the rows.
    let (first, end) = if newest_first {
        let end = beyond.unwrap_or(u64::MAX).min(last + 1);
        (end.saturating_sub(rows_max), end)
    } else {
        let first = beyond.unwrap_or(0).saturating_add(1);
        (first, first.saturating_add(rows_max).min(last + 1))
    };
    let direction = if newest_first { "DESC" } else { "ASC" };
    // The plus keeps SQLite from walking all orders of the instance by name.
    let mut statement = conn.prepare_cached(&format!(
        "SELECT id, order_id FROM order_index WHERE id >= ?1 AND id < ?2 AND +instance = ?3
         ORDER BY id {direction} LIMIT ?4"
    ))?;
    let mut found = statement.query(params![sql(first), sql(end), instance.as_str(), sql(orders_max)])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let order: String = row.get(1)?;
        let order: OrderId = order
            .parse()
            .map_err(|e| StoreError::Damaged(format!("order index: {e}")))?;
        let key = OrderKey {
            instance: instance.clone(),
            order,
        };
        rows.push((unsigned(row.get(0)?)?, key));
    }
    let is_cut = u64::try_from(rows.len()).is_ok_and(|count| count == orders_max);
    let next = match (is_cut, rows.last(), newest_first) {
        (true, Some((row, _)), _) => Some(*row),
        (_, _, true) => (first > 1).then_some(first),
        (_, _, false) => (end <= last).then(|| end.saturating_sub(1)),
    };
    Ok((rows, next))
}

impl Ledger {
    /// Gives orders of the instance to `take`, with their rows, until it breaks. Gives the row beyond which the walk goes
    /// on where the piece ended before the orders did. Blocks on the disk; what it reads is not kept in memory.
    ///
    /// # Errors
    /// The file cannot be read or its events do not add up.
    pub fn walk_orders(
        &self,
        instance: &InstanceId,
        piece: Piece,
        mut take: impl FnMut(u64, &OrderKey, &Folded) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<Option<u64>, StoreError> {
        let (rows, next) = self.read(|conn| rows(conn, instance, piece))?;
        for (row, key) in rows {
            let folded = match self.peeked(&key) {
                Some(folded) => Some(folded),
                None => self.read(|conn| store::read_order(conn, &key, &self.book()))?,
            };
            let folded = folded.ok_or_else(|| StoreError::Damaged(format!("order {key} has no events")))?;
            if take(row, &key, &folded)?.is_break() {
                return Ok(None);
            }
        }
        Ok(next)
    }
}
