//! `quittance import`: a shop's past and present orders, one a line, told at once and without HTTP. A line is both
//! requests of the intake in one object and is decided by the same functions; what is recorded of it is recorded in one
//! commit, or nothing is. It stops at nothing that it can name and skip, and telling a line again changes nothing.
//! Works on a ledger that is not served. Specification: the intake, `docs/protocol-choices.md`.

mod lines;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufReader, Read};
use std::sync::{Arc, mpsc};

use futures_util::future::join_all;
use quittance_events::{
    Append, AppendError, Facts, Folded, InstanceId, Ledger, NewEvent, Order, OrderKey, Seq, Stream, TokenId,
};
use quittance_taler::{ErrorCode, Micros};

use crate::app::{StartError, instances, open_ledger};
use crate::clock::Clock;
use crate::config::Config;
use crate::decide::{deposits, order};
use crate::disk::{Disk, free_at};
use crate::instance::{Instance, KeyFolder};
use crate::refusal::{Refusal, RequestError};
use crate::service::time_of_decision;
use lines::{Line, Round, Told};

/// What an import came to, so far or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines with something on them.
    pub lines: u64,
    /// Lines that something was recorded of (in a dry run: would be), and nothing is wrong with.
    pub recorded: u64,
    /// Lines that tell what the ledger holds already.
    pub known: u64,
    /// Lines with which something is wrong.
    pub skipped: u64,
    /// Lines of a dry run that tell of an order of which an earlier line tells: what they would come to depends on that.
    pub unjudged: u64,
    /// Orders recorded.
    pub orders: u64,
    /// Deposits recorded.
    pub deposits: u64,
    /// Payments recorded.
    pub payments: u64,
    /// Refunds made elsewhere, recorded.
    pub refunds: u64,
}

/// Is told how an import goes.
pub trait Watch {
    /// A line was skipped, or in a dry run not judged.
    fn skipped(&mut self, line: u64, order: Option<&str>, reason: &str);
    /// So many more bytes of the input are dealt with.
    fn went_on(&mut self, bytes: u64, summary: &Summary);
}

/// Whose order a line tells of; or the order's id, as far as it can be made out, and why the line tells nothing. Nothing
/// is decided: for fuzzing the lines' parser, which needs no ledger for it.
///
/// # Errors
/// It tells nothing.
pub fn understand(line: &[u8]) -> Result<OrderKey, (Option<String>, String)> {
    match Line::read(1, line).told {
        Ok(told) => Ok(told.key),
        Err(lines::Unread { order, reason }) => Err((order, reason)),
    }
}

/// What became of a line.
enum Outcome {
    Known,
    Recorded,
    Skipped { order: Option<String>, reason: String },
    Unjudged { order: String },
}

/// What is to be recorded of a line, and what is wrong with it all the same.
struct Decided {
    key: OrderKey,
    events: Vec<NewEvent>,
    wrong: Option<String>,
}

/// An open import.
struct Import<'a> {
    ledger: &'a Ledger,
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    config: &'a Config,
    clock: &'a Clock,
    disk: Disk,
    by: TokenId,
    runtime: tokio::runtime::Runtime,
    dry_run: bool,
    /// Of a dry run, orders that would have moved: hashes, since a shop may have millions.
    moved: HashSet<[u8; 8]>,
    summary: Summary,
}

