//! Rules of the log itself, event by event: numbers, chain, signatures, canonical form, times, attachments, tree.
//! Every stored byte is hashed again, always.

use std::collections::{BTreeMap, BTreeSet};

use quittance_events::copy::StoredAttachment;
use quittance_events::event::{FIRST_VERSION, FORMAT_VERSION};
use quittance_events::facts::{Authority, KeyRole, Predecessor};
use quittance_events::seal::{self, EventPub};
use quittance_events::{AttachmentName, Event, Facts, OrderKey};
use quittance_taler::{Digest32, Micros};
use quittance_tlog::{Frontier, Hash, VerifierKey};

use crate::case::named_amounts;
use crate::erased::Erasures;
use crate::findings::{Draft, Findings, Root};
use crate::keys::{LedgerKeys, vkey};
use crate::parts::{Attachment, Decision};
use crate::prepare::{self, Hashed, Prepared};
use crate::report::Checked;
use crate::rules::{self, Rule};
use crate::tiles::FullTiles;
use crate::tokens::Tokens;
use crate::{Unusable, VerifyOptions};

/// How far an event may lie before the latest time so far.
const BACK_MAX_S: u64 = 60;

/// What stays in doubt at the place of a broken event.
struct AtEvent<'a> {
    seq: u64,
    event: Option<&'a Event>,
    order: Option<OrderKey>,
    root: Option<Root>,
    findings: &'a mut Findings,
}

impl AtEvent<'_> {
    /// The first finding about an event's bytes is the root of the others.
    fn find(
        &mut self,
        rule: &'static Rule,
        text: impl Into<String>,
        expected: String,
        found: String,
    ) -> Root {
        let amounts = self
            .event
            .map(|event| named_amounts(&event.facts))
            .unwrap_or_default();
        let draft = Draft::new(rule, self.seq, text)
            .of(self.order.as_ref())
            .differs(expected, found)
            .stake(amounts);
        let root = self.findings.add(draft, self.root);
        self.root = Some(root);
        root
    }
}

/// The log as read so far.
pub(crate) struct Log {
    /// Events read.
    pub(crate) count: u64,
    last_seq: u64,
    prev: Digest32,
    pub(crate) frontier: Frontier,
    pub(crate) tiles: FullTiles,
    /// Greatest time since the last clock correction.
    pub(crate) greatest_at: Micros,
    /// The last clock correction.
    pub(crate) epoch: u64,
    pub(crate) origin: Option<String>,
    pub(crate) keys: LedgerKeys,
    pub(crate) erasures: Erasures,
    /// The event format of the next event.
    version: u64,
    tokens: Tokens,
    /// The ledger that this one says it continues.
    pub(crate) predecessor: Option<Predecessor>,
    /// The events of a successor that repeat those of its predecessor's orders: they bear the time of the first event
    /// and stand before the first instance.
    pub(crate) taking_over: bool,
    /// Attachments that an excerpt of a ledger leaves out. Of an excerpt, what lies between its events is not known,
    /// so that neither gaps nor the chain over them can be judged; of a whole ledger, nothing.
    pub(crate) excerpt: Option<BTreeSet<(u64, AttachmentName)>>,
    /// Sizes whose roots are asked for, and the roots.
    pub(crate) roots: BTreeMap<u64, Option<Hash>>,
}

impl Log {
    /// `sizes`: where checkpoints and anchor want to know the root.
    pub(crate) fn new(options: &VerifyOptions, sizes: impl Iterator<Item = u64>) -> Log {
        let pinned = options.ledger_key.as_ref();
        Log {
            count: 0,
            last_seq: 0,
            prev: seal::no_digest(),
            frontier: Frontier::default(),
            tiles: FullTiles::default(),
            greatest_at: Micros::from_s(0).expect("zero is a time"),
            epoch: 0,
            origin: None,
            keys: LedgerKeys::pinned(pinned),
            erasures: Erasures::default(),
            version: FIRST_VERSION,
            tokens: Tokens::default(),
            predecessor: None,
            taking_over: false,
            excerpt: None,
            roots: sizes.map(|size| (size, None)).collect(),
        }
    }

