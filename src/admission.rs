//! Who may come in: connections and requests are counted, in all and per address, and what is too much is refused at
//! once. Nothing here waits, and nothing here knows HTTP. What is held is given back by dropping it.
//!
//! Addresses are counted as one where one customer usually has them all: an IPv4 address, an IPv6 network of 64 bits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Network;
use crate::limits;

/// Bounds of the front door. Tests shorten them; the defaults and their reasons are in `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once, but for those of trusted proxies, which have as many of their own.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Connections at once that are being told that there are too many.
    pub turned_away: usize,
    /// Requests to public endpoints that are worked on at once.
    pub requests: usize,
    /// Requests to private endpoints that are worked on at once.
    pub private_requests: usize,
    /// Requests at once from one address, as a trusted proxy tells it or of the connection.
    pub requests_per_address: usize,
    /// Longest request head, in bytes.
    pub head: usize,
    /// Most header fields.
    pub header_fields: usize,
    /// For a request's head, from the connection's beginning or the answer before.
    pub header_time: Duration,
    /// For a request's body.
    pub body_time: Duration,
    /// A public request's body up to this length, in bytes, needs no place among the large ones.
    pub small_body: usize,
    /// Longer bodies of public requests in memory at once.
    pub large_bodies: usize,
    /// For taking the next `WRITE_STEP` bytes of an answer.
    pub write_time: Duration,
    /// The kernel's buffer of what a client has not taken yet, in bytes.
    pub send_buffer: u32,
    /// After the last answer on a connection, for the client to hang up.
    pub linger_time: Duration,
    /// When stopping, for requests that are on their way already.
    pub last_call: Duration,
    /// When stopping, for requests under way.
    pub drain_time: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections: limits::CONNECTIONS_MAX,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS_MAX,
            turned_away: limits::TURNED_AWAY_MAX,
            requests: limits::REQUESTS_MAX,
            private_requests: limits::PRIVATE_REQUESTS_MAX,
            requests_per_address: limits::REQUESTS_PER_ADDRESS_MAX,
            head: limits::HEAD_MAX,
            header_fields: limits::HEADER_FIELDS_MAX,
            header_time: limits::HEADER_TIME,
            body_time: limits::BODY_TIME,
            small_body: limits::SMALL_BODY_MAX,
            large_bodies: limits::LARGE_BODIES_MAX,
            write_time: limits::WRITE_TIME,
            send_buffer: limits::SEND_BUFFER,
            linger_time: limits::LINGER_TIME,
            last_call: limits::LAST_CALL,
            drain_time: limits::DRAIN_TIME,
        }
    }
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// Connections in all.
    Connections,
    /// Connections of one address.
    ConnectionsOfAddress,
    /// Requests in all, to public or to private endpoints.
    Requests,
    /// Requests of one address.
    RequestsOfAddress,
    /// Long bodies in all.
    LargeBodies,
}

impl Overload {
    /// All of them.
    pub const ALL: [Overload; 5] = [
        Overload::Connections,
        Overload::ConnectionsOfAddress,
        Overload::Requests,
        Overload::RequestsOfAddress,
        Overload::LargeBodies,
    ];

    /// For metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Overload::Connections => "connections",
            Overload::ConnectionsOfAddress => "connections_of_address",
            Overload::Requests => "requests",
            Overload::RequestsOfAddress => "requests_of_address",
            Overload::LargeBodies => "large_bodies",
        }
    }

    /// For whoever reads the error.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Overload::Connections => "too many connections",
            Overload::ConnectionsOfAddress => "too many connections from this address",
            Overload::Requests => "too many requests are under way",
            Overload::RequestsOfAddress => "too many requests of this address are under way",
            Overload::LargeBodies => "too many long requests are under way",
        }
    }
}

/// What is counted as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    /// The upper half: who has one IPv6 address mostly has its network.
    V6(u128),
}

impl Source {
    fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source::V4(v4.to_bits()),
            IpAddr::V6(v6) => Source::V6(v6.to_bits() >> 64),
        }
    }
}

/// How often each client is inside. Holds nothing of those who are not.
#[derive(Default)]
struct Tally(Mutex<HashMap<Source, usize>>);

impl Tally {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Source, usize>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(self: &Arc<Tally>, source: Source, most: usize) -> Option<Seat> {
        self.with(|counts| {
            let count = counts.entry(source).or_default();
            let free = *count < most;
            if free {
                *count += 1;
            } else if *count == 0 {
                counts.remove(&source);
            }
            free
        })
        .then(|| Seat {
            tally: Arc::clone(self),
            source,
        })
    }
}

/// One client's place in a tally.
pub(crate) struct Seat {
    tally: Arc<Tally>,
    source: Source,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.tally.with(|counts| {
            if let Some(count) = counts.get_mut(&self.source) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.source);
                }
            }
        });
    }
}

/// Held by a connection for as long as it lives.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _seat: Option<Seat>,
}

/// How those who were turned away are told of in the log: a flood must not fill the disk.
#[derive(Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Told {
    /// How many there are to tell of, where it is time to.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let waits = |last: Instant| now.saturating_duration_since(last) < limits::OVERLOAD_LOG_PAUSE;
        if self.last.is_some_and(waits) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The counts of all that is inside.
pub struct Admission {
    /// What is held to.
    pub bounds: Bounds,
    trusted: Vec<Network>,
    direct: Arc<Semaphore>,
    proxied: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    public: Arc<Semaphore>,
    private: Arc<Semaphore>,
    large: Arc<Semaphore>,
    connected: Arc<Tally>,
    asking: Arc<Tally>,
    told: Mutex<Told>,
    /// How many met each bound, in the order of `Overload::ALL`.
    refused: [AtomicU64; Overload::ALL.len()],
}

