//! `init --continues`: a new ledger that takes over where another ends, because that one was lost in part or because a
//! new one is wanted. The old ledger is only read, and verified first: what does not hold is not continued.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use quittance_events::anchor::{self, Lock, LockError};
use quittance_events::book::{Account, Book};
use quittance_events::copy::{Copy, CopyError, StoredAttachment};
use quittance_events::create::Beginnings;
use quittance_events::event::EventError;
use quittance_events::facts::{AccountClosed, InstanceAdded, Predecessor};
use quittance_events::ids::GENERATION_MAX;
use quittance_events::ledger;
use quittance_events::order::FoldError;
use quittance_events::seal::event_digest;
use quittance_events::successor::Successor;
use quittance_events::{
    AttachmentName, Event, Facts, Folded, InstanceId, NewEvent, Order, OrderKey, RefundId,
};
use quittance_replay::{Grade, Opened, Report, Unusable, VerifyOptions};
use quittance_taler::{Digest32, EddsaPrivateKey, HashCode, Micros, json};
use quittance_tlog::{Frontier, leaf_hash};

use crate::app::{StartError, base_url, origin, paths};
use crate::clock::Clock;
use crate::commands::{make_folders, refuse_existing};
use crate::config::Config;
use crate::decide::takeover::{in_flight, is_repeated, refunds};
use crate::instance::{InstanceFile, KeyFolder};

/// Findings that a refusal names; the report has the others.
const FINDINGS_TOLD_MAX: usize = 3;

/// What is continued.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// The old ledger or a backup of it.
    pub old: PathBuf,
    /// The last anchor that the old ledger's service left: it tells whether something is lost.
    pub anchor: PathBuf,
    /// The old key folder, from which instance keys and tokens are copied that the new one lacks.
    pub old_keys: Option<PathBuf>,
    /// Something is lost, though the anchor does not show it.
    pub after_loss: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The new event key.
    pub vkey: String,
    /// What the genesis says.
    pub predecessor: Predecessor,
    /// Events that the old anchor speaks of and the old ledger does not hold.
    pub lost: u64,
    /// Orders carried in.
    pub orders: usize,
    /// Orders that stay behind: concluded, and past their wire deadline.
    pub left: usize,
    /// Instances opened again.
    pub instances: Vec<InstanceId>,
    /// After a loss: orders with ids from elsewhere that reach into those that begin now, so that the lost events may
    /// have used the next ones.
    pub id_doubts: Vec<OrderKey>,
}