    /// The event key that stands in the report: the one that the auditor was given, where it was in force at any time,
    /// or else the first.
    pub(crate) fn event_vkey(&self, options: &VerifyOptions) -> Option<VerifierKey> {
        self.origin.as_ref()?;
        let pinned = options.ledger_key.as_ref();
        self.keys
            .event_vkeys()
            .find(|key| Some(key) == pinned)
            .or_else(|| self.keys.event_vkeys().next())
    }

    /// After the walk: whether the auditor's key was in force at any time.
    pub(crate) fn pin(&self, options: &VerifyOptions, findings: &mut Findings) {
        let Some(pinned) = options.ledger_key.as_ref().filter(|_| self.origin.is_some()) else {
            return;
        };
        if self.keys.event_vkeys().all(|key| key != *pinned) {
            let found = self.event_vkey(options);
            let found = found.map_or_else(String::new, |found| found.to_string());
            // A foreign key explains nothing else: what follows is judged under the ledger's own.
            let draft = Draft::new(&rules::LOG_KEY, 1, "the ledger is under another event key");
            findings.add(draft.differs(pinned, found), None);
        }
    }

    /// How often events were lost on the way to this ledger, as its first event has it.
    pub(crate) fn generation(&self) -> u64 {
        self.predecessor
            .as_ref()
            .and_then(|before| before.generation)
            .unwrap_or(0)
    }

    /// The event key in force, as far as the ledger has told by now.
    pub(crate) fn event_key(&self) -> Option<EventPub> {
        self.keys.seals(None)
    }

    /// Judges the next stored event. A decision comes back where the event can be read; otherwise the order that its
    /// bytes seem to name, with the root finding.
    pub(crate) fn take(
        &mut self,
        stored: Prepared,
        findings: &mut Findings,
        checked: &mut Checked,
    ) -> Result<Result<Decision, (Option<OrderKey>, Root)>, Unusable> {
        self.count += 1;
        checked.events += 1;
        let seq = u64::try_from(stored.seq).unwrap_or(0);
        let order = stored.order_key();
        let mut at = AtEvent {
            seq,
            event: stored.event.as_ref(),
            order: order.clone(),
            root: None,
            findings,
        };
        if let (1, Some(event)) = (self.count, &stored.event) {
            self.genesis(event, &mut at);
        }
        if self.excerpt.is_none() {
            self.numbers(seq, &mut at);
        }
        self.signature(&stored, &mut at, checked)?;
        if let Some(event) = &stored.event
            && event.prev != self.prev
            && (self.excerpt.is_none() || seq == self.last_seq + 1)
        {
            self.chain(event, seq, &mut at);
        }
        canonical(&stored, &mut at);
        if let Some(event) = &stored.event {
            // Up to here the greatest time is the first event's.
            self.taking_over &=
                event.at_us == self.greatest_at && !matches!(event.facts, Facts::InstanceAdded(_));
            self.names(event, &mut at);
            self.version(event, &mut at);
            self.rotation(event, &mut at);
            self.time(event, &mut at);
            if self.excerpt.is_none() {
                self.token(event, &mut at);
            }
        } else if self.count == 1 {
            at.find(
                &rules::LOG_GENESIS,
                "the first event cannot be read",
                String::new(),
                String::new(),
            );
        }
        let attachments = attachments(
            stored.event.as_ref(),
            stored.attachments,
            self.excerpt.as_ref(),
            &mut self.erasures,
            &mut at,
            checked,
        );
        let root = at.root;

        self.prev = stored.digest;
        self.last_seq = seq;
        let tiles = &mut self.tiles;
        self.frontier
            .push_with(stored.leaf, |node, hash| tiles.completed(node, hash));
        if let Some(wanted) = self.roots.get_mut(&self.count) {
            *wanted = Some(self.frontier.root());
        }
        Ok(match (stored.event, root) {
            (Some(event), root) => {
                let last = event.seq.get();
                Ok(Decision {
                    event,
                    row: stored.seq,
                    last,
                    attachments,
                    root,
                })
            }
            (None, Some(root)) => Err((order, root)),
            (None, None) => unreachable!("what cannot be read breaks the canonical form"),
        })
    }

