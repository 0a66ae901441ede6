//! What can be said of a stored event by itself, whatever comes before it: its form, its digests, its signature.
//! All of it costs time and depends on nothing, so that many cores do it at once; what it means is judged later, in
//! order. Every stored byte is hashed here, always.

use quittance_events::copy::{StoredAttachment, StoredEvent};
use quittance_events::seal::{self, EventChecker, EventPub, SALT_LEN};
use quittance_events::{AttachmentName, Event, OrderKey};
use quittance_taler::{Digest32, EddsaSignature};
use quittance_tlog::{Hash, leaf_hash};

/// Bytes of a wallet's request, and of an exchange's reply, at most.
const MESSAGE_MAX: usize = 262_144;
/// Bytes of an exchange's keys at most.
const KEYS_MAX: usize = 16_777_216;

/// A stored attachment with the digest of its salt and bytes, where it has both.
pub(crate) type Hashed = (StoredAttachment, Option<Digest32>);

/// A stored event with all that it says of itself.
pub(crate) struct Prepared {
    /// The row's number.
    pub(crate) seq: i64,
    /// The event, if its bytes can be read as one.
    pub(crate) event: Option<Event>,
    /// What is wrong with its form.
    pub(crate) malformed: Option<String>,
    /// The order that unreadable bytes seem to name.
    pub(crate) guess: Option<OrderKey>,
    /// What the next event's `prev` must say.
    pub(crate) digest: Digest32,
    pub(crate) leaf: Hash,
    pub(crate) leaf_len: usize,
    pub(crate) attachments: Vec<Hashed>,
    /// The key that the signature was checked with beforehand, and whether it is the key's.
    checked: Option<(EventPub, bool)>,
    sealed: Vec<u8>,
    signature: Option<EddsaSignature>,
}

impl Prepared {
    /// Hashes and reads a stored event; checks no signature.
    pub(crate) fn new(stored: StoredEvent) -> Prepared {
        let StoredEvent {
            seq,
            sealed,
            signature,
            attachments,
        } = stored;
        let (event, malformed) = match Event::parse_canonical(&sealed) {
            Ok(event) => (Some(event), None),
            Err(error) => (Event::parse(&sealed).ok(), Some(error.to_string())),
        };
        let leaf = [sealed.as_slice(), &signature].concat();
        Prepared {
            seq,
            guess: if event.is_none() {
                guessed_order(&sealed)
            } else {
                None
            },
            event,
            malformed,
            digest: seal::event_digest(&sealed),
            leaf: leaf_hash(&leaf),
            leaf_len: leaf.len(),
            attachments: attachments.into_iter().map(hashed).collect(),
            checked: None,
            sealed,
            signature: <[u8; seal::SIGNATURE_LEN]>::try_from(signature)
                .ok()
                .map(EddsaSignature::from_bytes),
        }
    }

    /// The order that the event belongs to, as far as its bytes tell.
    pub(crate) fn order_key(&self) -> Option<OrderKey> {
        match &self.event {
            Some(event) => event.order_key(),
            None => self.guess.clone(),
        }
    }

    fn is_signed_by(&self, key: &EventChecker) -> bool {
        self.signature
            .as_ref()
            .is_some_and(|signature| key.verify_event(&self.sealed, signature))
    }

    /// Whether this key signed the event. Costs nothing where the answer is known.
    pub(crate) fn is_signed(&self, key: EventPub) -> bool {
        match self.checked {
            Some((tried, signed)) if tried == key => signed,
            _ => self.is_signed_by(&EventChecker::new(key)),
        }
    }
}

/// Checks signatures beforehand, one by one.
pub(crate) fn check_each(events: &mut [&mut Prepared], key: &EventChecker) {
    for event in events {
        event.checked = Some((key.key(), event.is_signed_by(key)));
    }
}

/// Checks signatures beforehand, all at once; one by one where one of them is not right, to name it.
pub(crate) fn check_at_once(events: &mut [&mut Prepared], key: &EventChecker) {
    let signed: Option<Vec<(&[u8], &EddsaSignature)>> = events
        .iter()
        .map(|event| Some((event.sealed.as_slice(), event.signature.as_ref()?)))
        .collect();
    let mut seed = [0; 32];
    let all = getrandom::fill(&mut seed).is_ok() && signed.is_some_and(|all| key.verify_events(&all, &seed));
    if !all {
        return check_each(events, key);
    }
    for event in events {
        event.checked = Some((key.key(), true));
    }
}

/// Hashes an attachment.
pub(crate) fn hashed(stored: StoredAttachment) -> Hashed {
    let digest = match (&stored.salt, &stored.bytes) {
        (Some(salt), Some(bytes)) => <[u8; SALT_LEN]>::try_from(salt.as_slice())
            .ok()
            .map(|salt| seal::attachment_digest(&salt, bytes)),
        _ => None,
    };
    (stored, digest)
}

/// How long the format lets this attachment be; of what shops and operators send it says nothing.
pub(crate) fn longest(name: AttachmentName) -> Option<usize> {
    match name {
        AttachmentName::Body | AttachmentName::Reply => Some(MESSAGE_MAX),
        AttachmentName::Keys => Some(KEYS_MAX),
        AttachmentName::Account | AttachmentName::Reason | AttachmentName::Terms => None,
    }
}

/// The order that an event belongs to, as far as its bytes tell.
pub(crate) fn order_of(sealed: &[u8]) -> Option<OrderKey> {
    match Event::parse(sealed) {
        Ok(event) => event.order_key(),
        Err(_) => guessed_order(sealed),
    }
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
