//! What is counted of a running service, and how it is told to Prometheus. Counters that move with requests, exchanges
//! and witnesses are kept here; what the ledger and the open permissions know themselves is read when somebody asks.
//!
//! Every label comes from a fixed set: endpoints, statuses, Taler's codes, configured exchanges and witnesses. No label
//! and no value ever holds an order's id, a coin, a token or anything else that a request brought. Nothing is decided
//! on a metric. Format: OpenMetrics 1.0, which Prometheus reads. The names are documented in `docs/operating.md`.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use quittance_events::event::FORMAT_VERSION;
use quittance_events::facts::{Failure, Verdict};
use quittance_events::stats::{Distribution, Snapshot};
use quittance_taler::{MasterPub, Micros};

use crate::config::{ExchangeConfig, WitnessConfig};
use crate::open::OpenPermission;

/// What all names begin with.
const PREFIX: &str = "quittance";

/// Upper bounds of request times in seconds: answers from memory take a fraction of a millisecond, one commit a few, and
/// a request that waits for exchanges up to [`crate::limits::REQUEST_TIME`].
const REQUEST_BOUNDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 6.0, 12.5,
];

/// Upper bounds of exchange call times in seconds; the last is just above [`crate::limits::CALL_TIME`].
const CALL_BOUNDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 8.5];

/// Age groups of open permissions: name, and the age in seconds at which the next begins.
const AGES: [(&str, u64); 4] = [
    ("under_1m", 60),
    ("under_10m", 600),
    ("under_1h", 3_600),
    ("under_1d", 86_400),
];
/// The last age group.
const OLDEST: &str = "1d_and_more";

/// The exchange of a permission whose order was not read yet since the start.
const UNKNOWN: &str = "unknown";

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    endpoint: &'static str,
    status: u16,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    exchange: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Brought {
    exchange: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    witness: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    witness: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Because {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    event_format: u64,
}

/// How a request to a witness ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witnessed {
    /// It has cosigned what there is.
    Cosigned,
    /// It did not, and is asked again.
    Failed,
    /// It has seen another history.
    Contradicted,
}

impl Witnessed {
    fn label(self) -> &'static str {
        match self {
            Witnessed::Cosigned => "cosigned",
            Witnessed::Failed => "failed",
            Witnessed::Contradicted => "contradicted",
        }
    }
}

/// All metrics of one service.
pub struct Metrics {
    /// Nobody can read what is counted where no address is configured; requests are then not counted.
    wanted: bool,
    registry: Registry,
    exchanges: Vec<(MasterPub, String)>,
    requests: Family<Answered, Counter>,
    request_times: Histograms<Of>,
    connections: Gauge,
    rejected: Family<Because, Counter>,
    calls: Family<Brought, Counter>,
    call_times: Histograms<At>,
    verdicts: Family<Brought, Counter>,
    keys: Family<Brought, Counter>,
    witness_requests: Family<Asked, Counter>,
    witness_size: Family<By, Gauge>,
    witness_failures: Family<By, Gauge>,
    /// When each last cosigned, in this process.
    cosigned_at: Mutex<Vec<(String, Instant)>>,
}

