//! Replays a ledger: one walk over all events, each judged first as an entry of the log and then in its order.
//! Memory grows by sixteen bytes an event and some two hundred an order; all else is bounded (`book.rs`,
//! `pipeline.rs`).

use std::collections::BTreeMap;

use quittance_events::copy::{Copy, CopyError};
use quittance_events::seal::EventPub;
use quittance_events::{Event, Facts, OrderKey};
use quittance_taler::{Amount, Digest32};

use crate::accounts::Accounts;
use crate::book::{Book, STATES_KEPT, Source};
use crate::case::{Case, SigningKeys, named_amounts};
use crate::findings::{Draft, Findings, Mark, Root};
use crate::fold::amount_of;
use crate::instances::Instances;
use crate::judge::{Ledger, judge};
use crate::keys::LedgerKeys;
use crate::log::Log;
use crate::open::{self, Opened, read_text};
use crate::parts::{Decision, Joiner, Pushed};
use crate::pipeline::{self, Item, KeyGuess};
use crate::prepare::Prepared;
use crate::receipts::{self, Found};
use crate::report::{Checked, Money, Report};
use crate::{Unusable, VerifyOptions, cosigned, exchange, index, notes, owed, rules, takeover, tiles};

/// Longest anchor or checkpoint that is read: one with room for the signatures of many witnesses.
const NOTE_MAX: u64 = 64 * 1024;

/// Broken events whose order is looked up in the index: each costs a walk over it, and a ledger with more of them
/// has no sound order left to tell apart.
const LOOK_UPS_MAX: u32 = 20;

struct Audit<'a> {
    options: &'a VerifyOptions,
    copy: &'a Copy,
    log: Log,
    findings: Findings,
    checked: Checked,
    money: BTreeMap<String, Money>,
    signing_keys: SigningKeys,
    accounts: Accounts,
    instances: Instances,
    book: Book,
    joiner: Joiner,
    /// The order of which a commit still calls for something.
    owing: Option<OrderKey>,
    /// Broken events whose order was looked up.
    looked_up: u32,
    /// What stands where receipts say that their answers are.
    receipted: BTreeMap<u64, Option<Found>>,
    /// The last event that is looked at.
    upto: i64,
}

/// Stops the walk.
enum Stop {
    Unusable(Unusable),
    Damaged(CopyError),
    /// What is asked for is seen.
    Enough,
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Stop {
        Stop::Damaged(error)
    }
}

/// Notes from outside to hold the ledger against.
struct Given {
    anchor: Option<String>,
    since: Option<String>,
}

impl Given {
    fn read(options: &VerifyOptions) -> Result<Given, Unusable> {
        let read = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map(|path| read_text(path, NOTE_MAX)).transpose()
        };
        let since = read(&options.since)?;
        if let (Some(path), Some(note)) = (&options.since, &since)
            && notes::claimed(note).is_none()
        {
            return Err(Unusable::NoCheckpoint(path.display().to_string()));
        }
        Ok(Given {
            anchor: read(&options.anchor)?,
            since,
        })
    }

    /// Sizes at which the root must be known.
    fn sizes(&self) -> impl Iterator<Item = u64> {
        [&self.anchor, &self.since]
            .into_iter()
            .filter_map(|note| Some(notes::claimed(note.as_deref()?)?.size))
    }
}

/// Holds a ledger against every rule.
///
/// # Errors
/// There is nothing to report on; see [`Unusable`]. Damage inside a ledger is a finding, not an error.
pub fn verify(options: &VerifyOptions) -> Result<Report, Unusable> {
    verify_watched(options, |_, _| {})
}