    /// One first event, and its name on all.
    fn names(&self, event: &Event, at: &mut AtEvent) {
        if self.count > 1 && matches!(event.facts, Facts::LedgerOpened(_)) {
            at.find(
                &rules::LOG_GENESIS,
                "a second first event",
                String::new(),
                String::new(),
            );
        }
        if let Some(origin) = self.origin.as_deref().filter(|origin| *origin != &*event.ledger) {
            at.find(
                &rules::LOG_GENESIS,
                "it bears another ledger's name",
                origin.to_owned(),
                event.ledger.to_string(),
            );
        }
    }

    fn genesis(&mut self, event: &Event, at: &mut AtEvent) {
        let Facts::LedgerOpened(genesis) = &event.facts else {
            let found = event.facts.kind().to_owned();
            at.find(
                &rules::LOG_GENESIS,
                "the ledger begins with another kind",
                "ledger_opened".into(),
                found,
            );
            return;
        };
        self.greatest_at = event.at_us;
        self.taking_over = genesis.predecessor.is_some();
        self.origin = Some(genesis.origin.clone());
        self.predecessor.clone_from(&genesis.predecessor);
        if !self.keys.begin(genesis) {
            at.find(
                &rules::LOG_GENESIS,
                "it names a key that is none",
                String::new(),
                String::new(),
            );
        }
    }

    fn numbers(&mut self, seq: u64, at: &mut AtEvent) {
        let expected = self.last_seq + 1;
        if seq != expected {
            let root = at.find(
                &rules::LOG_GAPLESS,
                "events are missing before it",
                expected.to_string(),
                seq.to_string(),
            );
            at.findings.mark_place(expected.min(seq), root);
            // What is missing may be any order's.
            at.findings.all_orders = at.findings.all_orders.or(Some(root));
        }
    }

    fn signature(&self, stored: &Prepared, at: &mut AtEvent, checked: &mut Checked) -> Result<(), Unusable> {
        let Some(key) = self.keys.seals(at.event) else {
            return Ok(());
        };
        if stored.is_signed(key) {
            checked.signatures += 1;
            // Only what the ledger's key signed may say that this tool is too old.
            if let Some(Facts::FormatRaised(raised)) = at.event.map(|event| &event.facts)
                && raised.version > FORMAT_VERSION
            {
                return Err(Unusable::Newer(format!(
                    "event {} raises the event format to version {}; this program knows version {FORMAT_VERSION}: use a newer one",
                    at.seq, raised.version
                )));
            }
        } else {
            let text = "the ledger's event key did not sign these bytes";
            let root = at.find(&rules::LOG_SIGNATURE, text, String::new(), String::new());
            at.findings.mark_place(at.seq, root);
        }
        Ok(())
    }

    /// One version up to the event that raises it, the next one after it.
    fn version(&mut self, event: &Event, at: &mut AtEvent) {
        if event.version != self.version {
            let (expected, found) = (self.version.to_string(), event.version.to_string());
            let text = "it is of another format version than the ledger is at here";
            at.find(&rules::LOG_VERSION, text, expected, found);
        }
        if let Facts::FormatRaised(raised) = &event.facts {
            let expected = self.version + 1;
            if raised.version == expected {
                self.version = expected;
            } else {
                let text = "it raises the format to another version than the next";
                let found = raised.version.to_string();
                at.find(&rules::LOG_VERSION, text, expected.to_string(), found);
            }
        }
    }

    /// The token behind an event. That it was the wrong one casts no doubt on what happened.
    fn token(&mut self, event: &Event, at: &mut AtEvent) {
        if let Some((rule, text)) = self.tokens.take(event) {
            let draft = Draft::new(rule, at.seq, text)
                .of(at.order.as_ref())
                .stake(named_amounts(&event.facts));
            at.findings.add(draft, at.root);
        }
    }