/// Why nothing is continued.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The auditor's tool cannot read it.
    #[error("the old ledger: {0}")]
    Unusable(#[from] Unusable),
    /// It does not hold.
    #[error(
        "the old ledger is not continued, because it does not hold: {0}; `quittance-replay verify` says more"
    )]
    Unsound(String),
    /// Somebody writes it.
    #[error("the old ledger must not be served any more: {0}")]
    Served(#[from] LockError),
    /// Two ledgers of one name.
    #[error("the old ledger is called {0} as well; a successor has an ORIGIN of its own")]
    SameOrigin(String),
    /// Other money.
    #[error("instance {0} sells in another currency than the configuration's")]
    Currency(InstanceId),
    /// No merchant key.
    #[error(
        "instance {0} has no key under KEYS: put instance-{0}.key and instance-{0}.json there, or give --old-keys"
    )]
    NoInstanceKey(InstanceId),
    /// The bytes are gone.
    #[error("order {key} cannot be carried in: the {name} of event {seq} is erased")]
    Erased {
        /// The order.
        key: OrderKey,
        /// Whose attachment.
        seq: i64,
        /// Which.
        name: String,
    },
    /// The bytes are gone.
    #[error(
        "the account {1} of instance {0} cannot be carried in: its payto URI is erased; close it, or add it anew"
    )]
    ErasedAccount(InstanceId, HashCode),
    /// Generations are used up.
    #[error("generation {0} is the last one")]
    LastGeneration(u64),
    /// The file.
    #[error("the old ledger: {0}")]
    Copy(#[from] CopyError),
    /// The file.
    #[error("the old ledger: {0}")]
    Event(#[from] EventError),
    /// The file.
    #[error("the old ledger: {0}")]
    Fold(#[from] FoldError),
}

impl TakeoverError {
    /// Whether the configuration is at fault.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, TakeoverError::SameOrigin(_) | TakeoverError::Currency(_))
    }
}

/// Makes a successor of the ledger that is named, under the configuration's paths and ORIGIN and with new keys.
///
/// # Errors
/// See [`TakeoverError`]; any of the new files exists; or the file system failed. The old ledger is never changed, and
/// there is no new one unless this succeeds.
pub fn continue_ledger(
    config: &Config,
    clock: &Clock,
    takeover: &Takeover,
    beginnings: &Beginnings,
) -> Result<Continued, StartError> {
    refuse_existing(config)?;
    let _lock = hold(&takeover.old)?;
    let (report, lost) = verified(takeover)?;
    if report.origin.as_deref() == Some(config.origin.as_str()) {
        return Err(TakeoverError::SameOrigin(config.origin.clone()).into());
    }
    let opened = quittance_replay::open(&takeover.old).map_err(TakeoverError::from)?;
    let Opened::Readable { copy, .. } = &opened else {
        return Err(TakeoverError::Unsound("it is damaged".into()).into());
    };
    let old = Old::read(copy)?;
    let after_loss = lost > 0 || takeover.after_loss;
    let generation = old.book.generation + u64::from(after_loss);
    if generation > GENERATION_MAX {
        return Err(TakeoverError::LastGeneration(old.book.generation).into());
    }
    let predecessor = Predecessor {
        origin: report.origin.unwrap_or_default(),
        size: old.size,
        root: old.root,
        generation: Some(generation).filter(|generation| *generation > 0),
    };
    let instances = instances(config, &old.book, takeover.old_keys.as_deref())?;

    make_folders(config)?;
    let folder = KeyFolder(config.keys.clone());
    for (id, (_, key, file)) in &instances {
        folder.write_instance(id, key, file)?;
    }
    let keys = folder.make_ledger_keys(&origin(config)?)?;
    let (paths, now) = (paths(config), clock());
    let mut successor = Successor::begin(&paths, &keys, now, predecessor.clone(), beginnings)?;
    let (mut orders, mut id_doubts, mut payable) = (0, Vec::new(), BTreeSet::new());
    for (key, seqs) in &old.orders {
        let (state, recorded) = read_order(copy, key, seqs)?;
        // An order that nobody has claimed is no wallet's yet: the shop offers it anew.
        let Some(order) = state.order().filter(|order| in_flight(order, now, after_loss)) else {
            continue;
        };
        let left = left_of_terms(&recorded);
        for (event, attachments) in recorded {
            if is_repeated(order, event.seq, &event.facts) {
                let event = again(event, attachments, left.as_deref(), key)?;
                successor.add(&key.instance, Some(&key.order), event)?;
            }
        }
        if let Some(event) = refunds(order) {
            successor.add(&key.instance, Some(&key.order), event)?;
        }
        if !old.book.instances.contains_key(&key.instance) {
            keep_key_of_closed(&folder, takeover.old_keys.as_deref(), &key.instance)?;
        }
        orders += 1;
        payable.extend(may_be_paid(order, now));
        let begins = RefundId::first_of(generation);
        if after_loss && order.rows.iter().any(|row| row.rtransaction_id >= begins) {
            id_doubts.push(key.clone());
        }
    }
    for (id, (opened, ..)) in &instances {
        successor.add(id, None, NewEvent::bare(opened.clone()))?;
        for event in accounts(copy, id, old.book.accounts(id), &payable)? {
            successor.add(id, None, event)?;
        }
    }
    successor.finish()?;
    Ok(Continued {
        vkey: ledger::vkey(&config.origin, &keys.event.public().key())?.to_string(),
        predecessor,
        lost,
        orders,
        left: old.orders.len() - orders,
        instances: instances.into_iter().map(|(id, _)| id).collect(),
        id_doubts,
    })
}

/// Keeps a service from writing the old ledger meanwhile. A backup was never served and has no lock.
fn hold(old: &Path) -> Result<Option<Lock>, TakeoverError> {
    let mut path = old.as_os_str().to_owned();
    path.push(".lock");
    if !Path::new(&path).exists() {
        return Ok(None);
    }
    Ok(Some(anchor::lock(old, "init --continues")?))
}

/// The auditor's report, and how many events are lost as far as the anchor tells.
fn verified(takeover: &Takeover) -> Result<(Report, u64), TakeoverError> {
    let report = quittance_replay::verify(&VerifyOptions {
        ledger: takeover.old.clone(),
        anchor: Some(takeover.anchor.clone()),
        ..VerifyOptions::default()
    })?;
    let held = report.checked.events;
    let mut lost = 0;
    let mut others = Vec::new();
    for finding in &report.findings {
        match finding.seq {
            Some(covered) if finding.rule == "log.anchor" && covered > held => lost = covered - held,
            _ if finding.grade == Grade::Major => others.push(finding),
            _ => {}
        }
    }
    if !others.is_empty() || report.findings_unlisted > 0 {
        let told = others.iter().take(FINDINGS_TOLD_MAX);
        let told: Vec<String> = told
            .map(|finding| {
                let at = finding
                    .seq
                    .map_or_else(String::new, |seq| format!(" at event {seq}"));
                format!("{}{at}: {}", finding.rule, finding.text)
            })
            .collect();
        return Err(TakeoverError::Unsound(told.join("; ")));
    }
    Ok((report, lost))
}

/// The old ledger as far as it is held in memory: no order, and of each event one number.
struct Old {
    size: u64,
    root: Digest32,
    book: Book,
    /// In order of their first events, each with its events' numbers. Not from the file's index, which proves nothing.
    orders: Vec<(OrderKey, Vec<i64>)>,
}

impl Old {
    fn read(copy: &Copy) -> Result<Old, TakeoverError> {
        let (mut size, mut frontier, mut book) = (0, Frontier::default(), Book::default());
        let mut orders: Vec<(OrderKey, Vec<i64>)> = Vec::new();
        let mut places: HashMap<OrderKey, usize> = HashMap::new();
        copy.walk::<TakeoverError>(|item| {
            // Attachments without an event are a finding, and the ledger was verified.
            let Ok(stored) = item else { return Ok(()) };
            let event = Event::parse(&stored.sealed)?;
            frontier.push(leaf_hash(&[stored.sealed, stored.signature].concat()));
            size += 1;
            match event.order_key() {
                None => book.apply(&event),
                Some(key) => {
                    let place = *places.entry(key.clone()).or_insert_with(|| {
                        orders.push((key, Vec::new()));
                        orders.len() - 1
                    });
                    orders[place].1.push(stored.seq);
                }
            }
            Ok(())
        })?;
        Ok(Old {
            size,
            root: Digest32::from_bytes(frontier.root().0),
            book,
            orders,
        })
    }
}

/// An event of the old ledger with its attachments as they are stored.
type Recorded = (Event, Vec<StoredAttachment>);

fn read_order(copy: &Copy, key: &OrderKey, seqs: &[i64]) -> Result<(Folded, Vec<Recorded>), TakeoverError> {
    let damaged = || CopyError::Damaged(format!("the events of order {key} are not there any more"));
    let mut order: Option<Folded> = None;
    let mut recorded = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let stored = copy.event(*seq)?.ok_or_else(damaged)?;
        let event = Event::parse(&stored.sealed)?;
        match &mut order {
            None => order = Some(Folded::begin(&event)?),
            Some(order) => {
                let reply = stored
                    .attachments
                    .iter()
                    .find(|attachment| attachment.name == AttachmentName::Reply.as_str());
                let reply = reply.and_then(|reply| reply.bytes.as_deref());
                order.apply(&event, &event_digest(&stored.sealed), reply)?;
            }
        }
        recorded.push((event, stored.attachments));
    }
    Ok((order.ok_or_else(damaged)?, recorded))
}