/// Likewise; `watch` is told now and then how many events are judged, and of how many.
///
/// # Errors
/// As [`verify`].
pub fn verify_watched(options: &VerifyOptions, watch: impl FnMut(u64, u64)) -> Result<Report, Unusable> {
    let given = Given::read(options)?;
    let mut report = Report {
        ledger: options.ledger.display().to_string(),
        key_pinned: options.ledger_key.is_some(),
        fast: options.fast,
        ..Report::default()
    };
    let mut findings = Findings::default();
    match open::open(&options.ledger)? {
        Opened::Damaged(why) => {
            findings.add(Draft::of_file(&rules::LOG_FILE, why), None);
        }
        Opened::Readable {
            copy,
            second,
            wal_missing,
            folder: _folder,
        } => {
            if wal_missing {
                findings.note(
                    None,
                    None,
                    "the file's header says WAL, and there is no -wal beside it: if it was copied from a running \
                     service without its -wal, its last events are missing here",
                );
            }
            let as_of = options.as_of.map(|as_of| as_of.last(&copy)).transpose()?;
            let mut audit = Audit {
                options,
                copy: &copy,
                log: Log::new(options, given.sizes()),
                findings,
                checked: Checked::default(),
                money: BTreeMap::new(),
                signing_keys: SigningKeys::default(),
                accounts: Accounts::default(),
                instances: Instances::default(),
                book: Book::new(options.states_kept.unwrap_or(STATES_KEPT)),
                joiner: Joiner::default(),
                owing: None,
                looked_up: 0,
                receipted: options
                    .receipts
                    .iter()
                    .map(|receipt| (receipt.seq.get(), None))
                    .collect(),
                upto: as_of.unwrap_or(i64::MAX),
            };
            report.as_of = as_of.and_then(|seq| u64::try_from(seq).ok());
            audit.replay(*second, watch)?;
            audit.compare(&given, &mut report)?;
            audit.checked.orders = u64::try_from(audit.book.born()).unwrap_or(u64::MAX);
            report.origin.clone_from(&audit.log.origin);
            report.event_key = audit.log.event_vkey(options).map(|key| key.to_string());
            (report.checked, report.money) = (audit.checked, audit.money);
            findings = audit.findings;
        }
    }
    (report.findings, report.findings_unlisted, report.notes) = findings.finish();
    Ok(report)
}

