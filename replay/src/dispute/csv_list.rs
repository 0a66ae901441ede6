//! Refunds and aborts as a table for accountants: one line a permission. Plain numbers and dates, and no cell that a
//! spreadsheet would run as a formula. Says what is recorded and judges nothing.

use quittance_events::OrderKey;
use quittance_taler::Micros;

use crate::story::second;

use super::permissions::{Permission, Permissions};
use super::report::{Outcome, PermissionSource};

/// The first line.
pub(crate) const COLUMNS: [&str; 17] = [
    "instance",
    "order",
    "source",
    "coin_pub",
    "rtransaction_id",
    "currency",
    "amount",
    "granted_at",
    "granted_event",
    "granted_by",
    "execution_time",
    "asked_at",
    "outcome",
    "decided_at",
    "decided_event",
    "confirmed_by",
    "exchange_master_pub",
];

/// A table being written.
pub(crate) struct Table(csv::Writer<Vec<u8>>);

impl Table {
    pub(crate) fn new() -> Result<Table, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(COLUMNS)?;
        Ok(Table(writer))
    }

    pub(crate) fn line(
        &mut self,
        key: &OrderKey,
        permission: &Permission,
        of: &Permissions,
    ) -> Result<(), csv::Error> {
        let text = |number: u64| number.to_string();
        let amount = permission.amount.to_string();
        let (currency, number) = amount.split_once(':').unwrap_or(("", &amount));
        let decided = permission.decided;
        let cells = [
            key.instance.to_string(),
            key.order.to_string(),
            source(permission.source).to_owned(),
            permission.coin.to_string(),
            permission.id.to_string(),
            currency.to_owned(),
            number.to_owned(),
            at(permission.granted_at),
            text(permission.granted_seq),
            permission
                .by
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            permission.execution_s.map(second).unwrap_or_default(),
            permission.asked_at.map(at).unwrap_or_default(),
            outcome(permission.outcome()).to_owned(),
            decided.map(|decided| at(decided.at)).unwrap_or_default(),
            decided.map(|decided| text(decided.seq)).unwrap_or_default(),
            decided
                .and_then(|decided| decided.confirmed_by)
                .map(|key| key.to_string())
                .unwrap_or_default(),
            of.exchange
                .get(&permission.coin)
                .map(ToString::to_string)
                .unwrap_or_default(),
        ];
        self.0.write_record(cells.map(harmless))
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, csv::Error> {
        self.0.into_inner().map_err(|e| csv::Error::from(e.into_error()))
    }
}

/// The table of one order.
pub(crate) fn of_order(key: &OrderKey, permissions: &Permissions) -> Result<Vec<u8>, csv::Error> {
    let mut table = Table::new()?;
    for permission in &permissions.list {
        table.line(key, permission, permissions)?;
    }
    table.finish()
}

/// To the second: what spreadsheets read as a time.
fn at(time: Micros) -> String {
    second(time.floor_s())
}

fn source(source: PermissionSource) -> &'static str {
    match source {
        PermissionSource::Approval => "refund",
        PermissionSource::CarriedIn => "refund carried in",
        PermissionSource::Abort => "abort",
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Confirmed => "confirmed",
        Outcome::Refused => "refused",
        Outcome::Open => "open",
        Outcome::NotAsked => "not asked",
    }
}

/// Spreadsheets run cells that begin so; an apostrophe before makes them text.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{cell}")
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_would_run_are_text() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"] {
            assert_eq!(harmless(cell.to_owned()), format!("'{cell}"));
        }
        for cell in ["", "a=b", "1.5", "2026.325-01"] {
            assert_eq!(harmless(cell.to_owned()), cell);
        }
    }
}
