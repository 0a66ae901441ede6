//! The commands that work on a ledger without serving it: `init`, `instance add`, `instance close`,
//! `account add`, `clock-correct`, `rotate-key`, `erase`, `backup`. Each but the last takes the ledger's lock, so none of them runs
//! beside a service.

use std::path::{Path, PathBuf};

use quittance_events::backup::{self, BackedUp};
use quittance_events::create::{self, Beginnings};
use quittance_events::erase;
use quittance_events::facts::{ClockCorrected, InstanceAdded, InstanceClosed, KeyRole};
use quittance_events::ledger::{self, OpenError};
use quittance_events::rotate::{NewKeys, Rotator};
use quittance_events::seal::EventKey;
use quittance_events::{Append, AttachmentName, InstanceId, Ledger, NewEvent, Seq, Stream};
use quittance_taler::payto::PaytoUri;
use quittance_taler::{Digest32, HashCode, Micros};
use quittance_tlog::note::NoteSigner;

use crate::account::WireAccount;
use crate::app::{StartError, base_url, open_ledger, origin, paths};
use crate::clock::Clock;
use crate::config::Config;
use crate::decide::erasure::needed;
use crate::instance::{InstanceFile, KeyFolder, make_key, random_key, read_key, read_token};
use crate::limits::ACCOUNTS_OPEN_MAX;
use crate::refusal::RequestError;
use crate::token::Token;

fn folder(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|e| StartError::Io(path.display().to_string(), e))
}

/// Makes data folder, keys, ledger and anchor; gives the event key as a VKEY.
///
/// # Errors
/// Any of them exists, or cannot be made. An existing ledger is never touched.
pub fn init(config: &Config, clock: &Clock) -> Result<String, StartError> {
    init_with(config, clock, &Beginnings::default())
}

/// As [`init`], of a ledger whose first event says more.
///
/// # Errors
/// As [`init`].
pub fn init_with(config: &Config, clock: &Clock, beginnings: &Beginnings) -> Result<String, StartError> {
    refuse_existing(config)?;
    make_folders(config)?;
    let keys = KeyFolder(config.keys.clone()).make_ledger_keys(&origin(config)?)?;
    create::init_with(&paths(config), &keys, clock(), beginnings)?;
    Ok(ledger::vkey(&config.origin, &keys.event.public().key())?.to_string())
}

/// A ledger and its anchor are made once.
pub(crate) fn refuse_existing(config: &Config) -> Result<(), StartError> {
    if config.ledger.exists() {
        return Err(OpenError::Exists(config.ledger.clone()).into());
    }
    if config.anchor.exists() {
        return Err(OpenError::Exists(config.anchor.clone()).into());
    }
    Ok(())
}

/// Makes the folders of a new ledger.
pub(crate) fn make_folders(config: &Config) -> Result<(), StartError> {
    for path in [
        config.ledger.parent(),
        config.anchor.parent(),
        Some(config.keys.as_path()),
    ]
    .into_iter()
    .flatten()
    {
        folder(path)?;
    }
    Ok(())
}

/// What `instance add` is told.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its id; `default` is the root instance.
    pub id: InstanceId,
    /// For people.
    pub name: Option<String>,
    /// Takes over a merchant's key; without it the instance keeps the one it had, or a new one is made.
    pub merchant_key: Option<PathBuf>,
    /// Takes the operator's token; without it a new one is made.
    pub token_file: Option<PathBuf>,
}

