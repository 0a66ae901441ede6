//! What Quittance records: event types, sealing, the SQLite log, the order projection and the answers built from it.
//!
//! It records, folds and rebuilds, and decides nothing. It knows no HTTP and no wall clock: the time of a decision is
//! handed in with its events. No other crate knows SQL.

pub mod anchor;
pub mod answer;
pub mod append;
pub mod backup;
pub mod book;
#[cfg(feature = "broken")]
pub mod broken;
mod cache;
mod checkpointing;
pub mod condition;
pub mod copy;
pub mod cosignature;
pub mod create;
pub mod erase;
pub mod event;
pub mod facts;
mod following;
pub mod ids;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod listing;
mod opening;
pub mod order;
mod outcome;
mod parts;
pub mod receipt;
pub mod rotate;
pub mod sale;
pub mod schema;
pub mod seal;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod stats;
pub mod store;
pub mod successor;
pub mod tiles;
mod wal;
mod writer;

pub use append::{Append, AppendError, Appended, Stream};
pub use event::{AttachmentName, Event, Facts, NewEvent};
pub use ids::{InstanceId, OrderId, OrderKey, RefundId, Seq, TokenId, WebhookId};
pub use ledger::Ledger;
pub use order::Order;
pub use sale::Folded;
