//! What is counted of a running service, and how it is told to Prometheus. Counters that move with requests, exchanges
//! and witnesses are kept here; what others know themselves (ledger, door, open permissions) is read when somebody asks
//! (`figures`).
//!
//! Every label comes from a fixed set: endpoints, statuses, Taler's codes, configured exchanges and witnesses. No label
//! and no value ever holds an order's id, a coin, a token or anything else that a request brought. Nothing is decided
//! on a metric. Format: OpenMetrics 1.0, which Prometheus reads. The names are documented in `docs/operating.md`.

mod figures;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use quittance_events::event::FORMAT_VERSION;
use quittance_events::facts::{Failure, Verdict};
use quittance_taler::{MasterPub, Micros};

use crate::config::{ExchangeConfig, WitnessConfig};
use crate::open::OpenPermission;
pub use figures::Moment;
use figures::{Figures, OfExchange};

/// What all names begin with.
const PREFIX: &str = "quittance";

/// Upper bounds of request times in seconds: answers from memory take a fraction of a millisecond, one commit a few, and
/// a request that waits for exchanges up to [`crate::limits::REQUEST_TIME`].
const REQUEST_BOUNDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 6.0, 12.5,
];

/// Upper bounds of exchange call times in seconds; the last is just above [`crate::limits::CALL_TIME`].
const CALL_BOUNDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 8.5];

/// The exchange of a permission whose order was not read yet since the start.
const UNKNOWN: &str = "unknown";

/// Outcomes of calls for refunds and deposits.
const CALLS: &[&str] = &["2xx", "4xx", "5xx", "other", "connect", "closed", "timeout"];
/// What replies prove.
const VERDICTS: &[&str] = &["confirmed", "refused", "later", "unproven", "malformed"];
/// Outcomes of fetches of `/keys`.
const FETCHES: &[&str] = &[
    "recorded",
    "unchanged",
    "timeout",
    "unreached",
    "unusable",
    "unrecorded",
];

/// What becomes of webhooks.
const WEBHOOKS: &[&str] = &["delivered", "refused", "unreached", "unmade", "given_up"];

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
struct Told {
    outcome: &'static str,
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
    calls: Family<Brought, Counter>,
    call_times: Histograms<At>,
    verdicts: Family<Brought, Counter>,
    keys: Family<Brought, Counter>,
    witness_requests: Family<Asked, Counter>,
    witness_size: Family<By, Gauge>,
    witness_failures: Family<By, Gauge>,
    webhooks: Family<Told, Counter>,
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
            calls: Family::default(),
            call_times: Family::new_with_constructor(|| Histogram::new(CALL_BOUNDS)),
            verdicts: Family::default(),
            keys: Family::default(),
            witness_requests: Family::default(),
            witness_size: Family::default(),
            witness_failures: Family::default(),
            webhooks: Family::default(),
            cosigned_at: Mutex::default(),
        };
        metrics.register();
        metrics.begin(witnesses);
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
        r.register(
            "exchange_calls",
            "Calls to exchanges for refunds and deposits, by what came: class of status, or how they were not reached",
            self.calls.clone(),
        );
        r.register(
            "exchange_call_seconds",
            "Time of a call to an exchange for a refund or a deposit, from connecting to its last byte",
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
        r.register(
            "webhooks",
            "Attempts to tell a shop's server of something, by what came of them; and what was given up",
            self.webhooks.clone(),
        );
    }

    /// Makes the series that alerts count in: an increase from nothing to one is not seen, one from 0 to 1 is.
    fn begin(&self, witnesses: &[WitnessConfig]) {
        for (_, exchange) in &self.exchanges {
            for (family, outcomes) in [
                (&self.calls, CALLS),
                (&self.verdicts, VERDICTS),
                (&self.keys, FETCHES),
            ] {
                for outcome in outcomes {
                    let exchange = exchange.clone();
                    family.get_or_create(&Brought { exchange, outcome }).inc_by(0);
                }
            }
        }
        for outcome in WEBHOOKS {
            self.webhooks.get_or_create(&Told { outcome }).inc_by(0);
        }
        for witness in witnesses {
            let witness = &witness.section;
            self.witnessed(witness, 0, 0, None);
            for outcome in [Witnessed::Cosigned, Witnessed::Failed, Witnessed::Contradicted] {
                let (witness, outcome) = (witness.clone(), outcome.label());
                self.witness_requests
                    .get_or_create(&Asked { witness, outcome })
                    .inc_by(0);
            }
        }
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

    /// A call for a refund or a deposit ended.
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

    /// A webhook was tried, or given up.
    pub(crate) fn told_a_shop(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&Told { outcome }).inc();
    }

    fn name(&self, exchange: Option<&MasterPub>) -> &str {
        self.exchanges
            .iter()
            .find(|(master, _)| Some(master) == exchange)
            .map_or(UNKNOWN, |(_, name)| name)
    }

    /// All of it as text, with what others know at this moment.
    #[must_use]
    pub fn text(&self, moment: Moment) -> String {
        let times = self.cosigned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let cosigned = times
            .iter()
            .map(|(witness, at)| (witness.clone(), at.elapsed()))
            .collect();
        drop(times);
        let figures = Figures {
            open: self.by_age(&moment.open, moment.now),
            moment,
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
        let names = self.exchanges.iter().map(|(_, name)| name.as_str());
        let mut all: Vec<OfExchange> = names.chain([UNKNOWN]).map(OfExchange::new).collect();
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