/// Records all that the input tells, or says what it would do.
///
/// # Errors
/// The ledger cannot be opened, read or written, the input fails, or the disk is nearly full. What was recorded
/// until then stays, and telling it again does no harm.
pub fn import(
    config: &Config,
    clock: &Clock,
    input: impl Read + Send + 'static,
    dry_run: bool,
    watch: &mut dyn Watch,
) -> Result<Summary, StartError> {
    let ledger = open_ledger(config, "import")?;
    let instances = instances(config, &KeyFolder(config.keys.clone()), &ledger)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| StartError::Io("the runtime".into(), e))?;
    let mut import = Import {
        ledger: &ledger,
        instances,
        config,
        clock,
        disk: Disk::new(config.disk_reserve, free_at(&config.ledger)),
        by: TokenId::of_import(),
        runtime,
        dry_run,
        moved: HashSet::new(),
        summary: Summary::default(),
    };
    let (sender, rounds) = mpsc::sync_channel(1);
    // Its end is not waited for: it may be reading from a pipe that nobody writes to.
    std::thread::Builder::new()
        .name("import-reader".into())
        .spawn(move || lines::read_all(BufReader::with_capacity(1 << 18, input), &sender))
        .map_err(|e| StartError::Io("the reader".into(), e))?;
    for round in rounds {
        let Round { lines, bytes, failed } = round;
        let done = import.deal_with(lines, watch);
        watch.went_on(bytes, &import.summary);
        done?;
        if let Some(error) = failed {
            return Err(StartError::Io("the orders to import".into(), error));
        }
    }
    ledger.close();
    Ok(import.summary)
}

/// A refusal in words for whoever typed the command.
fn reason(refusal: &Refusal) -> String {
    let Refusal { code, detail, .. } = refusal;
    match detail {
        Some(detail) => format!("{} {}: {detail}", code.code(), code.hint().trim_end_matches('.')),
        None => format!("{} {}", code.code(), code.hint().trim_end_matches('.')),
    }
}