    /// A key gives way to another.
    fn rotation(&mut self, event: &Event, at: &mut AtEvent) {
        let Facts::LedgerKeyRotated(f) = &event.facts else {
            return;
        };
        if let Some(wrong) = self.keys.rotate(at.seq, f) {
            let root = at.find(&rules::LOG_ROTATION, wrong, String::new(), String::new());
            // What follows is under a key that nobody let in.
            at.findings.all_orders = at.findings.all_orders.or(Some(root));
            return;
        }
        let new = self.origin.as_deref().and_then(|origin| vkey(origin, &f.new_key));
        let (what, by) = (
            match f.role {
                KeyRole::Event => "event",
                KeyRole::Checkpoint => "checkpoint",
            },
            match f.authorised_by {
                Authority::EventKey => "the event key in force before",
                Authority::RecoveryKey => "the recovery key",
            },
        );
        let new = new.map_or_else(String::new, |new| new.to_string());
        at.findings.note(
            Some(at.seq),
            None,
            format!("the {what} key is {new} from here on, authorised by {by}"),
        );
    }

    fn chain(&self, event: &Event, seq: u64, at: &mut AtEvent) {
        // A broken predecessor breaks the chain to it; that is no second fault.
        let before = self.last_seq;
        if at.root.is_none() {
            at.root = at.findings.place_at(before);
            let is_consequence = at.root.is_some();
            let text = "its `prev` is not the digest of the event before";
            let root = at.find(
                &rules::LOG_CHAIN,
                text,
                self.prev.to_string(),
                event.prev.to_string(),
            );
            if is_consequence {
                // The event itself is not in doubt.
                at.root = None;
            } else {
                at.findings.mark_place(before.min(seq), root);
            }
        } else {
            let text = "its `prev` is not the digest of the event before";
            at.find(
                &rules::LOG_CHAIN,
                text,
                self.prev.to_string(),
                event.prev.to_string(),
            );
        }
    }

    /// The rule that all events share, and corrections. The comparison within an order is the order's.
    fn time(&mut self, event: &Event, at: &mut AtEvent) {
        let now = event.at_us;
        if let Facts::ClockCorrected(correction) = &event.facts {
            let other_from = self.excerpt.is_none() && correction.from_us != self.greatest_at;
            if correction.to_us != now || other_from {
                let expected = format!("from {} to {}", self.greatest_at.get(), now.get());
                let found = format!("from {} to {}", correction.from_us.get(), correction.to_us.get());
                at.find(
                    &rules::LOG_TIME,
                    "the correction names other times",
                    expected,
                    found,
                );
            }
            self.greatest_at = correction.to_us;
            self.epoch = event.seq.get();
        } else if now.plus_s(BACK_MAX_S) < self.greatest_at {
            let expected = format!("at least {}", self.greatest_at.minus_s(BACK_MAX_S).get());
            let text = "it lies more than 60 seconds before the latest time so far";
            at.find(&rules::LOG_TIME, text, expected, now.get().to_string());
        }
        self.greatest_at = self.greatest_at.max(now);
    }
}

fn canonical(stored: &Prepared, at: &mut AtEvent) {
    let wrong = match (&stored.malformed, &stored.event) {
        (Some(malformed), _) => Some(malformed.clone()),
        (None, Some(event)) if event.seq.sql() != stored.seq => {
            let expected = stored.seq.to_string();
            let text = "the event bears another number than the one under which it is stored";
            let root = at.find(&rules::LOG_GAPLESS, text, expected, event.seq.to_string());
            at.findings.mark_place(at.seq, root);
            None
        }
        _ if stored.leaf_len > seal::LEAF_MAX => Some(format!(
            "a leaf has at most 65,535 bytes, this one {}",
            stored.leaf_len
        )),
        (None, event) => event.as_ref().and_then(misplaced),
    };
    if let Some(what) = wrong {
        let root = at.find(&rules::LOG_CANONICAL, what, String::new(), String::new());
        at.findings.mark_place(at.seq, root);
    }
}

