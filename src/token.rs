//! Bearer tokens of the private endpoints. Only salted hashes are kept: who reads the key folder cannot call the
//! service with what he finds. A token is 32 random bytes, or an operator's own text that is long enough not to be
//! guessed, so a fast hash serves. Form: RFC 8959, `secret-token:...`, as Taler's merchants use it.

use std::fmt;
use std::hint::black_box;

use quittance_events::TokenId;
use quittance_events::facts::TokenScope;
use quittance_taler::{Micros, Timestamp, base32};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::limits::{TOKEN_COMPARISONS, TOKEN_MAX, TOKEN_MIN};

/// What every token of Taler's begins with.
const PREFIX: &str = "secret-token:";
/// BLAKE3 context of a token's hash.
const CONTEXT: &str = "quittance 2026-11-21 bearer token v1";
/// Ends a scope's name in a request for a token that may renew itself.
const REFRESHABLE: &str = ":refreshable";

/// What a token may do, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// What.
    pub scope: TokenScope,
    /// It is taken no more from here on.
    pub expire_s: Timestamp,
    /// Whether it may make tokens that outlive it.
    pub refreshable: bool,
}

impl Default for Grant {
    /// Everything, for ever: what tokens had before they had scopes.
    fn default() -> Grant {
        Grant {
            scope: TokenScope::All,
            expire_s: Timestamp::NEVER,
            refreshable: false,
        }
    }
}

/// A token as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    /// Stands in the events that the token caused.
    pub id: TokenId,
    /// Names it in `private/tokens`, from 1; 0 where it has no place there.
    #[serde(default)]
    pub serial: u64,
    /// What it may do.
    #[serde(flatten)]
    pub grant: Grant,
    /// When it was made; tokens from before this was kept do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_s: Option<Timestamp>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// It is the one that the instance was opened with or that `private/auth` set, and ends where another is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_auth: bool,
    #[serde(with = "bytes")]
    salt: [u8; 16],
    #[serde(with = "bytes")]
    hash: [u8; 32],
}

/// Neither hash nor description: both may come into a log by mistake.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

mod bytes {
    use quittance_taler::base32;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base32::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        base32::decode_exact(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A token that is no token.
#[derive(Debug, thiserror::Error)]
#[error("a token is `{PREFIX}` and at least {TOKEN_MIN} visible characters, {TOKEN_MAX} in all at the most")]
pub struct TokenError;

fn hash(salt: &[u8], token: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(salt).update(token.as_bytes());
    *hasher.finalize().as_bytes()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

impl Token {
    /// Makes a new token that may do everything; the text is told once and not kept.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn generate() -> (Zeroizing<String>, Token) {
        let secret = Zeroizing::new(random::<32>());
        let secret = Zeroizing::new(base32::encode(secret.as_slice()));
        let text = Zeroizing::new([PREFIX, secret.as_str()].concat());
        let token = Token::keep(&text).expect("a generated token is long enough");
        (text, token)
    }

    /// Keeps an operator's own token.
    ///
    /// # Errors
    /// It has not the form of a token, or is too short to be safe.
    ///
    /// # Panics
    /// The system has no randomness.
    pub fn keep(text: &str) -> Result<Token, TokenError> {
        let id = format!("t{}", base32::encode(&random::<5>()))
            .parse()
            .expect("base32 is a token id");
        Token::keep_as(id, text)
    }

    /// Keeps a token under a given id.
    ///
    /// # Errors
    /// As [`Token::keep`].
    pub fn keep_as(id: TokenId, text: &str) -> Result<Token, TokenError> {
        let secret = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let is_long_enough = secret.len() >= TOKEN_MIN && text.len() <= TOKEN_MAX;
        if !is_long_enough || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError);
        }
        let salt = random();
        Ok(Token {
            id,
            serial: 0,
            grant: Grant::default(),
            created_s: None,
            description: String::new(),
            is_auth: false,
            salt,
            hash: hash(&salt, text),
        })
    }

    /// Whether this is the token, in time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        // blake3::Hash compares in constant time.
        blake3::Hash::from_bytes(hash(&self.salt, text)) == blake3::Hash::from_bytes(self.hash)
    }

    /// Whether it is taken no more.
    #[must_use]
    pub fn is_expired(&self, now: Micros) -> bool {
        now.is_past(self.grant.expire_s)
    }
}

/// Which of these tokens this is. As many hashes are made and compared whichever it is and however many there are, so
/// that the time tells neither.
#[must_use]
pub fn find<'a>(tokens: impl Iterator<Item = &'a Token>, text: &str) -> Option<&'a Token> {
    // No token is longer; what is must not be hashed over and over.
    let text = if text.len() > TOKEN_MAX { "" } else { text };
    let mut found = None;
    let mut compared = 0;
    for token in tokens {
        if token.is(text) {
            found = Some(token);
        }
        compared += 1;
    }
    for _ in compared..TOKEN_COMPARISONS {
        let nobodys = hash(&[0; 16], black_box(text));
        black_box(blake3::Hash::from_bytes(nobodys) == blake3::Hash::from_bytes([0; 32]));
    }
    found
}

