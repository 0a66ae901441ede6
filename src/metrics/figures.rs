//! Figures that are read when somebody asks, and not counted here: what ledger, door, exchanges and open permissions
//! know of themselves at that moment.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use quittance_events::condition::Trouble;
use quittance_events::stats::{Distribution, Snapshot};
use quittance_taler::Micros;

use crate::admission::Inside;
use crate::open::OpenPermission;

/// What others know at one moment.
#[derive(Debug)]
pub struct Moment {
    /// The service's clock.
    pub now: Micros,
    /// What the writer has counted.
    pub ledger: Snapshot,
    /// Permissions that the background asks for.
    pub open: Vec<OpenPermission>,
    /// Who is inside, and who was turned away.
    pub inside: Inside,
    /// Exchanges, and whether calls to them are held back.
    pub exchanges: Vec<(String, bool)>,
    /// Less is free than the reserve.
    pub disk_is_low: bool,
}

/// Age groups of open permissions: name, and the age in seconds at which the next begins.
const AGES: [(&str, u64); 4] = [
    ("under_1m", 60),
    ("under_10m", 600),
    ("under_1h", 3_600),
    ("under_1d", 86_400),
];
/// The last age group.
const OLDEST: &str = "1d_and_more";

/// Open permissions at one exchange.
#[derive(Debug)]
pub(super) struct OfExchange {
    pub(super) name: String,
    ages: [u64; AGES.len() + 1],
    oldest_s: u64,
}

impl OfExchange {
    pub(super) fn new(name: &str) -> OfExchange {
        OfExchange {
            name: name.to_owned(),
            ages: [0; AGES.len() + 1],
            oldest_s: 0,
        }
    }

    pub(super) fn add(&mut self, age_s: u64) {
        let group = AGES.iter().position(|(_, end)| age_s < *end);
        self.ages[group.unwrap_or(AGES.len())] += 1;
        self.oldest_s = self.oldest_s.max(age_s);
    }
}

/// All that is encoded at the moment of asking.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) moment: Moment,
    pub(super) open: Vec<OfExchange>,
    /// Witnesses, and how long ago each cosigned.
    pub(super) cosigned: Vec<(String, Duration)>,
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let e = &mut encoder;
        let l = &self.moment.ledger;
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
        self.encode_door(e)?;
        self.encode_troubles(e)?;
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
    fn encode_door(&self, e: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let inside = &self.moment.inside;
        let mut connections = e.encode_descriptor(
            "connections",
            "Connections open now, of trusted proxies and of others",
            None,
            MetricType::Gauge,
        )?;
        for (from, count) in [("others", inside.direct), ("proxies", inside.proxied)] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            ConstGauge::new(count).encode(connections.encode_family(&[("from", from)])?)?;
        }
        let mut requests = e.encode_descriptor(
            "requests_under_way",
            "Requests that are worked on now",
            None,
            MetricType::Gauge,
        )?;
        for (endpoints, count) in [("public", inside.public), ("private", inside.private)] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            ConstGauge::new(count).encode(requests.encode_family(&[("endpoints", endpoints)])?)?;
        }
        let mut refused = e.encode_descriptor(
            "turned_away",
            "Connections and requests that met a bound of the door",
            None,
            MetricType::Counter,
        )?;
        for (overload, count) in inside.refused {
            let labels = [("reason", overload.word())];
            ConstCounter::new(count).encode(refused.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_troubles(&self, e: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut trouble = e.encode_descriptor(
            "trouble",
            "1 while `GET health` says no for this reason",
            None,
            MetricType::Gauge,
        )?;
        for known in Trouble::ALL {
            let is_it = u64::from(self.moment.ledger.trouble == Some(known));
            ConstGauge::new(is_it).encode(trouble.encode_family(&[("reason", known.word())])?)?;
        }
        let low = u64::from(self.moment.disk_is_low);
        gauge(e, "disk_low", "1 while less is free than the reserve", low)?;
        let mut held_back = e.encode_descriptor(
            "exchange_held_back",
            "1 while calls to an exchange are held back because it was down lately",
            None,
            MetricType::Gauge,
        )?;
        for (exchange, is_held_back) in &self.moment.exchanges {
            let labels = [("exchange", exchange.as_str())];
            ConstGauge::new(u64::from(*is_held_back)).encode(held_back.encode_family(&labels)?)?;
        }
        Ok(())
    }

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