impl Audit<'_> {
    fn damaged(&mut self, why: &str) -> Root {
        self.findings.add(Draft::of_file(&rules::LOG_FILE, why), None)
    }

    fn is_whole(&self) -> bool {
        self.upto == i64::MAX
    }

    /// The walk over all events.
    fn replay(&mut self, reader: Copy, mut watch: impl FnMut(u64, u64)) -> Result<(), Unusable> {
        let copy = self.copy;
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
        // Where it cannot be read, neither can the events.
        let last = copy.last_seq().unwrap_or(0).min(self.upto);
        let last = u64::try_from(last).unwrap_or(0);
        let mut stored_notes = notes::Stored::new(copy);
        let guess = KeyGuess::new(self.first_key());
        let walked = pipeline::walk(reader, &guess, self.options.fast, |items| {
            for item in items {
                match item {
                    Item::Event(stored) if stored.seq > self.upto => return Err(Stop::Enough),
                    Item::Event(stored) => {
                        self.stored(*stored)?;
                        if let Err(error) = stored_notes.reach(&self.log) {
                            self.damaged(&format!("checkpoints: {error}"));
                        }
                    }
                    Item::Orphan(orphan) if orphan.seq > self.upto => return Err(Stop::Enough),
                    Item::Orphan(orphan) => {
                        let seq = u64::try_from(orphan.seq).unwrap_or(0);
                        let text = format!("{} is stored behind an event that is not there", orphan.name);
                        let cause = self.findings.place_up_to(seq);
                        self.findings
                            .add(Draft::new(&rules::LOG_ATTACHMENTS, seq, text), cause);
                    }
                }
            }
            guess.set(self.log.event_key());
            watch(self.log.count, last);
            Ok(())
        });
        match walked {
            Ok(()) | Err(Stop::Enough) => {}
            Err(Stop::Unusable(unusable)) => return Err(unusable),
            Err(Stop::Damaged(error)) => {
                let count = self.log.count;
                let root = self.damaged(&format!("events cannot be read beyond event {count}: {error}"));
                self.findings.mark_place(count + 1, root);
                self.findings.all_orders = self.findings.all_orders.or(Some(root));
            }
        }
        self.last_decision()?;
        self.pin();
        if self.is_whole() {
            self.log.erasures.untold(&mut self.findings);
        }
        match stored_notes.end(self.is_whole(), &self.log, &mut self.findings) {
            Ok(sound) => self.checked.checkpoints = sound,
            Err(error) => {
                self.damaged(&format!("checkpoints: {error}"));
            }
        }
        Ok(())
    }

    /// Whether the auditor's key is one of the ledger's. Of a past state it may have come into force later.
    fn pin(&mut self) {
        let pinned = self.options.ledger_key.as_ref();
        let came_later = !self.is_whole()
            && LedgerKeys::read(self.copy)
                .is_ok_and(|keys| keys.event_vkeys().any(|key| Some(&key) == pinned));
        if !came_later {
            self.log.pin(self.options, &mut self.findings);
        }
    }

    /// The event key that the first event names, whether or not that event is sound.
    fn first_key(&self) -> Option<EventPub> {
        let first = self.copy.events_after(i64::MIN, 1).ok()?.pop()?;
        match Event::parse(&first.sealed).ok()?.facts {
            Facts::LedgerOpened(genesis) => Some(EventPub::new(genesis.event_key)),
            _ => self.log.event_key(),
        }
    }

    /// What is under way when the events end. In a past state nobody can say whether it was going to be complete.
    fn last_decision(&mut self) -> Result<(), Unusable> {
        let rest = self.joiner.end();
        if self.is_whole() {
            self.judge(rest)?;
            return self.settle_owing(None);
        }
        if let Some(cut) = rest.ready.first() {
            let (first, key) = (cut.first(), cut.event.order_key());
            self.findings.note(
                Some(first),
                key.as_ref(),
                "this decision's later parts come after the state looked at: it is not judged",
            );
        }
        if let Some(key) = self.owing.take() {
            let text = "the last commit calls for more (a late deposit for its way back, a contract for its claim, a \
                        confirmation for its deposits); whether it came shows after the state looked at";
            self.findings.note(None, Some(&key), text);
        }
        Ok(())
    }

    /// What is compared once all events are known.
    fn compare(&mut self, given: &Given, report: &mut Report) -> Result<(), Unusable> {
        if let Some(note) = &given.since {
            report.since = self.since(note);
        }
        if self.is_whole() {
            if let Some(note) = &given.anchor {
                report.anchored =
                    notes::check_given(&rules::LOG_ANCHOR, note, &[], &self.log, &mut self.findings);
            }
            if let Some(after) = report
                .anchored
                .and_then(|size| self.log.count.checked_sub(size))
                .filter(|after| *after > 0)
            {
                let text =
                    format!("{after} events are newer than the anchor; a cut among them would not be seen");
                self.findings.note(None, None, text);
            }
            if let Err(error) = index::check(self.copy, &self.log, &self.book, &mut self.findings) {
                self.damaged(&format!("indexes: {error}"));
            }
            match cosigned::check(self.copy, &self.options.witnesses, &mut self.findings) {
                Ok(witnesses) => report.witnesses = witnesses,
                Err(error) => {
                    self.damaged(&format!("cosignatures: {error}"));
                }
            }
            if let Err(error) = tiles::check(self.copy, &self.log.tiles, &mut self.findings) {
                self.damaged(&format!("hash tiles: {error}"));
            }
            let (named, given) = (self.log.predecessor.as_ref(), self.options.predecessor.as_deref());
            takeover::check(self.copy, named, given, &mut self.findings)?;
        } else {
            let text = "of a past state, anchor, indexes, projections, predecessor and later checkpoints say nothing, nor what was \
                        erased later: not compared";
            self.findings.note(None, None, text);
        }
        self.receipts();
        Ok(())
    }

    /// The checkpoint of an earlier audit.
    fn since(&mut self, note: &str) -> Option<u64> {
        let claimed = notes::claimed(note)?;
        if !self.is_whole() && claimed.size > self.log.count {
            let text = format!(
                "the checkpoint of the earlier audit speaks of {} events, more than the state looked at: not compared",
                claimed.size
            );
            self.findings.note(None, None, text);
            return None;
        }
        let stake: Vec<Amount> = self
            .money
            .iter()
            .filter_map(|(currency, money)| Some(amount_of(currency.parse().ok()?, money.deposited.0)))
            .collect();
        notes::check_given(&rules::LOG_SINCE, note, &stake, &self.log, &mut self.findings)
    }

    fn receipts(&mut self) {
        for receipt in &self.options.receipts {
            let seq = receipt.seq.get();
            if !receipts::is_of(receipt, &self.log.keys) {
                let text = "a receipt given for this event is not signed by an event key of the ledger that was in force \
                            then or later: it proves nothing";
                self.findings.note(Some(seq), None, text);
                continue;
            }
            if !self.is_whole() && seq > u64::try_from(self.upto).unwrap_or(0) {
                let text = "a receipt given for this event is of a later state: not compared";
                self.findings.note(Some(seq), None, text);
                continue;
            }
            let found = self.receipted.get(&seq).and_then(Option::as_ref);
            match receipts::compare(receipt, found, None) {
                None => self.checked.receipts += 1,
                Some(draft) => {
                    let cause = self.findings.place_up_to(seq);
                    self.findings.add(draft, cause);
                }
            }
        }
    }

    fn stored(&mut self, stored: Prepared) -> Result<(), Stop> {
        let row = stored.seq;
        let digest = stored.digest;
        let taken = self
            .log
            .take(stored, &mut self.findings, &mut self.checked)
            .map_err(Stop::Unusable)?;
        let seq = u64::try_from(row).ok();
        if let Some(root) = seq.and_then(|seq| self.findings.place_at(seq)) {
            self.mark_filed_order(row, root);
        }
        let event = taken.as_ref().ok().map(|decision| &decision.event);
        self.keep_receipted(seq, digest, event);
        match taken {
            Ok(decision) => {
                if let Facts::AttachmentErased(f) = &decision.event.facts {
                    // Read by its number: what is damaged there is told where it stands.
                    let target = (f.seq.get() < decision.first())
                        .then(|| self.copy.event(f.seq.sql()).ok().flatten())
                        .flatten()
                        .and_then(|stored| Event::parse(&stored.sealed).ok());
                    let erasures = &mut self.log.erasures;
                    erasures.told(target.as_ref(), &decision, f, &mut self.findings);
                }
                let key = decision.event.order_key();
                let number = key.as_ref().map_or(0, |key| self.book.number(key));
                self.book.file(row, Some(number));
                if let (Some(root), true) = (decision.root, number > 0) {
                    self.book.slot(number).marks.set(Mark::Whole, root);
                }
                let pushed = self.joiner.push(decision);
                self.judge(pushed)
            }
            Err((key, root)) => {
                self.book.file(row, None);
                let rest = self.joiner.end();
                let judged = self.judge(rest);
                match key {
                    Some(key) => self.mark_order(&key, root),
                    None => self.findings.all_orders = self.findings.all_orders.or(Some(root)),
                }
                judged
            }
        }
        .map_err(Stop::Unusable)
    }

    fn keep_receipted(&mut self, seq: Option<u64>, digest: Digest32, event: Option<&Event>) {
        if let Some(place) = seq.and_then(|seq| self.receipted.get_mut(&seq)) {
            *place = Some(Found::new(digest, event));
        }
    }

    fn mark_order(&mut self, key: &OrderKey, root: Root) {
        let number = self.book.number(key);
        self.book.slot(number).marks.set(Mark::Whole, root);
    }

    /// Bytes in doubt may name a wrong order: the index tells in which one they are missing.
    fn mark_filed_order(&mut self, seq: i64, root: Root) {
        self.looked_up += 1;
        if self.looked_up > LOOK_UPS_MAX {
            self.findings.all_orders = self.findings.all_orders.or(Some(root));
            return;
        }
        let mut filed = None;
        let walked = self.copy.walk_index::<CopyError>(|found, names| {
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
            (Ok(()), Some(key)) => self.mark_order(&key, root),
            (Ok(()), None) => {}
            // That the index cannot be read is told when it is compared.
            (Err(_), _) => self.findings.all_orders = self.findings.all_orders.or(Some(root)),
        }
    }

    fn judge(&mut self, pushed: Pushed) -> Result<(), Unusable> {
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
            let cause = cause.or_else(|| self.book.find(key.as_ref()?)?.marks.cause(&[]));
            let draft = Draft::new(&rules::LOG_PARTS, seq, what)
                .of(key.as_ref())
                .stake(amounts);
            let told = self.findings.add(draft, cause);
            root = Some(told);
            if let Some(key) = key {
                self.mark_order(&key, told);
            }
        }
        for decision in pushed.ready {
            if let Some(key) = decision.event.order_key() {
                self.settle_owing(Some((&key, &decision)))?;
                self.in_order(&key, &decision)?;
                continue;
            }
            self.settle_owing(None)?;
            if let Facts::ExchangeKeysSeen(f) = &decision.event.facts {
                exchange::keys_seen(f, &decision, &mut self.signing_keys, &mut self.findings);
            }
            self.accounts.take(&decision, &mut self.findings);
            self.instances.take(&decision, &mut self.findings);
        }
        Ok(())
    }

    /// A commit is over when the next event is another order's or of another time: what it owes now stays owed.
    fn settle_owing(&mut self, next: Option<(&OrderKey, &Decision)>) -> Result<(), Unusable> {
        let Some(key) = self.owing.take() else {
            return Ok(());
        };
        let number = self.book.number(&key);
        let before = next.map_or(i64::MAX, |(_, next)| next.row);
        let state = self.with_book(|book, source| book.take_last(number, before, source))?;
        let Some(mut state) = state else { return Ok(()) };
        if next.is_some_and(|(next_key, next)| {
            *next_key == key && state.is_same_commit(next.first(), next.event.at_us)
        }) {
            self.owing = Some(key);
        } else {
            let marks = &mut self.book.slot(number).marks;
            owed::tell(&key, owed::left(&mut state), marks, &mut self.findings);
        }
        self.book.put(number, Some(state));
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            epoch: self.log.epoch,
            generation: self.log.generation(),
            taking_over: self.log.taking_over,
        }
    }

    /// Asks the book with all that it may need to fold a state anew.
    fn with_book<T>(
        &mut self,
        ask: impl FnOnce(&mut Book, &Source) -> Result<T, CopyError>,
    ) -> Result<T, Unusable> {
        let source = Source {
            copy: self.copy,
            signing_keys: &self.signing_keys,
            exchange_keys: &self.options.exchange_keys,
            accounts: &self.accounts,
            instances: &self.instances,
            ledger: self.ledger(),
        };
        ask(&mut self.book, &source).map_err(|e| Unusable::unreadable(&self.options.ledger, e))
    }

    fn in_order(&mut self, key: &OrderKey, decision: &Decision) -> Result<(), Unusable> {
        let number = self.book.number(key);
        let mut state = self.with_book(|book, source| book.take(number, decision, source))?;
        let ledger = self.ledger();
        let slot = self.book.slot(number);
        let mut case = Case {
            decision,
            key,
            findings: &mut self.findings,
            marks: &mut slot.marks,
            checked: &mut self.checked,
            money: &mut self.money,
            signing_keys: &self.signing_keys,
            exchange_keys: &self.options.exchange_keys,
            accounts: &self.accounts,
            instances: &self.instances,
            is_again: false,
        };
        judge(&mut state, &mut slot.told_unborn, ledger, &mut case);
        if state.as_ref().is_some_and(|order| !order.owed.is_empty()) {
            self.owing = Some(key.clone());
        }
        self.book.put(number, state);
        Ok(())
    }
}
