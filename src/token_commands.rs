//! `quittance token add`, `list`, `revoke`: an instance's tokens from the command line, also for who has none any more.
//! They work on the key folder alone, beside a running service too, which takes up each change before the next request
//! to a private endpoint, or when it starts, and records it.

use chrono::{DateTime, SecondsFormat, Utc};
use quittance_events::facts::TokenScope;
use quittance_events::{InstanceId, TokenId};
use quittance_taler::Timestamp;
use zeroize::Zeroizing;

use crate::app::StartError;
use crate::clock::Clock;
use crate::config::Config;
use crate::instance::KeyFolder;
use crate::token::{Grant, Token};

/// What `token add` is told.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whose.
    pub instance: InstanceId,
    /// What it may do, with the end of its life.
    pub grant: Grant,
    /// For people.
    pub description: String,
}

/// Makes a token; gives its text, which is kept nowhere.
///
/// # Errors
/// There is no such instance, it has no place left, or a file cannot be read or written.
pub fn add_token(
    config: &Config,
    clock: &Clock,
    new: &NewToken,
) -> Result<(Zeroizing<String>, Token), StartError> {
    if new.grant.scope == TokenScope::Audit && new.instance != InstanceId::root() {
        let text =
            "the ledger's entries tell of all instances: only the root instance has tokens of scope audit";
        return Err(StartError::Instance(text.into()));
    }
    let folder = folder(config, &new.instance)?;
    let now = clock();
    let (text, mut token) = Token::generate();
    token.grant = new.grant;
    token.created_s = Some(now.floor_s());
    token.description.clone_from(&new.description);
    folder.change_tokens(&new.instance, |file| file.add(token.clone(), now))?;
    Ok((text, token))
}

/// The instance's tokens, expired ones too.
///
/// # Errors
/// There is no such instance, or its file cannot be read.
pub fn list_tokens(config: &Config, instance: &InstanceId) -> Result<Vec<Token>, StartError> {
    Ok(folder(config, instance)?.read_file(instance)?.tokens)
}

/// A token in one line of a list, without anything that opens a door.
#[must_use]
pub fn line(token: &Token) -> String {
    let Grant {
        scope,
        expire_s,
        refreshable,
    } = token.grant;
    let end = expire_s.seconds().and_then(|end| i64::try_from(end).ok());
    let end = end.and_then(|end| DateTime::<Utc>::from_timestamp(end, 0));
    let end = end.map_or("never".to_owned(), |end| {
        end.to_rfc3339_opts(SecondsFormat::Secs, true)
    });
    let more = if refreshable { ":refreshable" } else { "" };
    format!(
        "{}\t{}\t{}{more}\t{end}\t{}",
        token.serial,
        token.id,
        scope.as_str(),
        token.description
    )
}

/// Revokes a token.
///
/// # Errors
/// There is no such instance or token, or a file cannot be read or written.
pub fn revoke_token(config: &Config, instance: &InstanceId, id: &TokenId) -> Result<(), StartError> {
    Ok(folder(config, instance)?.change_tokens(instance, |file| file.remove(id))?)
}

/// So many days from now; never, where none are given.
///
/// # Errors
/// No timestamp goes so far.
pub fn end_of_life(clock: &Clock, days: Option<u32>) -> Result<Timestamp, StartError> {
    let Some(days) = days else {
        return Ok(Timestamp::NEVER);
    };
    let now = clock().floor_s().seconds().unwrap_or(0);
    let end = now.saturating_add(u64::from(days).saturating_mul(24 * 3600));
    Timestamp::from_s(end).map_err(|_| StartError::Instance(format!("{days} days are too many")))
}

fn folder(config: &Config, instance: &InstanceId) -> Result<KeyFolder, StartError> {
    let folder = KeyFolder(config.keys.clone());
    if folder.earlier_key(instance)?.is_none() {
        return Err(StartError::Instance(format!("there is no instance {instance}")));
    }
    Ok(folder)
}