/// Opens an instance; gives the token's text where it made one.
///
/// # Errors
/// The instance or its merchant key is open already, a file cannot be read or written, or the ledger is in use.
///
/// # Panics
/// The system has no randomness.
pub fn add_instance(config: &Config, clock: &Clock, new: &NewInstance) -> Result<Option<String>, StartError> {
    if new.id.as_str() == "admin" {
        return Err(StartError::Instance(
            "`admin` is another name of the root instance, `default`".into(),
        ));
    }
    let ledger = open_ledger(config, "instance add")?;
    let folder = KeyFolder(config.keys.clone());
    let key = match (&new.merchant_key, folder.earlier_key(&new.id)?) {
        (Some(path), _) => read_key(path)?,
        (None, Some(earlier)) => earlier,
        (None, None) => random_key(),
    };
    let merchant_pub = key.merchant_pub();
    let book = ledger.book();
    if book.instances.contains_key(&new.id) {
        return Err(StartError::Instance(format!(
            "instance {} is open already",
            new.id
        )));
    }
    if let Some((other, _)) = book
        .instances
        .iter()
        .find(|(_, open)| open.merchant_pub == merchant_pub)
    {
        return Err(StartError::Instance(format!(
            "the merchant key is instance {other}'s already"
        )));
    }
    let (text, mut token) = match &new.token_file {
        Some(path) => (None, Token::keep(&read_token(path)?)?),
        None => {
            let (text, token) = Token::generate();
            (Some(text.to_string()), token)
        }
    };
    let now = clock();
    token.created_s = Some(now.floor_s());
    token.is_auth = true;
    let name = new.name.clone().unwrap_or_else(|| new.id.to_string());
    let mut file = InstanceFile {
        name,
        ..InstanceFile::default()
    };
    file.add(token, now)?;
    // Files first: an instance in the ledger without its key could never sign.
    folder.write_instance(&new.id, &key, &file)?;
    // Where its closing was cut short, or was before webhooks were taken away with it.
    folder.remove_webhooks(&new.id)?;
    let facts = InstanceAdded {
        merchant_pub,
        base_url: base_url(config, &new.id).to_string(),
        currency: config.currency,
        by: None,
    };
    record(&ledger, Some(&new.id), clock(), NewEvent::bare(facts))?;
    Ok(text)
}

/// Closes an instance. Its events, key and token files stay; its webhooks, which would tell whoever had it of what the
/// next one does under its id, do not.
///
/// # Errors
/// It is not open, the ledger is in use, or the webhooks' file cannot be removed; then it is closed.
pub fn close_instance(config: &Config, clock: &Clock, id: &InstanceId) -> Result<(), StartError> {
    let ledger = open_ledger(config, "instance close")?;
    let book = ledger.book();
    let Some(open) = book.instances.get(id) else {
        return Err(StartError::Instance(format!("instance {id} is not open")));
    };
    let InstanceAdded {
        merchant_pub,
        base_url,
        currency,
        by: _,
    } = open.clone();
    record(
        &ledger,
        Some(id),
        clock(),
        NewEvent::bare(InstanceClosed {
            merchant_pub,
            base_url,
            currency,
            by: None,
        }),
    )?;
    Ok(KeyFolder(config.keys.clone()).remove_webhooks(id)?)
}

/// Opens an account that exchanges wire an instance's money to; gives its hash. Of the same payto URI as an open one it
/// is that one.
///
/// # Errors
/// The instance is not open or has too many accounts, or the ledger is in use.
pub fn add_account(
    config: &Config,
    clock: &Clock,
    id: &InstanceId,
    payto_uri: &PaytoUri,
) -> Result<HashCode, StartError> {
    let ledger = open_ledger(config, "account add")?;
    let book = ledger.book();
    if !book.instances.contains_key(id) {
        return Err(StartError::Instance(format!("instance {id} is not open")));
    }
    let open = || book.accounts(id).iter().filter(|account| account.open);
    for account in open() {
        let bytes = ledger
            .attachment(account.seq, AttachmentName::Account)
            .map_err(RequestError::from)?;
        let known = bytes.and_then(|bytes| serde_json::from_slice::<WireAccount>(&bytes).ok());
        if known.is_some_and(|known| known.payto_uri == *payto_uri) {
            return Ok(account.added.h_wire);
        }
    }
    if open().count() >= ACCOUNTS_OPEN_MAX {
        let text = format!("an instance has at most {ACCOUNTS_OPEN_MAX} open accounts");
        return Err(StartError::Instance(text));
    }
    let account = WireAccount::new(payto_uri.clone());
    record(&ledger, Some(id), clock(), account.added(None))?;
    Ok(account.h_wire())
}