/// Contract terms of which members were forgotten, as they are now; nothing where none were.
fn left_of_terms(recorded: &[Recorded]) -> Option<Vec<u8>> {
    let forgotten = recorded
        .iter()
        .rfind(|(event, _)| matches!(event.facts, Facts::TermsForgotten(_)))?;
    let mut attachments = forgotten.1.iter();
    attachments
        .find(|attachment| attachment.name == AttachmentName::Terms.as_str())
        .and_then(|attachment| attachment.bytes.clone())
}

/// The same as they were offered.
fn without_nonce(terms: &[u8]) -> Option<Vec<u8>> {
    let mut terms = json::parse_strict(terms).ok()?;
    terms.as_object_mut()?.remove("nonce");
    Some(json::canonical(&terms))
}

/// The event as it is recorded again, with its bytes under another salt; where terms were forgotten, with what is left
/// of them.
fn again(
    event: Event,
    attachments: Vec<StoredAttachment>,
    left: Option<&[u8]>,
    key: &OrderKey,
) -> Result<NewEvent, TakeoverError> {
    let attachments = attachments.into_iter().map(|attachment| {
        let name = AttachmentName::from_name(&attachment.name);
        let left = || match (name, &event.facts) {
            (Some(AttachmentName::Terms), Facts::OrderCreated(_)) => left.and_then(without_nonce),
            (Some(AttachmentName::Terms), _) => left.map(<[u8]>::to_vec),
            _ => None,
        };
        name.zip(attachment.bytes.or_else(left))
            .ok_or_else(|| TakeoverError::Erased {
                key: key.clone(),
                seq: attachment.seq,
                name: attachment.name,
            })
    });
    Ok(NewEvent {
        attachments: attachments.collect::<Result<_, _>>()?,
        facts: event.facts,
    })
}

