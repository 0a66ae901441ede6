//! Bearer tokens of the private endpoints. Only salted hashes are kept: who reads the key folder cannot call the
//! service with what he finds. A token is 32 random bytes, or an operator's own text that is long enough not to be
//! guessed, so a fast hash serves. Form: RFC 8959, `secret-token:...`, as Taler's merchants use it.

use quittance_events::TokenId;
use quittance_taler::base32;
use serde::{Deserialize, Serialize};

use crate::limits::TOKEN_MIN;

/// What every token of Taler's begins with.
const PREFIX: &str = "secret-token:";
/// BLAKE3 context of a token's hash.
const CONTEXT: &str = "quittance 2026-11-21 bearer token v1";

/// A token as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    /// Stands in the events that the token caused.
    pub id: TokenId,
    salt: String,
    hash: String,
}

/// A token that is no token.
#[derive(Debug, thiserror::Error)]
#[error("a token is `{PREFIX}` and at least {TOKEN_MIN} visible characters")]
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
    /// Makes a new token; the text is told once and not kept.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn generate() -> (String, Token) {
        let text = format!("{PREFIX}{}", base32::encode(&random::<32>()));
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
        if secret.len() < TOKEN_MIN || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError);
        }
        let salt = random::<16>();
        Ok(Token {
            id,
            salt: base32::encode(&salt),
            hash: base32::encode(&hash(&salt, text)),
        })
    }

    /// Whether this is the token, in time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let (Ok(salt), Ok(kept)) = (
            base32::decode_exact::<16>(&self.salt),
            base32::decode_exact::<32>(&self.hash),
        ) else {
            return false;
        };
        // blake3::Hash compares in constant time.
        blake3::Hash::from_bytes(hash(&salt, text)) == blake3::Hash::from_bytes(kept)
    }
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
        for bad in [
            "",
            "secret-token:",
            "secret-token:short",
            "abcdefghijklmnopqrstuvwxyz",
            "secret-token:aaaaaaaaaaaaaaaaaaaaaaa a",
        ] {
            assert!(Token::keep(bad).is_err(), "{bad}");
        }
        assert!(Token::keep("secret-token:abcdefghijklmnopqrstuv").is_ok());
    }
}
