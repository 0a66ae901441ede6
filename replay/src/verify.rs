//! Replays a ledger: one walk over all events, each judged first as an entry of the log and then in its order. Memory
//! grows with the number of orders and their open state, and by sixteen bytes an event.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_events::copy::{Copy, CopyError, StoredEvent};
use quittance_events::{Event, Facts, OrderKey};

use crate::case::{Case, SigningKeys, named_amounts};
use crate::findings::{Draft, Findings, Mark, Marks, Root};
use crate::fold::OrderFold;
use crate::index::{self, Filed};
use crate::log::Log;
use crate::open::{self, Opened};
use crate::parts::{Decision, Joiner, Pushed};
use crate::report::{Checked, Money, Report};
use crate::{
    Unusable, VerifyOptions, aborts, answers, approvals, exchange, notes, orders, rules, takeover, tiles,
};

/// Longest anchor that is read: a checkpoint with room for the signatures of many witnesses.
const ANCHOR_MAX: u64 = 64 * 1024;

/// Broken events whose order is looked up in the index: each costs a walk over it, and a ledger with more of them
/// has no sound order left to tell apart.
const LOOK_UPS_MAX: u32 = 20;

/// An order under replay.
#[derive(Default)]
pub(crate) struct Slot {
    number: Filed,
    marks: Marks,
    /// Nothing before its `order_recorded`.
    pub(crate) fold: Option<OrderFold>,
    /// That events came before it was told once.
    told_unborn: bool,
}

/// Judges decisions, one after the other. Also used for an excerpt of a ledger: a dispute file.
pub(crate) struct Audit<'a> {
    options: &'a VerifyOptions,
    pub(crate) findings: Findings,
    pub(crate) checked: Checked,
    money: BTreeMap<String, Money>,
    signing_keys: SigningKeys,
    pub(crate) orders: HashMap<OrderKey, Slot>,
    names: Vec<OrderKey>,
    filed: Vec<(i64, Option<Filed>)>,
    pub(crate) joiner: Joiner,
    /// The order whose deposits still wait for their extension.
    owing: Option<OrderKey>,
    /// Broken events whose order was looked up.
    looked_up: u32,
}

/// Stops the walk.
enum Stop {
    Unusable(Unusable),
    Damaged(CopyError),
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Stop {
        Stop::Damaged(error)
    }
}

/// Holds a ledger against every rule.
///
/// # Errors
/// There is nothing to report on; see [`Unusable`]. Damage inside a ledger is a finding, not an error.
pub fn verify(options: &VerifyOptions) -> Result<Report, Unusable> {
    let anchor = options
        .anchor
        .as_ref()
        .map(|path| read_anchor(path))
        .transpose()?;
    let mut audit = Audit::new(options);
    let opened = open::open(&options.ledger)?;
    let mut log = Log::new(options, std::iter::empty());
    let mut anchored = None;
    match &opened {
        Opened::Damaged(why) => {
            audit.damaged(why);
        }
        Opened::Readable {
            copy, wal_missing, ..
        } => {
            if *wal_missing {
                audit.findings.note(
                    None,
                    None,
                    "the file's header says WAL, and there is no -wal beside it: if it was copied from a running \
                     service without its -wal, its last events are missing here",
                );
            }
            anchored = audit.replay(copy, anchor.as_deref(), &mut log)?;
        }
    }
    audit.checked.orders =
        u64::try_from(audit.orders.values().filter(|slot| slot.fold.is_some()).count()).unwrap_or(0);
    let (findings, findings_unlisted, notes) = audit.findings.finish();
    Ok(Report {
        ledger: options.ledger.display().to_string(),
        origin: log.origin.clone(),
        event_key: log.event_vkey(options).map(|key| key.to_string()),
        key_pinned: options.ledger_key.is_some(),
        anchored,
        checked: audit.checked,
        money: audit.money,
        notes,
        findings,
        findings_unlisted,
    })
}