/// Who opens an instance again signs for its orders with the key that they name, or nobody can cash what he grants.
fn keep_key_of_closed(
    folder: &KeyFolder,
    old_keys: Option<&Path>,
    id: &InstanceId,
) -> Result<(), StartError> {
    let Some(old) = old_keys.map(|path| KeyFolder(path.to_owned())) else {
        return Ok(());
    };
    if folder.earlier_key(id)?.is_none() && old.earlier_key(id)?.is_some() {
        let (key, file) = old.read_instance(id)?;
        folder.write_instance(id, &key, &file)?;
    }
    Ok(())
}

/// The account that deposits for this order may still be made for. A payment that was begun in time ends whenever its
/// wallet comes again.
fn may_be_paid(order: &Order, now: Micros) -> Option<HashCode> {
    let sale = order.sale.as_ref()?;
    let created = &sale.offer.created;
    let may = !now.is_past(created.pay_deadline_s) || !sale.batches.is_empty();
    (may && order.payment.is_none()).then_some(created.h_wire)
}

/// An instance's accounts as they are added again: those that are open, and those that orders carried in may still be
/// paid to, which are closed at once.
fn accounts(
    copy: &Copy,
    id: &InstanceId,
    known: &[Account],
    payable: &BTreeSet<HashCode>,
) -> Result<Vec<NewEvent>, TakeoverError> {
    let name = AttachmentName::Account;
    // Of an account that was added again only the last time counts.
    let latest: BTreeMap<HashCode, &Account> = known
        .iter()
        .map(|account| (account.added.h_wire, account))
        .collect();
    let mut events = Vec::new();
    for account in known.iter().filter(|account| {
        let h_wire = account.added.h_wire;
        latest.get(&h_wire).is_some_and(|last| last.seq == account.seq)
            && (account.open || payable.contains(&h_wire))
    }) {
        let h_wire = account.added.h_wire;
        let stored = copy.event(account.seq.sql())?;
        let attachments = stored.map_or_else(Vec::new, |stored| stored.attachments);
        let mut attachments = attachments.into_iter().filter(|row| row.name == name.as_str());
        match attachments.next().and_then(|attachment| attachment.bytes) {
            Some(bytes) => events.push(NewEvent::with(account.added.clone(), name, bytes)),
            None if account.open => return Err(TakeoverError::ErasedAccount(id.clone(), h_wire)),
            // Nobody can be paid to it in the old ledger either.
            None => continue,
        }
        if !account.open {
            events.push(NewEvent::bare(AccountClosed { h_wire, by: None }));
        }
    }
    Ok(events)
}

/// An instance as it is opened again, with its key and file.
type Opening = (InstanceAdded, EddsaPrivateKey, InstanceFile);

/// The instances that were open, with the keys that the new folder has or the old one gives. Nothing is written yet.
fn instances(
    config: &Config,
    book: &Book,
    old_keys: Option<&Path>,
) -> Result<Vec<(InstanceId, Opening)>, StartError> {
    let folder = KeyFolder(config.keys.clone());
    let old = old_keys.map(|path| KeyFolder(path.to_owned()));
    let mut instances = Vec::new();
    for (id, was) in &book.instances {
        if was.currency != config.currency {
            return Err(TakeoverError::Currency(id.clone()).into());
        }
        let holder = if folder.earlier_key(id)?.is_some() {
            Some(&folder)
        } else {
            old.as_ref()
        };
        let Some(holder) = holder else {
            return Err(TakeoverError::NoInstanceKey(id.clone()).into());
        };
        let (key, file) = holder.read_instance(id)?;
        if key.merchant_pub() != was.merchant_pub {
            return Err(StartError::ForeignInstanceKey(id.clone()));
        }
        let opened = InstanceAdded {
            base_url: base_url(config, id).to_string(),
            by: None,
            ..was.clone()
        };
        instances.push((id.clone(), (opened, key, file)));
    }
    Ok(instances)
}
