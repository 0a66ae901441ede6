//! Every bound of the service in one place, each with its reason. Those of the ledger stand in the events crate.

use std::time::Duration;

/// Longest request body. A contract with 512 coins' worth of products and an abort of 512 coins both fit.
pub const BODY_MAX: usize = 256 * 1024;

/// Coins in one request, and deposits of one order. Wallets pay with a few dozen at the most; the bound keeps an
/// answer servable and its events few.
pub const COINS_MAX: usize = 512;

/// Coins that all aborts of one order may name together: whoever knows the contract could otherwise grow the
/// ledger without end with coins that do not exist. Four wallets may compete over the largest order.
pub const ABORTED_COINS_MAX: usize = 4 * COINS_MAX;

/// Refused aborts that are recorded of one order. More of them tell an auditor nothing new.
pub const ABORT_REFUSALS_MAX: usize = 100;

/// Tries at a decision whose order keeps moving on. Each failed try means that another request succeeded, so this
/// many in a row mean trouble and the client had better come back.
pub const DECISION_TRIES: usize = 256;

/// One call to an exchange, from connecting to the last byte. Slower than this, the wallet is better answered
/// "pending" and the background asks again.
pub const CALL_TIME: Duration = Duration::from_secs(8);

/// A fetch of an exchange's `/keys`.
pub const KEYS_TIME: Duration = Duration::from_secs(6);

/// What a wallet's request may spend at exchanges in all. The recorded wallet gives up after 15 s and more.
pub const REQUEST_TIME: Duration = Duration::from_secs(12);

/// Longest reply of an exchange to a refund. Conflicts carry the coin's history, a few hundred bytes an entry.
pub const REPLY_MAX: usize = 256 * 1024;

/// Longest `/keys`: real ones with years of denominations take a few megabytes.
pub const KEYS_MAX: usize = 16 * 1024 * 1024;

/// Signing keys that one `/keys` may list. Exchanges list a handful; more would not fit an event.
pub const SIGNKEYS_MAX: usize = 200;

/// Calls in flight to one exchange. More would only queue there.
pub const CALLS_PER_EXCHANGE_MAX: usize = 32;

/// A signing key list is taken as current for this long; exchanges let clients cache it for an hour.
pub const KEYS_FRESH_S: u64 = 3600;

/// After a `/keys` fetch failed, the next is tried no sooner, in seconds: an exchange that is down must not be
/// asked once per wallet.
pub const KEYS_RETRY_S: u64 = 5;

/// A wallet's refund request asks for one permission at most this often, in seconds.
pub const REFUND_ASK_EVERY_S: u64 = 5;

/// First pause of the background before it asks again, in seconds; doubled each time.
pub const RETRY_FIRST_S: u64 = 1;

/// Longest pause of the background, in seconds.
pub const RETRY_MAX_S: u64 = 3600;

/// How often the background looks for permissions that are due.
pub const BACKGROUND_TICK: Duration = Duration::from_millis(200);

/// Permissions that the background asks for at once, over all exchanges.
pub const BACKGROUND_CALLS_MAX: usize = 32;

/// Pause between two requests to one witness: a busy shop signs a checkpoint a second, and a witness serves many logs.
pub const WITNESS_PAUSE: Duration = Duration::from_secs(10);

/// One request to a witness. No wallet waits for it.
pub const WITNESS_TIME: Duration = Duration::from_secs(10);

/// After a failure a witness is asked again after twice the pause, up to this.
pub const WITNESS_PAUSE_MAX: Duration = Duration::from_hours(1);

/// Longest reply of a witness: a few signature lines.
pub const WITNESS_REPLY_MAX: usize = 16 * 1024;

/// Connections served at once. Beyond it new ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 4096;

/// A client has this long to send a request's head; a slower one holds a connection for nothing.
pub const HEADER_TIME: Duration = Duration::from_secs(10);

/// A client has this long to send a request's body.
pub const BODY_TIME: Duration = Duration::from_secs(20);

/// Requests under way have this long to end after SIGTERM; one request takes at most REQUEST_TIME.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Shortest bearer token that an operator may bring: it is stored as a plain salted hash, so it must not be
/// guessable. 22 symbols of base64 carry 128 bits.
pub const TOKEN_MIN: usize = 22;

/// Connections to the metrics at once: a Prometheus or two, and an operator who looks himself.
pub const METRICS_CONNECTIONS_MAX: usize = 4;

/// From accepting such a connection to the last byte. Prometheus gives up after 10 s by default.
pub const METRICS_TIME: Duration = Duration::from_secs(10);

/// Characters of a witness's or an exchange's own words in a log line: enough for an error message, too few to fill a
/// disk with.
pub const FOREIGN_TEXT_MAX: usize = 300;
