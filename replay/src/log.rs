//! Rules of the log itself, event by event: numbers, chain, signatures, canonical form, times, attachments, tree.
//! Every stored byte is hashed again, always.

use std::collections::BTreeMap;

use quittance_events::copy::{StoredAttachment, StoredEvent};
use quittance_events::event::EventError;
use quittance_events::facts::Predecessor;
use quittance_events::seal::{self, EventPub, SALT_LEN};
use quittance_events::{AttachmentName, Event, Facts, OrderKey};
use quittance_taler::{Digest32, EddsaSignature, Micros};
use quittance_tlog::{Frontier, Hash, KeyName, VerifierKey, leaf_hash};

use crate::case::named_amounts;
use crate::findings::{Draft, Findings, Root};
use crate::parts::{Attachment, Decision};
use crate::report::Checked;
use crate::rules::{self, Rule};
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
    /// Greatest time since the last clock correction.
    pub(crate) greatest_at: Micros,
    /// The last clock correction.
    pub(crate) epoch: u64,
    pub(crate) origin: Option<String>,
    event_key: Option<EventPub>,
    pub(crate) checkpoint_key: Option<VerifierKey>,
    /// The ledger that this one says it continues.
    pub(crate) predecessor: Option<Predecessor>,
    /// Sizes whose roots are asked for, and the roots.
    pub(crate) roots: BTreeMap<u64, Option<Hash>>,
}