/// Whether the event names instance and order exactly where its kind has them.
fn misplaced(event: &Event) -> Option<String> {
    let (instance, order) = match &event.facts {
        Facts::LedgerOpened(_)
        | Facts::ExchangeKeysSeen(_)
        | Facts::ClockCorrected(_)
        | Facts::LedgerKeyRotated(_)
        | Facts::FormatRaised(_) => (false, false),
        // As the event has it whose attachment it was; the rule of erasures compares them.
        Facts::AttachmentErased(_) => (event.instance.is_some(), event.order.is_some()),
        // Those of the whole service name no instance.
        Facts::TokenAdded(_) | Facts::TokenRevoked(_) => (event.instance.is_some(), false),
        Facts::InstanceAdded(_)
        | Facts::InstanceClosed(_)
        | Facts::AccountAdded(_)
        | Facts::AccountClosed(_) => (true, false),
        _ => (true, true),
    };
    (event.instance.is_some() != instance || event.order.is_some() != order).then(|| {
        format!(
            "a {} names an instance or order where it has none, or none where it has one",
            event.facts.kind()
        )
    })
}

/// The attachments that a kind has.
fn kinds_attachments(event: &Event) -> &'static [AttachmentName] {
    let is_first = event.facts.part().is_none_or(|part| part.0 == 1);
    match &event.facts {
        _ if !is_first => &[],
        Facts::AccountAdded(_) => &[AttachmentName::Account],
        Facts::OrderCreated(_) | Facts::OrderRecorded(_) | Facts::TermsForgotten(_) => {
            &[AttachmentName::Terms]
        }
        Facts::AbortRequested(_) | Facts::DepositRequested(_) => &[AttachmentName::Body],
        Facts::ExchangeReplied(_) | Facts::DepositReplied(_) => &[AttachmentName::Reply],
        Facts::ExchangeKeysSeen(_) => &[AttachmentName::Keys],
        Facts::RefundApproved(_) | Facts::ClockCorrected(_) | Facts::AttachmentErased(_) => {
            &[AttachmentName::Reason]
        }
        _ => &[],
    }
}

fn attachments(
    event: Option<&Event>,
    stored: Vec<Hashed>,
    left_out: Option<&BTreeSet<(u64, AttachmentName)>>,
    erasures: &mut Erasures,
    at: &mut AtEvent,
    checked: &mut Checked,
) -> BTreeMap<AttachmentName, Attachment> {
    let mut found = BTreeMap::new();
    // Bytes behind an event that cannot be read cannot be judged; the event's own finding stands for them.
    let Some(event) = event else { return found };
    let seq = at.seq;
    let mut wrong = |what: String| at.find(&rules::LOG_ATTACHMENTS, what, String::new(), String::new());
    for (
        StoredAttachment {
            name, salt, bytes, ..
        },
        hashed,
    ) in stored
    {
        let named =
            AttachmentName::from_name(&name).and_then(|known| Some((known, event.attachments.get(&known)?)));
        let Some((known, digest)) = named else {
            wrong(format!("the event names no attachment {name:?}"));
            continue;
        };
        let held = match (salt, bytes) {
            (None, None) => {
                checked.erased += 1;
                erasures.found(seq, known, event);
                Attachment::Gone
            }
            (Some(_), Some(bytes)) if hashed == Some(*digest) => {
                checked.attachments += 1;
                match prepare::longest(known).filter(|longest| bytes.len() > *longest) {
                    // Nobody heard them out: they are not read either.
                    Some(longest) => {
                        wrong(format!("{name} has more than {longest} bytes: {}", bytes.len()));
                        Attachment::Gone
                    }
                    None => Attachment::Bytes(bytes),
                }
            }
            (Some(_), Some(_)) => {
                wrong(format!(
                    "the stored bytes of {name} are not those that the event names"
                ));
                Attachment::Gone
            }
            _ => {
                wrong(format!("of {name} only salt or bytes are left"));
                Attachment::Gone
            }
        };
        found.insert(known, held);
    }
    for name in event
        .attachments
        .keys()
        .filter(|name| !found.contains_key(name))
        .copied()
        .collect::<Vec<_>>()
    {
        if !left_out.is_some_and(|left_out| left_out.contains(&(event.seq.get(), name))) {
            wrong(format!("the row of {} is missing", name.as_str()));
        }
        found.insert(name, Attachment::Gone);
    }
    if !event.attachments.keys().eq(kinds_attachments(event)) {
        let names: Vec<&str> = event.attachments.keys().map(|name| name.as_str()).collect();
        wrong(format!(
            "a {} has other attachments than {names:?}",
            event.facts.kind()
        ));
    }
    found
}