impl Metrics {
    /// Metrics of a service with these exchanges and witnesses. `wanted`: somebody can read them.
    #[must_use]
    pub fn new(wanted: bool, exchanges: &[ExchangeConfig], witnesses: &[WitnessConfig]) -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        let build = Info::new(Build {
            version: env!("CARGO_PKG_VERSION"),
            event_format: FORMAT_VERSION,
        });
        registry.register("build", "This program", build);
        let mut metrics = Metrics {
            wanted,
            registry,
            exchanges: exchanges
                .iter()
                .map(|exchange| (exchange.master_key, exchange.base_url.to_string()))
                .collect(),
            requests: Family::default(),
            request_times: Family::new_with_constructor(|| Histogram::new(REQUEST_BOUNDS)),
            connections: Gauge::default(),
            rejected: Family::default(),
            calls: Family::default(),
            call_times: Family::new_with_constructor(|| Histogram::new(CALL_BOUNDS)),
            verdicts: Family::default(),
            keys: Family::default(),
            witness_requests: Family::default(),
            witness_size: Family::default(),
            witness_failures: Family::default(),
            cosigned_at: Mutex::default(),
        };
        metrics.register();
        for witness in witnesses {
            metrics.witnessed(&witness.section, 0, 0, None);
        }
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "requests",
            "Requests answered, by endpoint, HTTP status and Taler's error code (0: none)",
            self.requests.clone(),
        );
        r.register(
            "request_seconds",
            "From a request's head to its answer, which may still have to be sent",
            self.request_times.clone(),
        );
        r.register("connections", "Connections open now", self.connections.clone());
        r.register(
            "connections_rejected",
            "Connections and requests that a limit turned away",
            self.rejected.clone(),
        );
        r.register(
            "exchange_calls",
            "Refund calls to exchanges, by what came: class of status, or how they were not reached",
            self.calls.clone(),
        );
        r.register(
            "exchange_call_seconds",
            "Time of a refund call to an exchange, with waiting for its turn",
            self.call_times.clone(),
        );
        r.register(
            "exchange_verdicts",
            "Recorded exchange replies by what they prove",
            self.verdicts.clone(),
        );
        r.register(
            "exchange_keys_fetches",
            "Fetches of exchanges' /keys, by what came of them",
            self.keys.clone(),
        );
        r.register(
            "witness_requests",
            "Requests to witnesses that were due, by what came of them",
            self.witness_requests.clone(),
        );
        r.register(
            "witness_cosigned_events",
            "Events that the last cosignature of a witness covers, as far as this process knows",
            self.witness_size.clone(),
        );
        r.register(
            "witness_failures",
            "Failed requests to a witness in a row",
            self.witness_failures.clone(),
        );
    }

    /// A request was answered.
    pub(crate) fn answered(&self, endpoint: &'static str, status: u16, code: u32, took: Duration) {
        if !self.wanted {
            return;
        }
        let answered = Answered {
            endpoint,
            status,
            code,
        };
        self.requests.get_or_create(&answered).inc();
        self.request_times
            .get_or_create(&Of { endpoint })
            .observe(took.as_secs_f64());
    }

    /// A connection was taken; it is open until the guard is dropped.
    #[must_use]
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// A limit turned a connection or request away; `reason` names the limit.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Because { reason }).inc();
    }

    /// A refund call ended.
    pub(crate) fn called(&self, exchange: &str, result: Result<u16, Failure>, took: Duration) {
        let outcome = match result {
            Ok(200..300) => "2xx",
            Ok(400..500) => "4xx",
            Ok(500..600) => "5xx",
            Ok(_) => "other",
            Err(Failure::Connect) => "connect",
            Err(Failure::Closed) => "closed",
            Err(Failure::Timeout) => "timeout",
        };
        let exchange = exchange.to_owned();
        self.call_times
            .get_or_create(&At {
                exchange: exchange.clone(),
            })
            .observe(took.as_secs_f64());
        self.calls.get_or_create(&Brought { exchange, outcome }).inc();
    }

    /// A reply of an exchange was recorded.
    pub(crate) fn judged(&self, exchange: Option<&MasterPub>, verdict: Verdict) {
        let brought = Brought {
            exchange: self.name(exchange).to_owned(),
            outcome: match verdict {
                Verdict::Confirmed => "confirmed",
                Verdict::Refused => "refused",
                Verdict::Later => "later",
                Verdict::Unproven => "unproven",
                Verdict::Malformed => "malformed",
            },
        };
        self.verdicts.get_or_create(&brought).inc();
    }

    /// A fetch of `/keys` ended.
    pub(crate) fn fetched_keys(&self, exchange: &str, outcome: &'static str) {
        let exchange = exchange.to_owned();
        self.keys.get_or_create(&Brought { exchange, outcome }).inc();
    }

    /// What is known of a witness: events cosigned, failures in a row. `asked`: how a request ended, if one was due.
    pub(crate) fn witnessed(&self, witness: &str, cosigned: u64, failures: u32, asked: Option<Witnessed>) {
        let witness = witness.to_owned();
        let by = By {
            witness: witness.clone(),
        };
        let size = i64::try_from(cosigned).unwrap_or(i64::MAX);
        self.witness_size.get_or_create(&by).set(size);
        self.witness_failures.get_or_create(&by).set(i64::from(failures));
        let Some(asked) = asked else { return };
        if asked == Witnessed::Cosigned {
            let mut times = self.cosigned_at.lock().unwrap_or_else(PoisonError::into_inner);
            times.retain(|(name, _)| *name != witness);
            times.push((witness.clone(), Instant::now()));
        }
        let outcome = asked.label();
        self.witness_requests
            .get_or_create(&Asked { witness, outcome })
            .inc();
    }

    fn name(&self, exchange: Option<&MasterPub>) -> &str {
        self.exchanges
            .iter()
            .find(|(master, _)| Some(master) == exchange)
            .map_or(UNKNOWN, |(_, name)| name)
    }

    /// All of it as text, with what the ledger and the open permissions say at this moment.
    #[must_use]
    pub fn text(&self, ledger: Snapshot, open: &[OpenPermission], now: Micros) -> String {
        let times = self.cosigned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let cosigned = times
            .iter()
            .map(|(witness, at)| (witness.clone(), at.elapsed()))
            .collect();
        drop(times);
        let figures = Figures {
            ledger,
            open: self.by_age(open, now),
            cosigned,
        };
        let mut told = Registry::with_prefix(PREFIX);
        told.register_collector(Box::new(figures));
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &told))
            .and_then(|()| encode_eof(&mut text))
            .expect("a String takes all that is written to it");
        text
    }

    fn by_age(&self, open: &[OpenPermission], now: Micros) -> Vec<OfExchange> {
        let mut all: Vec<OfExchange> = self
            .exchanges
            .iter()
            .map(|(_, name)| name.as_str())
            .chain([UNKNOWN])
            .map(OfExchange::new)
            .collect();
        for permission in open {
            let name = self.name(permission.exchange.as_ref());
            let age_s = permission
                .since
                .map_or(0, |since| now.get().saturating_sub(since.get()) / 1_000_000);
            if let Some(of) = all.iter_mut().find(|of| of.name == name) {
                of.add(age_s);
            }
        }
        all
    }
}

