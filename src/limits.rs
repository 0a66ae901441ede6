//! Every bound of the service in one place, each with its reason. Those of the ledger stand in the events crate.

use std::time::Duration;

/// Longest request body. A contract with 512 coins' worth of products and an abort of 512 coins both fit.
pub const BODY_MAX: usize = 256 * 1024;

/// Longest line of an import: what the two requests of the intake may hold that it stands for.
pub const IMPORT_LINE_MAX: usize = 2 * BODY_MAX;

/// Lines of an import that are recorded together: enough for a few full commits, and few enough that a progress bar
/// moves.
pub const IMPORT_LINES: usize = 1024;

/// A round of an import ends once its lines hold as many bytes. Three rounds are in memory at once: one is read, one
/// waits, one is recorded.
pub const IMPORT_BYTES: usize = 8 * 1024 * 1024;

/// Where no terminal shows a progress bar, an import says this often how far it is.
pub const IMPORT_TELL_EVERY: Duration = Duration::from_secs(10);

/// Coins in one request, and coins of one order that are deposited or in question. Wallets pay with a few dozen at the most; the bound keeps an
/// answer servable and its events few.
pub const COINS_MAX: usize = 512;

/// Coins of one payment. Wallets pay with a few dozen at the most; one batch of them fits an event, and one batch is what
/// an exchange takes.
pub const PAY_COINS_MAX: usize = 100;

/// Fields that one request has forgotten. Each may be looked for in all elements of a contract's lists; contracts have a
/// few sorts of members that can be forgotten.
pub const FORGET_FIELDS_MAX: usize = 100;

/// Batches of deposits that are asked for one order. A wallet whose coins were spent elsewhere tries a few times; without
/// a bound whoever has claimed an order could grow the ledger with such coins.
pub const BATCHES_MAX: usize = 100;

/// Sessions in which one order is shown to be paid: a reader comes back in a new browser now and then.
pub const SESSIONS_MAX: usize = 100;

/// Batches whose attempts are counted beyond those that are recorded. The counts only spare the ledger, and are begun
/// anew when there are more; of the last attempts' times those in the ledger then count.
pub const ATTEMPTS_COUNTED_MAX: usize = 65_536;

/// An exchange is asked anew for its keys because of a coin that they do not explain at most this often, in seconds.
/// New denominations are listed long before a wallet can pay with their coins, and such a coin may be made up.
pub const KEYS_LOOK_AGAIN_S: u64 = 60;

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

/// How long a call waits for one of those places. With CALL_TIME behind it a wallet's answer still comes within
/// REQUEST_TIME; who gets no place in time has sent nothing, and nothing is recorded of it.
pub const PLACE_TIME: Duration = Duration::from_secs(3);

/// Calls in a row that find no connection or no answer in time, after which an exchange counts as down. One or two are
/// the network's daily life; five mean that the next wallet would only wait for the same.
pub const CIRCUIT_FAILURES: u32 = 5;

/// How long an exchange that is down is left alone before one call tries it again, in seconds: an exchange that is well
/// again is found soon, and one that is not costs one slow call in this time instead of one per wallet.
pub const CIRCUIT_PAUSE_S: u64 = 5;

/// A signing key list is taken as current for this long; exchanges let clients cache it for an hour.
pub const KEYS_FRESH_S: u64 = 3600;

/// An abort's refund of a coin that an exchange may still be taking is sent no sooner after the last attempt at its
/// deposit. Exchanges and the proxies before them give a request up within a minute; a refund that overtakes
/// its deposit is told that there is none, and the money is lost when the deposit then comes through.
pub const DEPOSIT_LINGERS: Duration = Duration::from_mins(1);

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

/// Instances that are open at once through the API: a platform's shops. Each takes a few kilobytes of memory.
pub const INSTANCES_MAX: usize = 1024;

/// Name and settings of an instance as contract terms show them, in bytes: every order carries and keeps them, so a logo
/// is a small one.
pub const SETTINGS_MAX: usize = 16 * 1024;

/// Open accounts of one instance. A shop has one or two; each new order looks at all.
pub const ACCOUNTS_OPEN_MAX: usize = 16;

/// Accounts whose payto URI and salt are kept in memory: those of many instances, at a kilobyte each at most.
pub const ACCOUNTS_CACHED_MAX: usize = 1024;

/// Longest that a client may wait for something to happen to an order. Below the minute after which proxies give up, and
/// clients ask again; near to [`DRAIN_TIME`], though who waits is sent away when the service stops.
pub const LONG_POLL_MAX: Duration = Duration::from_secs(30);

/// Orders in one list: clients show pages of tens.
pub const LISTED_MAX: usize = 500;