fn read_anchor(path: &std::path::Path) -> Result<String, Unusable> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(ANCHOR_MAX).read_to_end(&mut bytes))
        .map_err(|e| Unusable::unreadable(path, e))?;
    // What is no text is no checkpoint; that is told as such.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl<'a> Audit<'a> {
    pub(crate) fn new(options: &'a VerifyOptions) -> Audit<'a> {
        Audit {
            options,
            findings: Findings::default(),
            checked: Checked::default(),
            money: BTreeMap::new(),
            signing_keys: SigningKeys::default(),
            orders: HashMap::new(),
            names: Vec::new(),
            filed: Vec::new(),
            joiner: Joiner::default(),
            owing: None,
            looked_up: 0,
        }
    }

    fn damaged(&mut self, why: &str) -> Root {
        self.findings.add(Draft::of_file(&rules::LOG_FILE, why), None)
    }

    fn replay(&mut self, copy: &Copy, anchor: Option<&str>, log: &mut Log) -> Result<Option<u64>, Unusable> {
        for lines in [copy.integrity(), copy.schema_differences()] {
            match lines {
                // One damaged page has many lines; they are one fault.
                Ok(lines) => {
                    let mut root = None;
                    for line in lines {
                        root = Some(self.findings.add(Draft::of_file(&rules::LOG_FILE, line), root));
                    }
                }
                Err(error) => {
                    self.damaged(&error.to_string());
                }
            }
        }
        let checkpoints = copy.checkpoints().unwrap_or_else(|error| {
            self.damaged(&format!("checkpoints: {error}"));
            Vec::new()
        });
        let stored_sizes = checkpoints
            .iter()
            .filter_map(|(size, _)| u64::try_from(*size).ok());
        *log = Log::new(
            self.options,
            stored_sizes.chain(anchor.and_then(notes::claimed_size)),
        );
        let walked = copy.walk::<Stop>(|item| match item {
            Ok(stored) => self.stored(copy, stored, log).map_err(Stop::Unusable),
            Err(orphan) => {
                let seq = u64::try_from(orphan.seq).unwrap_or(0);
                let text = format!("{} is stored behind an event that is not there", orphan.name);
                let cause = self.findings.place_up_to(seq);
                self.findings
                    .add(Draft::new(&rules::LOG_ATTACHMENTS, seq, text), cause);
                Ok(())
            }
        });
        match walked {
            Ok(()) => {}
            Err(Stop::Unusable(unusable)) => return Err(unusable),
            Err(Stop::Damaged(error)) => {
                let root = self.damaged(&format!(
                    "events cannot be read beyond event {}: {error}",
                    log.count
                ));
                self.findings.mark_place(log.count + 1, root);
                self.findings.all_orders = self.findings.all_orders.or(Some(root));
            }
        }
        let rest = self.joiner.end();
        self.judge(rest, log);
        self.settle_owing(None);
        log.pin(self.options, &mut self.findings);
        log.erasures.untold(&mut self.findings);
        self.checkpoints(&checkpoints, log);
        let anchored = anchor
            .and_then(|note| notes::check_note(&rules::LOG_ANCHOR, note, None, log, &mut self.findings));
        if let Some(after) = anchored
            .and_then(|size| log.count.checked_sub(size))
            .filter(|after| *after > 0)
        {
            let text =
                format!("{after} events are newer than the anchor; a cut among them would not be seen");
            self.findings.note(None, None, text);
        }
        let open = self.orders.iter().flat_map(|(key, slot)| {
            let open = slot.fold.iter().flat_map(|fold| &fold.open);
            open.map(|(coin, id)| (key.clone(), coin.as_bytes().to_vec(), id.sql()))
        });
        let open: BTreeSet<_> = open.collect();
        let wanted = index::Wanted {
            filed: &self.filed,
            orders: &self.names,
            open,
        };
        if let Err(error) = index::check(copy, log, wanted, &mut self.findings) {
            self.damaged(&format!("indexes: {error}"));
        }
        if let Err(error) = tiles::check(copy, &log.tiles, &mut self.findings) {
            self.damaged(&format!("hash tiles: {error}"));
        }
        let given = self.options.predecessor.as_deref();
        takeover::check(copy, log.predecessor.as_ref(), given, &mut self.findings)?;
        Ok(anchored)
    }

    fn checkpoints(&mut self, checkpoints: &[(i64, String)], log: &Log) {
        let newest = checkpoints.iter().map(|(size, _)| *size).max();
        for (size, note) in checkpoints {
            let size = u64::try_from(*size).unwrap_or(0);
            if notes::check_note(&rules::LOG_TREE, note, Some(size), log, &mut self.findings).is_some() {
                self.checked.checkpoints += 1;
            }
        }
        if newest.is_none() {
            self.findings.note(None, None, "the ledger holds no checkpoint");
        }
    }

    fn stored(&mut self, copy: &Copy, stored: StoredEvent, log: &mut Log) -> Result<(), Unusable> {
        let seq = stored.seq;
        let taken = log.take(stored, &mut self.findings, &mut self.checked)?;
        let in_doubt = u64::try_from(seq)
            .ok()
            .and_then(|seq| self.findings.place_at(seq));
        if let Some(root) = in_doubt {
            self.mark_filed_order(copy, seq, root);
        }
        match taken {
            Ok(decision) => {
                if let Facts::AttachmentErased(f) = &decision.event.facts {
                    // Read by its number: what is damaged there is told where it stands.
                    let target = (f.seq.get() < decision.first())
                        .then(|| copy.event(f.seq.sql()).ok().flatten())
                        .flatten()
                        .and_then(|stored| Event::parse(&stored.sealed).ok());
                    log.erasures
                        .told(target.as_ref(), &decision, f, &mut self.findings);
                }
                let key = decision.event.order_key();
                let number = key.as_ref().map_or(0, |key| self.slot(key).number);
                self.filed.push((seq, Some(number)));
                if let (Some(key), Some(root)) = (&key, decision.root) {
                    self.slot(key).marks.set(Mark::Whole, root);
                }
                let pushed = self.joiner.push(decision);
                self.judge(pushed, log);
            }
            Err((key, root)) => {
                self.filed.push((seq, None));
                let rest = self.joiner.end();
                self.judge(rest, log);
                match key {
                    Some(key) => self.slot(&key).marks.set(Mark::Whole, root),
                    None => self.findings.all_orders = self.findings.all_orders.or(Some(root)),
                }
            }
        }
        Ok(())
    }

    /// Bytes in doubt may name a wrong order: the index tells in which one they are missing.
    fn mark_filed_order(&mut self, copy: &Copy, seq: i64, root: Root) {
        self.looked_up += 1;
        if self.looked_up > LOOK_UPS_MAX {
            self.findings.all_orders = self.findings.all_orders.or(Some(root));
            return;
        }
        let mut filed = None;
        let walked = copy.walk_index::<CopyError>(|found, names| {
            if found == seq {
                filed = names;
            }
            Ok(())
        });
        let key = filed.and_then(|(instance, order)| {
            Some(OrderKey {
                instance: instance.parse().ok()?,
                order: order.parse().ok()?,
            })
        });
        match (walked, key) {
            (Ok(()), Some(key)) => self.slot(&key).marks.set(Mark::Whole, root),
            (Ok(()), None) => {}
            // That the index cannot be read is told when it is compared.
            (Err(_), _) => self.findings.all_orders = self.findings.all_orders.or(Some(root)),
        }
    }

    fn slot(&mut self, key: &OrderKey) -> &mut Slot {
        if !self.orders.contains_key(key) {
            self.names.push(key.clone());
            let number = Filed::try_from(self.names.len()).expect("a file holds fewer than 2^32 orders");
            self.orders.insert(
                key.clone(),
                Slot {
                    number,
                    ..Slot::default()
                },
            );
        }
        self.orders.get_mut(key).expect("it was put there")
    }

    pub(crate) fn judge(&mut self, pushed: Pushed, log: &Log) {
        let mut root = None;
        for (seq, what) in pushed.wrong {
            let cause = root
                .or_else(|| pushed.ready.iter().find_map(|decision| decision.root))
                .or(self.findings.all_orders);
            let ready = pushed.ready.first();
            let key = ready.and_then(|decision| decision.event.order_key());
            let amounts = ready
                .map(|decision| named_amounts(&decision.event.facts))
                .unwrap_or_default();
            let cause = cause.or_else(|| self.orders.get(key.as_ref()?)?.marks.cause(&[]));
            let draft = Draft::new(&rules::LOG_PARTS, seq, what)
                .of(key.as_ref())
                .stake(amounts);
            let told = self.findings.add(draft, cause);
            root = Some(told);
            if let Some(key) = key {
                self.slot(&key).marks.set(Mark::Whole, told);
            }
        }
        for decision in pushed.ready {
            if let Some(key) = decision.event.order_key() {
                self.settle_owing(Some((&key, &decision)));
                self.in_order(&key, &decision, log);
                continue;
            }
            self.settle_owing(None);
            if let Facts::ExchangeKeysSeen(f) = &decision.event.facts {
                exchange::keys_seen(f, &decision, &mut self.signing_keys, &mut self.findings);
            }
        }
    }

    /// A commit is over when the next event is another order's or of another time: what it owes now stays owed.
    pub(crate) fn settle_owing(&mut self, next: Option<(&OrderKey, &Decision)>) {
        let Some(key) = self.owing.take() else { return };
        let Some(Slot {
            fold: Some(fold),
            marks,
            ..
        }) = self.orders.get_mut(&key)
        else {
            return;
        };
        let same_commit = next.is_some_and(|(next_key, next)| {
            *next_key == key && next.first() == fold.last + 1 && next.event.at_us == fold.last_at
        });
        if same_commit {
            self.owing = Some(key);
            return;
        }
        for (seq, coin, amount) in aborts::left_owing(fold) {
            let text = format!("the late deposit of coin {coin} is not given back");
            let draft = Draft::new(&rules::ABORT_LATE_DEPOSIT, seq, text)
                .of(Some(&key))
                .stake([amount]);
            let cause = marks
                .cause(&[Mark::Coin(coin), Mark::Payment])
                .or(self.findings.all_orders);
            let root = self.findings.add(draft, cause);
            marks.set(Mark::Coin(coin), root);
        }
    }

    fn in_order(&mut self, key: &OrderKey, decision: &Decision, log: &Log) {
        self.slot(key);
        let slot = self.orders.get_mut(key).expect("the slot was just made");
        let mut case = Case {
            decision,
            key,
            findings: &mut self.findings,
            marks: &mut slot.marks,
            checked: &mut self.checked,
            money: &mut self.money,
            signing_keys: &self.signing_keys,
            exchange_keys: &self.options.exchange_keys,
        };
        let (first, last, at) = (decision.first(), decision.last, decision.event.at_us);
        let facts = &decision.event.facts;
        let Some(order) = &mut slot.fold else {
            if let Facts::OrderRecorded(terms) = facts {
                orders::recorded(terms, &mut case);
                slot.fold = Some(OrderFold::new(key.clone(), terms.clone(), first, at));
            } else if !slot.told_unborn {
                slot.told_unborn = true;
                let draft = case
                    .draft(
                        &rules::ORDER_BEGIN,
                        format!("a {} before the order is recorded", facts.kind()),
                    )
                    .stake(named_amounts(facts));
                case.find(draft, &[], &[Mark::Whole]);
            }
            return;
        };
        // A clock correction starts the comparison anew.
        if at < order.last_at && order.last > log.epoch {
            let draft = case
                .draft(
                    &rules::LOG_TIME,
                    "it lies before the event before it of the same order",
                )
                .differs(format!("at least {}", order.last_at.get()), at.get())
                .stake(named_amounts(facts));
            case.find(draft, &[], &[]);
        }
        match facts {
            Facts::OrderRecorded(terms) => {
                let draft = case
                    .draft(&rules::ORDER_BEGIN, "the order is recorded already")
                    .stake([terms.amount]);
                case.find(draft, &[], &[]);
            }
            Facts::DepositRecorded(f) => orders::deposited(order, f, &mut case),
            Facts::PaymentCompleted(f) => orders::paid(order, f, &mut case),
            Facts::RefundCarriedIn(f) => approvals::carried_in(order, f, &mut case),
            Facts::RefundApproved(f) => approvals::approved(order, f, log.generation(), &mut case),
            Facts::RefundRequested(f) => approvals::requested(order, f, &mut case),
            Facts::AbortRequested(f) => aborts::requested(order, f, &mut case),
            Facts::AbortExtended(f) => aborts::extended(order, f, &mut case),
            Facts::AbortRefused(f) => aborts::refused(order, f, &mut case),
            Facts::ExchangeReplied(f) => exchange::replied(order, f, &mut case),
            Facts::ExchangeUnreached(f) => exchange::unreached(order, f, &mut case),
            Facts::RefundAnswered(f) => answers::refund(order, f, &mut case),
            Facts::AbortAnswered(f) => answers::abort(order, f, &mut case),
            Facts::RefundDelivered(f) => answers::delivered(order, f, &mut case),
            Facts::AttachmentErased(f) => order.erased(f.seq.get()),
            // The form of the event is told of by the log's rules.
            Facts::LedgerOpened(_)
            | Facts::InstanceAdded(_)
            | Facts::InstanceClosed(_)
            | Facts::ExchangeKeysSeen(_)
            | Facts::ClockCorrected(_)
            | Facts::LedgerKeyRotated(_)
            | Facts::FormatRaised(_) => return,
        }
        order.advance(first, last, at, facts.moves_order());
        if !order.owed.is_empty() {
            self.owing = Some(key.clone());
        }
    }
}
