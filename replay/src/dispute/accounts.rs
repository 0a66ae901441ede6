//! The accountant's list: all refunds and aborts that were granted in a span of days, one line a permission, with what
//! became of each up to the ledger's end.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use quittance_events::copy::CopyError;
use quittance_events::{Event, OrderKey};
use quittance_taler::Micros;

use crate::open::{self, Opened};
use crate::{VerifyOptions, verify};

use super::csv_list::Table;
use super::export::{ExportError, Still};
use super::permissions::Permissions;

/// What to list.
#[derive(Debug, Clone)]
pub struct AccountsOptions {
    /// The ledger, its anchor and its key, for the audit that comes first.
    pub verify: VerifyOptions,
    /// The first day, in UTC.
    pub from: NaiveDate,
    /// The last day, itself included.
    pub to: NaiveDate,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// As CSV (RFC 4180), the first line naming the columns.
    pub csv: Vec<u8>,
    /// Permissions in it.
    pub lines: usize,
    /// Findings of the audit. Where there are any, the list is only what the ledger claims.
    pub findings: usize,
}

/// Makes the list.
///
/// # Errors
/// See [`ExportError`].
pub fn accounts(options: &AccountsOptions) -> Result<Accounts, ExportError> {
    let still = Still::of(&options.verify.ledger)?;
    let audited = verify(&VerifyOptions {
        ledger: still.path.clone(),
        ..options.verify.clone()
    })?;
    let opened = open::open(&still.path)?;
    let copy = match &opened {
        Opened::Damaged(why) => return Err(ExportError::Unsound(why.clone())),
        Opened::Readable { copy, .. } => copy,
    };
    let mut orders: BTreeMap<OrderKey, Permissions> = BTreeMap::new();
    copy.walk::<CopyError>(|item| {
        if let Ok(event) = item
            .map_err(|_| ())
            .and_then(|stored| Event::parse(&stored.sealed).map_err(|_| ()))
            && let Some(key) = event.order_key()
        {
            orders
                .entry(key)
                .or_default()
                .take(&event.facts, event.seq.get(), event.at_us);
        }
        Ok(())
    })?;
    let mut granted: Vec<_> = orders
        .iter()
        .flat_map(|(key, permissions)| {
            permissions
                .list
                .iter()
                .map(move |permission| (key, permissions, permission))
        })
        .filter(|(_, _, permission)| {
            day(permission.granted_at).is_some_and(|day| options.from <= day && day <= options.to)
        })
        .collect();
    granted.sort_by_key(|(_, _, permission)| permission.granted_seq);
    let failed = |e: csv::Error| ExportError::Unsound(e.to_string());
    let mut table = Table::new().map_err(failed)?;
    for (key, permissions, permission) in &granted {
        table.line(key, permission, permissions).map_err(failed)?;
    }
    Ok(Accounts {
        csv: table.finish().map_err(failed)?,
        lines: granted.len(),
        findings: audited.findings.len(),
    })
}

fn day(at: Micros) -> Option<NaiveDate> {
    let micros = i64::try_from(at.get()).ok()?;
    DateTime::<Utc>::from_timestamp_micros(micros).map(|time| time.date_naive())
}