/// Orders that one list looks at. Each may have to be folded from the disk, which takes some 50 microseconds; with filters
/// that fit few a client asks for the next piece.
pub const LIST_ORDERS_MAX: u64 = 2000;

/// Rows of the index, of all instances, that one list passes: a fraction of a microsecond each.
pub const LIST_ROWS_MAX: u64 = 200_000;

/// Who waits for something to happen, in all: each costs a task and a connection, and no work. Beyond it one is answered
/// at once, as without a wish to wait.
pub const WAITERS_MAX: usize = 2048;

/// Connections served at once; those of trusted proxies have as many of their own. One that is silent costs a few KiB
/// and a file descriptor. Beyond it new ones are told 503.
pub const CONNECTIONS_MAX: usize = 4096;

/// Connections from one address (of IPv6: one /64). A household or office behind one address opens a handful; it takes
/// 64 addresses to fill the house.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;

/// Connections that are told 503 at once. Beyond it they are closed without a word: telling costs, too.
pub const TURNED_AWAY_MAX: usize = 512;

/// Who is told 503 may send his request first for this long: some clients do not understand an answer before it.
pub const TURN_AWAY_TIME: Duration = Duration::from_secs(1);

/// File descriptors for all else: ledger, anchor, exchanges, witnesses, the program itself.
pub const FILES_OTHERWISE: u64 = 512;

/// Requests to public endpoints that are worked on at once. A wallet's may wait twelve seconds for an exchange, so this
/// still takes 85 a second when every exchange hangs.
pub const REQUESTS_MAX: usize = 1024;

/// Requests to private endpoints that are worked on at once. They wait for nothing but the disk.
pub const PRIVATE_REQUESTS_MAX: usize = 256;

/// Requests of one address that are under way. As many as its connections may have.
pub const REQUESTS_PER_ADDRESS_MAX: usize = CONNECTIONS_PER_ADDRESS_MAX;

/// Longest head of a request. Proxies add a few hundred bytes to the few hundred of a wallet.
pub const HEAD_MAX: usize = 16 * 1024;

/// Most header fields of a request. A browser behind two proxies sends about thirty.
pub const HEADER_FIELDS_MAX: usize = 64;

/// Buffer of a connection for reading, and for what is not yet handed to the kernel.
pub const CONNECTION_BUFFER: usize = 2 * HEAD_MAX;

/// A client has this long to send a request's head, from the connection's beginning or the answer before; a slower one
/// holds a connection for nothing. So it is also how long a connection may be idle.
pub const HEADER_TIME: Duration = Duration::from_secs(10);

/// A client has this long to send a request's body.
pub const BODY_TIME: Duration = Duration::from_secs(20);

/// A body up to this length needs no place among the large ones. An abort of some 80 coins fits.
pub const SMALL_BODY_MAX: usize = 16 * 1024;

/// Longer bodies of public requests in memory at once: 64 MiB with [`BODY_MAX`], which are only come by slowly or in
/// bad faith. Private requests have shown a token.
pub const LARGE_BODIES_MAX: usize = 256;

/// A client has this long to take the next [`WRITE_STEP`] bytes of an answer, or what is left of it.
pub const WRITE_TIME: Duration = Duration::from_secs(20);

/// Less than this is no progress: a client that takes a byte now and then would hold a connection for ever.
pub const WRITE_STEP: usize = 16 * 1024;

/// The kernel's buffer of what a client has not taken yet. Left to itself it grows to megabytes for each slow reader.
pub const SEND_BUFFER: u32 = 256 * 1024;

/// After the last answer on a connection, what the client still sends is thrown away for this long: closing at once
/// would destroy an answer that it has not read.
pub const LINGER_TIME: Duration = Duration::from_secs(2);

/// As much is thrown away at most: a body that is too long is worth reading to its end only if that is near.
pub const LINGER_MAX: usize = 2 * BODY_MAX;

/// Connections that wait to be accepted, the kernel's usual bound.
pub const BACKLOG: u32 = 1024;

/// `Retry-After` of a 503, in seconds: what was too much is mostly over in a moment.
pub const RETRY_AFTER_S: u64 = 2;

/// Clients that were turned away are told of in the log this often at most.
pub const OVERLOAD_LOG_PAUSE: Duration = Duration::from_secs(10);

/// `GET health` answers within this time, whatever the disk does.
pub const HEALTH_TIME: Duration = Duration::from_secs(2);

/// When stopping, connections that are idle or still in the kernel's queue may bring a request that is on its way
/// already for this long.
pub const LAST_CALL: Duration = Duration::from_millis(100);

