//! Why a configuration is refused. Every message names file and line and says what to write instead; values
//! are quoted, for none of the options read here is a secret.

use std::path::{Path, PathBuf};

use super::taler_conf::{ConfError, Location};

/// Most bytes of an origin: it stands in every event, note and receipt header, beside much else.
pub(super) const MAX_ORIGIN_BYTES: usize = 200;
/// What all our own signed texts but checkpoints begin with. A checkpoint begins with its origin, so that no
/// origin may begin like this, or a signature over the one could pass for one over the other.
pub(super) const RESERVED_ORIGIN: &str = "quittance/";

/// Why a configuration is refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not readable as Taler's format.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// A mandatory option's section is missing.
    #[error("{}: no section [{section}]; add it, with {key} = {example}", .file.display())]
    MissingSection {
        /// The file of the command line.
        file: PathBuf,
        /// The section.
        section: String,
        /// The option looked for.
        key: &'static str,
        /// A value that it could have.
        example: &'static str,
    },
    /// A mandatory option is missing.
    #[error("{at}: [{section}] has no {key}; add {key} = {example}{}", unread(.secret.as_deref()))]
    Missing {
        /// Where its section begins.
        at: Location,
        /// The section.
        section: String,
        /// The option.
        key: &'static str,
        /// A value that it could have.
        example: &'static str,
        /// The file that may hold it and could not be read.
        secret: Option<PathBuf>,
    },
    /// An option's value is not usable.
    #[error("{at}: {key} = {value:?}: {problem}")]
    Invalid {
        /// Where it is set.
        at: Location,
        /// The option.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wrong.
        problem: Problem,
    },
    /// A key that the section does not have.
    #[error("{at}: [{section}] knows no {key}; did you mean {nearest}?")]
    UnknownKey {
        /// Where it is set.
        at: Location,
        /// The section.
        section: String,
        /// The key, in upper case.
        key: String,
        /// The known one that is most like it.
        nearest: &'static str,
    },
    /// Two sections for one exchange.
    #[error(
        "{at}: the MASTER_KEY of {other} again, and an exchange is its key; remove a section or set DISABLED = YES in it"
    )]
    SameExchange {
        /// The second key.
        at: Location,
        /// The first key.
        other: Location,
    },
}

/// What is wrong with a value, and how it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing follows the equal sign.
    #[error("is empty; write a value or remove the line")]
    Empty,
    /// Not a currency.
    #[error("must be 3 to 11 letters A to Z, as in KUDOS")]
    Currency,
    /// `SERVE` other than tcp.
    #[error("only tcp is served; set SERVE = tcp and put a reverse proxy before it for unix, systemd or TLS")]
    Serve,
    /// `PORT` is no port.
    #[error("must be a number from 0 (any free port) to 65535")]
    Port,
    /// `BIND_TO` is no address.
    #[error("must be an IP address, as 127.0.0.1, ::1 or 0.0.0.0")]
    Address,
    /// Not a base URL.
    #[error(
        "must be an http or https URL with a host, without user, query or fragment, as https://shop.example/"
    )]
    Url,
    /// A base URL without its slash.
    #[error("must end in a slash, for paths are appended to it; write {0}/")]
    Slash(String),
    /// Not a key.
    #[error(
        "must be the exchange's master public key, 52 characters of base32, as its /keys has it in master_public_key"
    )]
    MasterKey,
    /// Not an address with port.
    #[error("must be IP:PORT, as 127.0.0.1:8443 or [::1]:8443")]
    SocketAddress,
    /// Not a witness's key.
    #[error(
        "must be the VKEY of a witness's Ed25519 cosignature key, as witness.example/w1+0123abcd+BAUG..."
    )]
    WitnessKey,
    /// Two sections for one witness.
    #[error("is in another section already; a witness is its key")]
    SameWitness,
    /// Neither yes nor no.
    #[error("must be YES or NO")]
    YesNo,
    /// Not a way to answer.
    #[error("must be typed or failure")]
    Undeposited,
    /// Not a list of networks.
    #[error(
        "must be addresses or networks with blanks between, as 127.0.0.1 10.0.0.0/8 (no bit of it behind the prefix), or none"
    )]
    Networks,
    /// Not a number of MiB.
    #[error("must be a whole number of MiB from 0 (no reserve) to 1048576")]
    DiskReserve,
    /// Not a form of log lines.
    #[error("must be text or json")]
    LogFormat,
    /// Not an origin.
    #[error(
        "must look like a URL without its schema, as shop.example/quittance: ASCII without blanks, controls, +, ? or #, \
         no :// and no final slash, at most {MAX_ORIGIN_BYTES} bytes, not beginning with {RESERVED_ORIGIN}"
    )]
    Origin,
    /// Ledger and anchor in one file.
    #[error("must be another file than LEDGER, and better on another disk")]
    AnchorIsLedger,
}

fn unread(secret: Option<&Path>) -> String {
    secret
        .map(|file| format!(" (or make {} readable)", file.display()))
        .unwrap_or_default()
}