/// Says that the clock was wrong: times are compared anew from here on.
///
/// # Errors
/// The ledger is in use.
pub fn correct_clock(config: &Config, clock: &Clock, reason: &str) -> Result<(Micros, Micros), StartError> {
    let ledger = open_ledger(config, "clock-correct")?;
    let (from_us, to_us) = (ledger.greatest_at(), clock());
    let facts = ClockCorrected { from_us, to_us };
    let event = NewEvent::with(facts, AttachmentName::Reason, reason.as_bytes().to_vec());
    record(&ledger, None, to_us, event)?;
    Ok((from_us, to_us))
}

/// Copies the ledger, served or not, to a new file, and its last checkpoint beside it. Takes no lock.
///
/// # Errors
/// There is no ledger, or a file exists already or cannot be written.
pub fn back_up(config: &Config, out: &Path) -> Result<BackedUp, StartError> {
    Ok(backup::backup(&config.ledger, out)?)
}

/// Makes a recovery key, to be kept where the service is not; gives its public half for `init --recovery-key`.
///
/// # Errors
/// The file exists or cannot be written.
pub fn make_recovery_key(path: &Path) -> Result<Digest32, StartError> {
    Ok(Digest32::from_bytes(make_key(path)?.public_bytes()))
}

/// Puts new keys of these roles into force; gives them as VKEYs.
///
/// # Errors
/// A key file cannot be read or written, the ledger is in use, or the keys at hand do not authorise it.
pub fn rotate_keys(
    config: &Config,
    clock: &Clock,
    roles: &[KeyRole],
    recovery_key: Option<&Path>,
) -> Result<Vec<(KeyRole, String)>, StartError> {
    if !config.ledger.exists() {
        return Err(OpenError::Missing(config.ledger.clone()).into());
    }
    let recovery = recovery_key.map(read_key).transpose()?.map(EventKey::new);
    let folder = KeyFolder(config.keys.clone());
    let name = origin(config)?;
    let may_be_lost: Vec<KeyRole> = roles
        .iter()
        .copied()
        .filter(|role| *role == KeyRole::Checkpoint || recovery.is_some())
        .collect();
    let ring = folder.read_ring(&name, &may_be_lost)?;
    let rotator = Rotator::open(&paths(config), ring, roles, recovery.as_ref(), "rotate-key")?;
    folder.settle(&rotator.history())?;
    // Files first: a key in force that nobody has would end the ledger.
    let mut new = NewKeys::default();
    for role in roles {
        let key = folder.new_key(*role, &rotator.history())?;
        match role {
            KeyRole::Event => new.event = Some(EventKey::new(key)),
            KeyRole::Checkpoint => new.checkpoint = Some(NoteSigner::new(name.clone(), key.as_bytes())),
        }
    }
    let history = rotator.rotate(new, recovery.as_ref(), clock())?;
    folder.settle(&history)?;
    let vkey = |role: &KeyRole| {
        let now = history
            .now(*role)
            .expect("the ledger has keys from its first event on");
        Ok((*role, ledger::vkey(&config.origin, &now.key)?.to_string()))
    };
    roles.iter().map(vkey).collect()
}

/// Erases an attachment; gives the event that says so.
///
/// # Errors
/// There is no such attachment, it is erased already or still needed, or the ledger is in use.
pub fn erase(
    config: &Config,
    clock: &Clock,
    attachment: (Seq, AttachmentName),
    reason: &str,
) -> Result<Seq, StartError> {
    if !config.ledger.exists() {
        return Err(OpenError::Missing(config.ledger.clone()).into());
    }
    let ring = KeyFolder(config.keys.clone()).read_ring(&origin(config)?, &[])?;
    let at = clock();
    Ok(erase::erase(
        &paths(config),
        ring,
        attachment,
        reason,
        at,
        "erase",
        |order, event| needed(order, event, attachment.1, at),
    )?)
}

fn record(
    ledger: &Ledger,
    instance: Option<&InstanceId>,
    at: Micros,
    event: NewEvent,
) -> Result<(), StartError> {
    let append = Append {
        stream: Stream::Ledger(instance.cloned()),
        at,
        events: vec![event],
    };
    let appended = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| StartError::Io("the runtime".into(), e))?
        .block_on(ledger.append(append));
    appended.map_err(RequestError::from)?;
    ledger.close();
    Ok(())
}