/// Requests under way have this long to end after SIGTERM; one request takes at most REQUEST_TIME, and a payment that
/// outlives it a call more.
pub const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Shortest bearer token that an operator may bring: it is stored as a plain salted hash, so it must not be
/// guessable. 22 symbols of base64 carry 128 bits.
pub const TOKEN_MIN: usize = 22;

/// The file system is asked how much is free at most this often: a reserve of megabytes is not gone within a second.
pub const DISK_ASK_EVERY: Duration = Duration::from_secs(1);
/// Longest bearer token. Every request hashes what it bears once for each token that there may be.
pub const TOKEN_MAX: usize = 1024;

/// Tokens of one instance that are not expired: one for each person and machine of a large shop. Each is compared with
/// what every request to a private endpoint bears.
pub const TOKENS_MAX: usize = 64;

/// Comparisons that a request to a private endpoint costs, whoever's tokens it is held against: those of an instance
/// and those of the whole service.
pub const TOKEN_COMPARISONS: usize = TOKENS_MAX + 2;

/// Longest description of a token, in bytes: a line for people.
pub const TOKEN_DESCRIPTION_MAX: usize = 200;

/// A token lives this long, in seconds, where who asks for it does not say: Taler's merchants give a day.
pub const TOKEN_LIFETIME_S: u64 = 24 * 3600;

/// Whoever changes an instance's tokens waits this long for another who does: a change takes milliseconds.
pub const TOKENS_LOCK_TIME: Duration = Duration::from_secs(5);
/// Connections to the metrics at once: a Prometheus or two, and an operator who looks himself.
pub const METRICS_CONNECTIONS_MAX: usize = 4;

/// From accepting such a connection to the last byte. Prometheus gives up after 10 s by default.
pub const METRICS_TIME: Duration = Duration::from_secs(10);

/// Characters of a witness's or an exchange's own words in a log line: enough for an error message, too few to fill a
/// disk with.
pub const FOREIGN_TEXT_MAX: usize = 300;

/// Webhooks of one instance. A shop has one or two servers to tell of two things.
pub const WEBHOOKS_MAX: usize = 16;

/// Longest address of a webhook: longer ones are refused by common servers.
pub const WEBHOOK_URL_MAX: usize = 2048;

/// Longest template of a webhook, and longest value of one of its headers.
pub const WEBHOOK_TEMPLATE_MAX: usize = 8 * 1024;

/// Lines of a webhook's header template.
pub const WEBHOOK_HEADERS_MAX: usize = 16;

/// Longest body that a webhook's templates may come to: a contract or two, whatever names they repeat.
pub const WEBHOOK_BODY_MAX: usize = 2 * BODY_MAX;

/// As much of a shop's reply is read: nobody looks at it.
pub const WEBHOOK_REPLY_MAX: usize = 4 * 1024;

/// One request to a shop's server, from connecting to that much of its reply. Nobody waits for it.
pub const WEBHOOK_TIME: Duration = Duration::from_secs(10);

/// Requests to shops' servers at once, over all instances.
pub const WEBHOOK_CALLS_MAX: usize = 16;

/// Of these to one webhook: the next goes out while an answer is on its way, and a server that swallows all it gets
/// leaves the other places to the other shops.
pub const WEBHOOK_CALLS_EACH_MAX: usize = 2;

/// First pause before a shop's server is told again, in seconds; doubled each time.
pub const WEBHOOK_FIRST_S: u64 = 10;

/// Longest of these pauses, in seconds.
pub const WEBHOOK_PAUSE_MAX_S: u64 = 3600;

/// After so long, in seconds, a shop's server is told no more: it was down over a weekend, and then some.
pub const WEBHOOK_GIVE_UP_S: u64 = 3 * 24 * 3600;

/// A start looks back so far, in seconds, for what is still to be told: what is to be given up was recorded within it,
/// unless the service itself was down for four days.
pub const WEBHOOK_LOOK_BACK_S: u64 = 7 * 24 * 3600;

/// Events that are looked at in one go for what webhooks tell of, or for sessions: a few milliseconds.
pub const FOLLOW_PIECE: u64 = 2000;

/// Sessions of browsers of which it is known what they have paid for, over all instances: some 10 MB. The one that was
/// not asked for longest is forgotten first.
pub const SESSIONS_KEPT_MAX: usize = 50_000;

/// Orders of such a session. Looking for one that is paid already reads them all.
pub const SESSION_ORDERS_MAX: usize = 16;

/// A start looks back so far, in seconds, for sessions: few browsers keep one for longer.
pub const SESSIONS_LOOK_BACK_S: u64 = 7 * 24 * 3600;