impl Import<'_> {
    /// Deals with a round's lines: those of different orders together, those of one order one after the other.
    fn deal_with(&mut self, lines: Vec<Line>, watch: &mut dyn Watch) -> Result<(), RequestError> {
        let mut outcomes = BTreeMap::new();
        let mut waiting = lines;
        let mut dealt = Ok(());
        while dealt.is_ok() && !waiting.is_empty() {
            let mut named = BTreeSet::new();
            let (now, later) = waiting.into_iter().partition(|line| match &line.told {
                Ok(told) => named.insert(told.key.clone()),
                Err(_) => true,
            });
            waiting = later;
            dealt = self.record(now, &mut outcomes);
        }
        for (line, outcome) in outcomes {
            self.summary.lines += 1;
            match outcome {
                Outcome::Known => self.summary.known += 1,
                Outcome::Recorded => self.summary.recorded += 1,
                Outcome::Skipped { order, reason } => {
                    self.summary.skipped += 1;
                    watch.skipped(line, order.as_deref(), &reason);
                }
                Outcome::Unjudged { order } => {
                    self.summary.unjudged += 1;
                    watch.skipped(
                        line,
                        Some(&order),
                        "not judged: an earlier line tells of this order",
                    );
                }
            }
        }
        dealt
    }

    /// Decides on lines of which no two tell of one order, and records what they come to.
    fn record(
        &mut self,
        lines: Vec<Line>,
        outcomes: &mut BTreeMap<u64, Outcome>,
    ) -> Result<(), RequestError> {
        let mut appends = Vec::new();
        for Line { number, told } in lines {
            let told = match told {
                Ok(told) => told,
                Err(lines::Unread { order, reason }) => {
                    outcomes.insert(number, Outcome::Skipped { order, reason });
                    continue;
                }
            };
            let hash = self.dry_run.then(|| hash(&told.key));
            if hash.is_some_and(|hash| self.moved.contains(&hash)) {
                let order = told.key.to_string();
                outcomes.insert(number, Outcome::Unjudged { order });
                continue;
            }
            let folded = self.ledger.folded(&told.key)?;
            let at = time_of_decision(self.ledger, self.clock, folded.as_ref());
            let decided = match self.decide(told, folded.as_ref(), at) {
                Ok(decided) => decided,
                Err((key, reason)) => {
                    let order = Some(key.to_string());
                    outcomes.insert(number, Outcome::Skipped { order, reason });
                    continue;
                }
            };
            if decided.events.is_empty() {
                outcomes.insert(number, decided.outcome(Outcome::Known));
                continue;
            }
            if let Some(hash) = hash {
                self.moved.insert(hash);
                self.count(&decided.events);
                outcomes.insert(number, decided.outcome(Outcome::Recorded));
                continue;
            }
            appends.push((
                number,
                decided,
                folded.map_or(Seq::NONE, |folded| folded.moved()),
                at,
            ));
        }
        if appends.is_empty() {
            return Ok(());
        }
        if self.disk.is_low() {
            return Err(RequestError::DiskLow);
        }
        let all = appends.iter().map(|(_, decided, decided_on, at)| {
            let stream = Stream::Order(decided.key.clone(), *decided_on);
            let events = decided.events.clone();
            let at = *at;
            self.ledger.append(Append { stream, at, events })
        });
        let appended = self.runtime.block_on(join_all(all));
        let mut failed = Ok(());
        for ((number, decided, ..), appended) in appends.into_iter().zip(appended) {
            match appended {
                Ok(_) => {
                    self.count(&decided.events);
                    outcomes.insert(number, decided.outcome(Outcome::Recorded));
                }
                Err(error @ (AppendError::TooLarge { .. } | AppendError::Unfit(_))) => {
                    let wrong = Some(error.to_string());
                    outcomes.insert(number, Decided { wrong, ..decided }.outcome(Outcome::Recorded));
                }
                Err(error) => failed = Err(error.into()),
            }
        }
        failed
    }

    /// What a line comes to on the order as it stands.
    fn decide(&self, told: Told, folded: Option<&Folded>, at: Micros) -> Result<Decided, (OrderKey, String)> {
        let Told {
            key,
            order: request,
            deposits: told,
        } = told;
        let Some(instance) = self.instances.get(&key.instance) else {
            let refusal = Refusal::new(ErrorCode::MerchantGenericInstanceUnknown);
            return Err((key, reason(&refusal)));
        };
        let merchant = &instance.merchant;
        let merchant_pub = merchant.merchant_pub();
        let mut events = match order::decide(folded, &request, &merchant_pub, self.config.currency, &self.by)
        {
            Ok(events) => events,
            Err(refusal) => return Err((key, reason(&refusal))),
        };
        let order = folded.and_then(Folded::order).map(AsRef::as_ref);
        let begun = match order {
            Some(_) => None,
            None => match Order::preview_begun(&key, at, &events) {
                Ok(order) => Some(order),
                Err(error) => return Err((key, error.to_string())),
            },
        };
        let configured = |exchange: &_| {
            self.config
                .exchanges
                .iter()
                .any(|configured| configured.master_key == *exchange)
        };
        let wrong = match deposits::decide(order.or(begun.as_ref()), &told, configured, merchant, &self.by) {
            Ok(more) => {
                events.extend(more);
                None
            }
            // As at the intake: the coins did reach the exchange, and an abort can give them back.
            Err(refusal) if refusal.code == ErrorCode::MerchantPostOrdersIdPayPaymentInsufficient => {
                let wrong = format!("{}; its order and deposits are recorded", reason(&refusal));
                events.extend(refusal.events);
                Some(wrong)
            }
            Err(refusal) => return Err((key, reason(&refusal))),
        };
        Ok(Decided { key, events, wrong })
    }

    fn count(&mut self, events: &[NewEvent]) {
        for event in events {
            match &event.facts {
                Facts::OrderRecorded(_) => self.summary.orders += 1,
                Facts::DepositRecorded(_) => self.summary.deposits += 1,
                Facts::PaymentCompleted(_) => self.summary.payments += 1,
                Facts::RefundCarriedIn(f) => {
                    self.summary.refunds += u64::try_from(f.rows.len()).unwrap_or(u64::MAX);
                }
                _ => {}
            }
        }
    }
}

impl Decided {
    /// `well`, if nothing is wrong.
    fn outcome(self, well: Outcome) -> Outcome {
        match self.wrong {
            None => well,
            Some(reason) => Outcome::Skipped {
                order: Some(self.key.to_string()),
                reason,
            },
        }
    }
}

/// Two of a million orders have one hash by chance once in forty million runs; one of them is then not judged.
fn hash(key: &OrderKey) -> [u8; 8] {
    let mut short = [0; 8];
    let hash = blake3::hash(key.to_string().as_bytes());
    short.copy_from_slice(&hash.as_bytes()[..8]);
    short
}
