//! Bounds of a dispute file in one place, each with its reason. A file that its reader did not make himself is
//! refused before anything in it is looked at.

/// Longest file, in bytes. It is held in memory; an order with hundreds of coins, whose exchange failed for months,
/// takes a few tens of megabytes.
pub const BUNDLE_MAX: u64 = 256 * 1024 * 1024;

/// Most entries: a zip without extensions counts them in 16 bits and means something else by the greatest number.
pub const ENTRIES_MAX: usize = 65_000;

/// Longest name of an entry. Ours have a number of at most 16 digits and a few words.
pub const NAME_MAX: usize = 64;

/// Longest `report.json` that is read. It repeats each event in words, some two kilobytes each.
pub const REPORT_MAX: usize = 128 * 1024 * 1024;

/// Longest reason of a merchant that is repeated as text in the report; a longer one stands in its file.
pub const REASON_SHOWN_MAX: usize = 4_096;