/// Who is inside at one moment, and how many were turned away so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside {
    /// Connections, but for those of trusted proxies.
    pub direct: usize,
    /// Connections of trusted proxies.
    pub proxied: usize,
    /// Requests to public endpoints that are worked on.
    pub public: usize,
    /// Requests to private endpoints that are worked on.
    pub private: usize,
    /// How many met each bound.
    pub refused: [(Overload, u64); Overload::ALL.len()],
}

impl Admission {
    /// Nobody is inside yet. `trusted` are the proxies whose word on the client's address is taken.
    #[must_use]
    pub fn new(bounds: Bounds, trusted: Vec<Network>) -> Admission {
        let places = |count| Arc::new(Semaphore::new(count));
        Admission {
            bounds,
            trusted,
            direct: places(bounds.connections),
            proxied: places(bounds.connections),
            turned_away: places(bounds.turned_away),
            public: places(bounds.requests),
            private: places(bounds.private_requests),
            large: places(bounds.large_bodies),
            connected: Arc::default(),
            asking: Arc::default(),
            told: Mutex::default(),
            refused: std::array::from_fn(|_| AtomicU64::default()),
        }
    }

    /// Who is inside now.
    #[must_use]
    pub fn inside(&self) -> Inside {
        let taken = |places: &Semaphore, all: usize| all.saturating_sub(places.available_permits());
        let mut counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Inside {
            direct: taken(&self.direct, self.bounds.connections),
            proxied: taken(&self.proxied, self.bounds.connections),
            public: taken(&self.public, self.bounds.requests),
            private: taken(&self.private, self.bounds.private_requests),
            refused: Overload::ALL.map(|overload| (overload, counts.next().unwrap_or_default())),
        }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// A place for a connection from there.
    pub(crate) fn connection(&self, peer: IpAddr) -> Result<Place, Overload> {
        let is_proxy = self.is_trusted(peer);
        let places = if is_proxy { &self.proxied } else { &self.direct };
        let permit = Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| self.refuse(Overload::Connections))?;
        let seat = if is_proxy {
            None
        } else {
            let most = self.bounds.connections_per_address;
            let seat = self.connected.enter(Source::of(peer), most);
            Some(seat.ok_or_else(|| self.refuse(Overload::ConnectionsOfAddress))?)
        };
        Ok(Place {
            _permit: permit,
            _seat: seat,
        })
    }

    /// Leave to tell a connection that it was refused; `None` where even that would be too much.
    pub(crate) fn turn_away(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turned_away).try_acquire_owned().ok()
    }

    /// A seat for a request's client: the peer, or where that is a trusted proxy the last address in `forwarded` (the
    /// addresses of `X-Forwarded-For`, in order) that is none. `None` is who comes from trusted addresses alone.
    pub(crate) fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Result<Option<Seat>, Overload> {
        let mut client = peer;
        let mut hops = forwarded.rev();
        while self.is_trusted(client) {
            let Some(hop) = hops.next() else {
                return Ok(None);
            };
            match hop.trim().parse::<IpAddr>() {
                Ok(address) => client = address,
                // Whoever handed on such a word answers for it.
                Err(_) => break,
            }
        }
        let seat = self
            .asking
            .enter(Source::of(client), self.bounds.requests_per_address);
        seat.map(Some)
            .ok_or_else(|| self.refuse(Overload::RequestsOfAddress))
    }

    /// A place for working on a request. Private ones have their own, so that no number of wallets keeps the shop out.
    pub(crate) fn work(&self, private: bool) -> Result<OwnedSemaphorePermit, Overload> {
        let places = if private { &self.private } else { &self.public };
        Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| self.refuse(Overload::Requests))
    }

    /// A place for a long body in memory.
    pub(crate) fn large_body(&self) -> Result<OwnedSemaphorePermit, Overload> {
        Arc::clone(&self.large)
            .try_acquire_owned()
            .map_err(|_| self.refuse(Overload::LargeBodies))
    }

    fn refuse(&self, overload: Overload) -> Overload {
        for (known, count) in Overload::ALL.iter().zip(&self.refused) {
            if *known == overload {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = told.one_more(Instant::now()) {
            tracing::warn!(latest = overload.detail(), count, "clients are turned away");
        }
        overload
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_flood_is_told_once() {
        let mut told = Told::default();
        let begun = Instant::now();
        assert_eq!(told.one_more(begun), Some(1));
        for _ in 0..1000 {
            assert_eq!(told.one_more(begun), None);
        }
        assert_eq!(told.one_more(begun + limits::OVERLOAD_LOG_PAUSE), Some(1001));
        assert_eq!(told.one_more(begun + limits::OVERLOAD_LOG_PAUSE), None);
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let tally = Arc::new(Tally::default());
        let source = Source::of("2001:db8::1".parse().unwrap());
        let neighbour = Source::of("2001:db8::ffff:1".parse().unwrap());
        let first = tally.enter(source, 2).unwrap();
        let second = tally.enter(neighbour, 2).unwrap();
        assert!(tally.enter(source, 2).is_none());
        drop(first);
        let third = tally.enter(source, 2).unwrap();
        drop((second, third));
        assert!(tally.enter(source, 0).is_none());
        tally.with(|counts| assert!(counts.is_empty()));
    }

    #[test]
    fn an_ipv4_address_is_the_same_within_ipv6() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