/// A connection that counts as open while this lives.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Open permissions at one exchange.
#[derive(Debug)]
struct OfExchange {
    name: String,
    ages: [u64; AGES.len() + 1],
    oldest_s: u64,
}

impl OfExchange {
    fn new(name: &str) -> OfExchange {
        OfExchange {
            name: name.to_owned(),
            ages: [0; AGES.len() + 1],
            oldest_s: 0,
        }
    }

    fn add(&mut self, age_s: u64) {
        let group = AGES.iter().position(|(_, end)| age_s < *end);
        self.ages[group.unwrap_or(AGES.len())] += 1;
        self.oldest_s = self.oldest_s.max(age_s);
    }
}

/// What is read at the moment of asking.
#[derive(Debug)]
struct Figures {
    ledger: Snapshot,
    open: Vec<OfExchange>,
    cosigned: Vec<(String, Duration)>,
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let e = &mut encoder;
        let l = &self.ledger;
        gauge(e, "ledger_events", "Events in the ledger", l.events)?;
        gauge(
            e,
            "checkpoint_events",
            "Events that the last checkpoint covers",
            l.checkpointed,
        )?;
        gauge(e, "anchor_events", "Events that the anchor speaks of", l.anchored)?;
        seconds(
            e,
            "checkpoint_age_seconds",
            "Since the last checkpoint was signed, or since the start; a quiet ledger needs no new one",
            l.checkpoint_age,
        )?;
        seconds(
            e,
            "anchor_behind_seconds",
            "For how long there have been events that the anchor does not speak of; 0 where there are none",
            l.unanchored_for,
        )?;
        counter(e, "commit_failures", "Commits that failed", l.commit_failures)?;
        counter(
            e,
            "checkpoint_failures",
            "Checkpoints that were not stored",
            l.checkpoint_failures,
        )?;
        counter(
            e,
            "anchor_failures",
            "Times that the anchor was not moved",
            l.anchor_failures,
        )?;
        let waiting = u64::try_from(l.waiting).unwrap_or(u64::MAX);
        gauge(e, "appends_waiting", "Appends that wait for the writer", waiting)?;
        let mut refused = e.encode_descriptor(
            "appends_refused",
            "Appends that the writer refused; those that `moved` are decided again",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in [
            ("moved", l.moved),
            ("clock_behind", l.clock_behind),
            ("unfit", l.unfit),
        ] {
            ConstCounter::new(count).encode(refused.encode_family(&[("reason", reason)])?)?;
        }
        histogram(e, "commit_events", "Events of a commit", &l.batches, float)?;
        histogram(
            e,
            "commit_seconds",
            "Time of a commit, from signing to the last flush",
            &l.commits_us,
            |us| Duration::from_micros(us).as_secs_f64(),
        )?;
        self.encode_open(e)?;
        let mut cosigned = e.encode_descriptor(
            "witness_cosigned_age_seconds",
            "Since a witness cosigned last, in this process",
            None,
            MetricType::Gauge,
        )?;
        for (witness, age) in &self.cosigned {
            let labels = [("witness", witness.as_str())];
            ConstGauge::new(age.as_secs_f64()).encode(cosigned.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Figures {
    fn encode_open(&self, e: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut open = e.encode_descriptor(
            "open_refunds",
            "Refunds asked for and not decided by their exchange, by time since they were first to be sent",
            None,
            MetricType::Gauge,
        )?;
        for of in &self.open {
            let groups = AGES.iter().map(|(group, _)| *group).chain([OLDEST]);
            for (group, count) in groups.zip(of.ages) {
                let labels = [("exchange", of.name.as_str()), ("age", group)];
                ConstGauge::new(count).encode(open.encode_family(&labels)?)?;
            }
        }
        let mut oldest = e.encode_descriptor(
            "open_refund_oldest_seconds",
            "Age of the oldest open refund; 0 where there is none",
            None,
            MetricType::Gauge,
        )?;
        for of in &self.open {
            let labels = [("exchange", of.name.as_str())];
            ConstGauge::new(of.oldest_s).encode(oldest.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(e: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(e.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn seconds(e: &mut DescriptorEncoder, name: &str, help: &str, value: Duration) -> fmt::Result {
    let encoder = e.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value.as_secs_f64()).encode(encoder)
}

fn counter(e: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(e.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn histogram(
    e: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: &Distribution,
    scale: impl Fn(u64) -> f64,
) -> fmt::Result {
    let bounds = values.bounds.iter().map(|bound| scale(*bound)).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(values.counts.iter().copied()).collect();
    e.encode_descriptor(name, help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(scale(values.sum), values.counts.iter().sum(), &buckets, None)
}

/// A count as the text format has all numbers.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a figure for people, not money; above 2^53 its last digits do not matter"
)]
fn float(count: u64) -> f64 {
    count as f64
}