/// A scope by our own name or one of Taler's, and whether a token that may renew itself is asked for. Of Taler's scopes
/// for orders those that allow refunds are `refunds` here, the others `orders`.
#[must_use]
pub fn scope(name: &str) -> Option<(TokenScope, bool)> {
    let (name, refreshable) = match name.strip_suffix(REFRESHABLE) {
        Some(name) => (name, true),
        None => (name, false),
    };
    let scope = match name {
        "readonly" => TokenScope::Read,
        "write" => TokenScope::All,
        "order-simple" | "order-pos" => TokenScope::Orders,
        "order-mgmt" | "order-full" => TokenScope::Refunds,
        own => TokenScope::from_name(own)?,
    };
    Some((scope, refreshable))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let (text, token) = Token::generate();
        assert!(token.is(&text));
        assert!(!token.is(&text.to_lowercase()));
        assert!(!token.is("secret-token:"));
        let kept = serde_json::to_string(&token).unwrap();
        assert!(!kept.contains(text.strip_prefix(PREFIX).unwrap()));
        assert!(serde_json::from_str::<Token>(&kept).unwrap().is(&text));
    }

    #[test]
    fn guessable_tokens_are_not_kept() {
        let long = format!("{PREFIX}{}", "a".repeat(TOKEN_MAX));
        for bad in [
            "",
            "secret-token:",
            "secret-token:short",
            "abcdefghijklmnopqrstuvwxyz",
            "secret-token:aaaaaaaaaaaaaaaaaaaaaaa a",
            &long,
        ] {
            assert!(Token::keep(bad).is_err(), "{bad}");
        }
        assert!(Token::keep("secret-token:abcdefghijklmnopqrstuv").is_ok());
    }

    #[test]
    fn a_token_is_found_wherever_it_stands_and_no_other() {
        let made: Vec<_> = (0..5).map(|_| Token::generate()).collect();
        let tokens = || made.iter().map(|(_, token)| token);
        for (text, token) in &made {
            assert_eq!(find(tokens(), text).unwrap().id, token.id);
        }
        let long = format!("{}{}", made[0].0.as_str(), "a".repeat(TOKEN_MAX));
        for foreign in [Token::generate().0.as_str(), "", PREFIX, &long] {
            assert!(find(tokens(), foreign).is_none());
        }
        assert!(find(std::iter::empty(), &made[0].0).is_none());
    }

    #[test]
    fn tokens_from_before_scopes_may_do_everything_and_damaged_ones_are_told() {
        let (text, token) = Token::generate();
        let (salt, hash) = (base32::encode(&token.salt), base32::encode(&token.hash));
        let old = format!(r#"{{"id":"told","salt":"{salt}","hash":"{hash}"}}"#);
        let old: Token = serde_json::from_str(&old).unwrap();
        assert!(old.is(&text));
        assert_eq!(old.grant, Grant::default());
        assert!(!old.is_expired(Micros::from_s(9_000_000_000).unwrap()));
        let cut = format!(r#"{{"id":"told","salt":"{salt}","hash":"{}"}}"#, &hash[1..]);
        assert!(serde_json::from_str::<Token>(&cut).is_err());
    }

    #[test]
    fn talers_scopes_are_the_nearest_of_ours() {
        for (name, expected) in [
            ("readonly", Some((TokenScope::Read, false))),
            ("write", Some((TokenScope::All, false))),
            ("all:refreshable", Some((TokenScope::All, true))),
            ("order-simple", Some((TokenScope::Orders, false))),
            ("order-pos", Some((TokenScope::Orders, false))),
            ("order-mgmt:refreshable", Some((TokenScope::Refunds, true))),
            ("order-full", Some((TokenScope::Refunds, false))),
            ("audit", Some((TokenScope::Audit, false))),
            ("read", Some((TokenScope::Read, false))),
            ("", None),
            (":refreshable", None),
            ("all:refreshable:refreshable", None),
            ("ALL", None),
            ("spa", None),
        ] {
            assert_eq!(scope(name), expected, "{name}");
        }
    }

    #[test]
    fn neither_hash_nor_description_is_in_debug_output() {
        let (text, mut token) = Token::generate();
        token.description = "for the till of Anna".into();
        let told = format!(
            "{token:?} {:?} {:?}",
            Token::keep("x"),
            find([&token].into_iter(), &text)
        );
        let secret = text.strip_prefix(PREFIX).unwrap();
        let hash = base32::encode(&token.hash);
        for hidden in [secret, "Anna", &hash, &base32::encode(&token.salt)] {
            assert!(!told.contains(hidden), "{told}");
        }
        assert!(told.contains(token.id.as_str()));
    }
}