/// The VKEY of a key under the ledger's name.
fn vkey(origin: &str, key: &Digest32) -> Option<VerifierKey> {
    VerifierKey::new(KeyName::new(origin).ok()?, *key.as_bytes()).ok()
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
            greatest_at: Micros::from_s(0).expect("zero is a time"),
            epoch: 0,
            origin: None,
            // In force until a first event that can be read says otherwise.
            event_key: pinned.map(|key| EventPub::new(Digest32::from_bytes(*key.public_key()))),
            checkpoint_key: None,
            predecessor: None,
            roots: sizes.map(|size| (size, None)).collect(),
        }
    }

    /// The event key that signatures are checked with.
    pub(crate) fn event_vkey(&self) -> Option<VerifierKey> {
        vkey(self.origin.as_deref()?, &self.event_key?.key())
    }

    /// How often events were lost on the way to this ledger, as its first event has it.
    pub(crate) fn generation(&self) -> u64 {
        self.predecessor
            .as_ref()
            .and_then(|before| before.generation)
            .unwrap_or(0)
    }

    /// Judges the next stored event. A decision comes back where the event can be read; otherwise the order that its
    /// bytes seem to name, with the root finding.
    pub(crate) fn take(
        &mut self,
        stored: StoredEvent,
        options: &VerifyOptions,
        findings: &mut Findings,
        checked: &mut Checked,
    ) -> Result<Result<Decision, (Option<OrderKey>, Root)>, Unusable> {
        self.count += 1;
        checked.events += 1;
        let seq = u64::try_from(stored.seq).unwrap_or(0);
        let parsed = Event::parse_canonical(&stored.sealed);
        let event = match &parsed {
            Ok(event) => Some(event.clone()),
            Err(_) => Event::parse(&stored.sealed).ok(),
        };
        let order = event
            .as_ref()
            .map_or_else(|| guessed_order(&stored.sealed), Event::order_key);
        let mut at = AtEvent {
            seq,
            event: event.as_ref(),
            order: order.clone(),
            root: None,
            findings,
        };
        if let (1, Some(event)) = (self.count, &event) {
            self.genesis(event, options, &mut at);
        }
        self.numbers(seq, &mut at);
        self.signature(&stored, &mut at, checked)?;
        if let Some(event) = &event
            && event.prev != self.prev
        {
            self.chain(event, seq, &mut at);
        }
        let leaf = [stored.sealed.as_slice(), &stored.signature].concat();
        canonical(&parsed, stored.seq, leaf.len(), &mut at);
        if let Some(event) = &event {
            if self.count > 1 && matches!(event.facts, Facts::LedgerOpened(_)) {
                at.find(
                    &rules::LOG_GENESIS,
                    "a second first event",
                    String::new(),
                    String::new(),
                );
            }
            if self
                .origin
                .as_deref()
                .is_some_and(|origin| origin != &*event.ledger)
            {
                let expected = self.origin.clone().unwrap_or_default();
                at.find(
                    &rules::LOG_GENESIS,
                    "it bears another ledger's name",
                    expected,
                    event.ledger.to_string(),
                );
            }
            self.time(event, &mut at);
        } else if self.count == 1 {
            at.find(
                &rules::LOG_GENESIS,
                "the first event cannot be read",
                String::new(),
                String::new(),
            );
        }
        let attachments = attachments(event.as_ref(), stored.attachments, &mut at, checked);
        let root = at.root;

        self.prev = seal::event_digest(&stored.sealed);
        self.last_seq = seq;
        self.frontier.push(leaf_hash(&leaf));
        if let Some(wanted) = self.roots.get_mut(&self.count) {
            *wanted = Some(self.frontier.root());
        }
        Ok(match (event, root) {
            (Some(event), root) => {
                let last = event.seq.get();
                Ok(Decision {
                    event,
                    last,
                    attachments,
                    root,
                })
            }
            (None, Some(root)) => Err((order, root)),
            (None, None) => unreachable!("what cannot be read breaks the canonical form"),
        })
    }

    fn genesis(&mut self, event: &Event, options: &VerifyOptions, at: &mut AtEvent) {
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
        self.origin = Some(genesis.origin.clone());
        self.event_key = Some(EventPub::new(genesis.event_key));
        self.predecessor.clone_from(&genesis.predecessor);
        self.checkpoint_key = vkey(&genesis.origin, &genesis.checkpoint_key);
        let own = vkey(&genesis.origin, &genesis.event_key);
        if own.is_none() || self.checkpoint_key.is_none() {
            at.find(
                &rules::LOG_GENESIS,
                "it names a key that is none",
                String::new(),
                String::new(),
            );
        }
        if let Some(pinned) = options
            .ledger_key
            .as_ref()
            .filter(|pinned| own.as_ref() != Some(pinned))
        {
            let found = own.map_or_else(String::new, |own| own.to_string());
            // A foreign key explains nothing else: what follows is judged under the ledger's own.
            let draft = Draft::new(&rules::LOG_KEY, at.seq, "the ledger is under another event key");
            at.findings.add(draft.differs(pinned, found), None);
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

    fn signature(
        &self,
        stored: &StoredEvent,
        at: &mut AtEvent,
        checked: &mut Checked,
    ) -> Result<(), Unusable> {
        let Some(key) = self.event_key else { return Ok(()) };
        let signature = <[u8; seal::SIGNATURE_LEN]>::try_from(stored.signature.as_slice())
            .map(EddsaSignature::from_bytes);
        if signature.is_ok_and(|signature| key.verify_event(&stored.sealed, &signature)) {
            checked.signatures += 1;
            // Only what the ledger's key signed may say that this tool is too old.
            if let Some(Facts::FormatRaised(raised)) = at.event.map(|event| &event.facts) {
                return Err(Unusable::Newer(format!(
                    "event {} raises the event format to version {}; this program knows version 1: use a newer one",
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
            if correction.to_us != now || correction.from_us != self.greatest_at {
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

fn canonical(parsed: &Result<Event, EventError>, stored_seq: i64, leaf: usize, at: &mut AtEvent) {
    let wrong = match parsed {
        Err(error) => Some(error.to_string()),
        Ok(event) if event.seq.sql() != stored_seq => {
            let expected = stored_seq.to_string();
            let text = "the event bears another number than the one under which it is stored";
            let root = at.find(&rules::LOG_GAPLESS, text, expected, event.seq.to_string());
            at.findings.mark_place(at.seq, root);
            None
        }
        Ok(_) if leaf > seal::LEAF_MAX => Some(format!("a leaf has at most 65,535 bytes, this one {leaf}")),
        Ok(event) => misplaced(event),
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
        | Facts::FormatRaised(_) => (false, false),
        Facts::InstanceAdded(_) | Facts::InstanceClosed(_) => (true, false),
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
        Facts::OrderRecorded(_) => &[AttachmentName::Terms],
        Facts::AbortRequested(_) => &[AttachmentName::Body],
        Facts::ExchangeReplied(_) => &[AttachmentName::Reply],
        Facts::ExchangeKeysSeen(_) => &[AttachmentName::Keys],
        Facts::RefundApproved(_) | Facts::ClockCorrected(_) => &[AttachmentName::Reason],
        _ => &[],
    }
}

fn attachments(
    event: Option<&Event>,
    stored: Vec<StoredAttachment>,
    at: &mut AtEvent,
    checked: &mut Checked,
) -> BTreeMap<AttachmentName, Attachment> {
    let mut found = BTreeMap::new();
    // Bytes behind an event that cannot be read cannot be judged; the event's own finding stands for them.
    let Some(event) = event else { return found };
    let mut wrong = |what: String| at.find(&rules::LOG_ATTACHMENTS, what, String::new(), String::new());
    for StoredAttachment {
        name, salt, bytes, ..
    } in stored
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
                wrong(format!("{name} is erased, and no event says so"));
                Attachment::Gone
            }
            (Some(salt), Some(bytes)) => match <[u8; SALT_LEN]>::try_from(salt) {
                Ok(salt) if seal::attachment_digest(&salt, &bytes) == *digest => {
                    checked.attachments += 1;
                    Attachment::Bytes(bytes)
                }
                _ => {
                    wrong(format!(
                        "the stored bytes of {name} are not those that the event names"
                    ));
                    Attachment::Gone
                }
            },
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
        wrong(format!("the row of {} is missing", name.as_str()));
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

/// The order that unreadable bytes seem to name, so that what follows in that order is told as a consequence.
fn guessed_order(sealed: &[u8]) -> Option<OrderKey> {
    let text = String::from_utf8_lossy(sealed);
    let member = |name: &str| {
        let (_, rest) = text.rsplit_once(&format!("\"{name}\":\""))?;
        rest.split('"').next().map(ToOwned::to_owned)
    };
    Some(OrderKey {
        instance: member("instance")?.parse().ok()?,
        order: member("order")?.parse().ok()?,
    })
}
