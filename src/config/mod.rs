//! The configuration of Quittance: the options that it reads from a file in Taler's format, checked and
//! typed.
//!
//! `[taler]`, `[merchant]` and `[merchant-exchange-*]` are read as taler-merchant.conf(5) has them,
//! `[quittance]` is ours. Whatever is wrong is refused here, with file and line, so that nothing else looks
//! at the text again. It opens no file but the configuration itself: whether ledger, keys and tokens exist is
//! for those who use them.
//!
//! An unknown key in `[quittance]` or in an exchange's section is an error, for a typing error there would
//! silently turn an option off; every other section may hold what it likes, the file is also that of Taler's
//! own programs. An exchange that is `DISABLED` is left out unread, and one of another currency than ours is
//! left out. `BIND_TO` is an address, not a name, and 127.0.0.1 where it is absent (Taler would listen
//! everywhere): what we serve is plain HTTP for a reverse proxy.

mod error;
mod expand;
mod network;
pub mod taler_conf;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use quittance_events::facts::Undeposited;
use quittance_taler::{Currency, MasterPub};
use quittance_tlog::CosignerKey;
use url::Url;

pub use error::{ConfigError, Problem};
use error::{MAX_ORIGIN_BYTES, RESERVED_ORIGIN};
pub use network::Network;
use taler_conf::{Location, TalerConf, Value};

/// What the names of exchange sections begin with, without regard to case.
const EXCHANGE_PREFIX: &str = "merchant-exchange-";
const EXCHANGE_KEYS: [&str; 6] = [
    "EXCHANGE_BASE_URL",
    "MASTER_KEY",
    "CURRENCY",
    "CONNECT_TO",
    "TLS_ROOTS_FILE",
    "DISABLED",
];
/// What the names of witness sections begin with, without regard to case.
const WITNESS_PREFIX: &str = "quittance-witness-";
const WITNESS_KEYS: [&str; 3] = ["URL", "VKEY", "CONNECT_TO"];
const QUITTANCE_KEYS: &[&str] = &[
    "LEDGER",
    "ANCHOR",
    "KEYS",
    "ORIGIN",
    "UNDEPOSITED",
    "ADMIN_TOKEN_FILE",
    "AUDITOR_TOKEN_FILE",
    "TRUSTED_PROXIES",
    "DISK_RESERVE_MIB",
    "METRICS_BIND",
    "LOG_FORMAT",
];
/// Below this much free space nothing new is taken on, where the configuration does not say otherwise: months of what
/// stays allowed then (replies, answers, checkpoints) fit.
const DISK_RESERVE_MIB: u64 = 256;
/// 2^40 bytes: a larger number is a typing error.
const DISK_RESERVE_MIB_MAX: u64 = 1 << 20;

/// The address that `quittance serve` listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// `BIND_TO` and `PORT`; port 0 takes any free one.
    pub tcp: SocketAddr,
}

/// An exchange whose coins we settle refunds of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// Its section's name.
    pub section: String,
    /// Where it is called; ends in `/`.
    pub base_url: Url,
    /// What it *is*: different in every exchange of a configuration.
    pub master_key: MasterPub,
    /// Always that of the configuration.
    pub currency: Currency,
    /// The address to connect to in place of the URL's.
    pub connect_to: Option<SocketAddr>,
    /// Who may vouch for its TLS certificate, in place of the system's roots.
    pub tls_roots: Option<RootsFile>,
}

/// A file of root certificates. Whether it is there and what it holds is for who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootsFile {
    /// Absolute.
    pub path: PathBuf,
    /// Where the configuration names it.
    pub at: Location,
}

/// A witness that is asked to cosign checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessConfig {
    /// Its section's name.
    pub section: String,
    /// Where it is asked, `add-checkpoint` goes behind it; ends in `/`.
    pub url: Url,
    /// Its key.
    pub vkey: CosignerKey,
    /// The address to connect to in place of the URL's.
    pub connect_to: Option<SocketAddr>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// All that an operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The configuration file, as it was named.
    pub file: PathBuf,
    /// The one currency of this service.
    pub currency: Currency,
    /// Where to listen.
    pub serve: Bind,
    /// Where wallets reach the service; http or https, ends in `/`.
    pub base_url: Url,
    /// The exchanges of our currency, by section name; may be empty.
    pub exchanges: Vec<ExchangeConfig>,
    /// Witnesses, by section name; may be empty.
    pub witnesses: Vec<WitnessConfig>,
    /// The ledger file. This and all paths below are absolute.
    pub ledger: PathBuf,
    /// The file of the last checkpoint, another one than the ledger.
    pub anchor: PathBuf,
    /// The folder of all private keys and token hashes.
    pub keys: PathBuf,
    /// The ledger's name in notes, events and receipts.
    pub origin: String,
    /// How an undeposited coin's abort is answered.
    pub undeposited: Undeposited,
    /// The file of the token for all instances.
    pub admin_token_file: Option<PathBuf>,
    /// The file of the token for the ledger's entries.
    pub auditor_token_file: Option<PathBuf>,
    /// Whose word on a client's address is taken; the machine itself where nothing is said.
    pub trusted_proxies: Vec<Network>,
    /// Free bytes on the ledger's file system below which nothing new is taken on; 0: no reserve.
    pub disk_reserve: u64,
    /// Where metrics are served; `None`: nowhere.
    pub metrics_bind: Option<SocketAddr>,
    /// How log lines are written.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let conf = TalerConf::load(file)?;
        let options = Options { file, conf: &conf };
        options.refuse_unknown("quittance", QUITTANCE_KEYS)?;

        let currency = options.currency("taler")?;
        let path = |key, example| {
            let value = options.required("quittance", key, example)?;
            Ok::<_, ConfigError>((value, conf.path(value)?))
        };
        let (_, ledger) = path("LEDGER", "ledger.sqlite3")?;
        let (anchor_value, anchor) = path("ANCHOR", "anchor/ledger.anchor")?;
        if anchor == ledger {
            return Err(invalid("ANCHOR", anchor_value, Problem::AnchorIsLedger));
        }
        let (_, keys) = path("KEYS", "keys/")?;
        let origin = options.required("quittance", "ORIGIN", "shop.example/quittance")?;
        if !is_origin(&origin.text) {
            return Err(invalid("ORIGIN", origin, Problem::Origin));
        }
        let undeposited = match options.optional("quittance", "UNDEPOSITED")? {
            None => Undeposited::Typed,
            Some(value) if value.text.eq_ignore_ascii_case("typed") => Undeposited::Typed,
            Some(value) if value.text.eq_ignore_ascii_case("failure") => Undeposited::Failure,
            Some(value) => return Err(invalid("UNDEPOSITED", value, Problem::Undeposited)),
        };
        let token_file = |key| {
            let value = options.optional("quittance", key)?;
            Ok::<_, ConfigError>(value.map(|value| conf.path(value)).transpose()?)
        };
        Ok(Config {
            file: file.to_owned(),
            currency,
            serve: options.bind()?,
            base_url: options.base_url("merchant", "BASE_URL", "https://shop.example/")?,
            exchanges: options.exchanges(currency)?,
            witnesses: options.witnesses()?,
            ledger,
            anchor,
            keys,
            origin: origin.text.clone(),
            undeposited,
            admin_token_file: token_file("ADMIN_TOKEN_FILE")?,
            auditor_token_file: token_file("AUDITOR_TOKEN_FILE")?,
            trusted_proxies: options.trusted_proxies()?,
            disk_reserve: options.disk_reserve()?,
            metrics_bind: options.metrics_bind()?,
            log_format: options.log_format()?,
        })
    }
}

struct Options<'a> {
    file: &'a Path,
    conf: &'a TalerConf,
}

impl<'a> Options<'a> {
    fn optional(&self, section: &str, key: &'static str) -> Result<Option<&'a Value>, ConfigError> {
        match self.conf.get(section, key) {
            Some(value) if value.text.is_empty() => Err(invalid(key, value, Problem::Empty)),
            other => Ok(other),
        }
    }

    fn required(
        &self,
        section: &str,
        key: &'static str,
        example: &'static str,
    ) -> Result<&'a Value, ConfigError> {
        if let Some(value) = self.optional(section, key)? {
            return Ok(value);
        }
        Err(match self.conf.section(section) {
            None => ConfigError::MissingSection {
                file: self.file.to_owned(),
                section: section.to_owned(),
                key,
                example,
            },
            Some(found) => ConfigError::Missing {
                at: found.at.clone(),
                section: found.name.clone(),
                key,
                example,
                secret: found.unread_secret.clone(),
            },
        })
    }

    fn refuse_unknown(&self, section: &str, known: &[&'static str]) -> Result<(), ConfigError> {
        let options = self
            .conf
            .section(section)
            .into_iter()
            .flat_map(|section| &section.options);
        match options
            .into_iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            None => Ok(()),
            Some((key, value)) => Err(ConfigError::UnknownKey {
                at: value.at.clone(),
                section: section.to_owned(),
                key: key.clone(),
                nearest: known
                    .iter()
                    .min_by_key(|candidate| distance(key, candidate))
                    .copied()
                    .unwrap_or_default(),
            }),
        }
    }

    fn currency(&self, section: &str) -> Result<Currency, ConfigError> {
        let value = self.required(section, "CURRENCY", "KUDOS")?;
        value
            .text
            .parse()
            .map_err(|_| invalid("CURRENCY", value, Problem::Currency))
    }

    fn bind(&self) -> Result<Bind, ConfigError> {
        let serve = self.required("merchant", "SERVE", "tcp")?;
        if !serve.text.eq_ignore_ascii_case("tcp") {
            return Err(invalid("SERVE", serve, Problem::Serve));
        }
        let ip = match self.optional("merchant", "BIND_TO")? {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(value) => value
                .text
                .parse()
                .map_err(|_| invalid("BIND_TO", value, Problem::Address))?,
        };
        let port = self.required("merchant", "PORT", "9966")?;
        let number = port
            .text
            .parse()
            .map_err(|_| invalid("PORT", port, Problem::Port))?;
        Ok(Bind {
            tcp: SocketAddr::new(ip, number),
        })
    }

    /// Port 0 takes any free one.
    fn metrics_bind(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let value = self.optional("quittance", "METRICS_BIND")?;
        let read = |value: &Value| {
            let address = value.text.parse();
            address.map_err(|_| invalid("METRICS_BIND", value, Problem::SocketAddress))
        };
        value.map(read).transpose()
    }

    fn log_format(&self) -> Result<LogFormat, ConfigError> {
        match self.optional("quittance", "LOG_FORMAT")? {
            None => Ok(LogFormat::Text),
            Some(value) if value.text.eq_ignore_ascii_case("text") => Ok(LogFormat::Text),
            Some(value) if value.text.eq_ignore_ascii_case("json") => Ok(LogFormat::Json),
            Some(value) => Err(invalid("LOG_FORMAT", value, Problem::LogFormat)),
        }
    }

    fn base_url(&self, section: &str, key: &'static str, example: &'static str) -> Result<Url, ConfigError> {
        let value = self.required(section, key, example)?;
        let usable = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && (url.username(), url.password(), url.query(), url.fragment()) == ("", None, None, None)
        };
        match Url::parse(&value.text).ok().filter(usable) {
            None => Err(invalid(key, value, Problem::Url)),
            Some(_) if !value.text.ends_with('/') => {
                Err(invalid(key, value, Problem::Slash(value.text.clone())))
            }
            Some(url) => Ok(url),
        }
    }

    fn trusted_proxies(&self) -> Result<Vec<Network>, ConfigError> {
        match self.optional("quittance", "TRUSTED_PROXIES")? {
            None => Ok(Network::LOOPBACK.to_vec()),
            Some(value) if value.text.eq_ignore_ascii_case("none") => Ok(Vec::new()),
            Some(value) => value
                .text
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map_err(|_| invalid("TRUSTED_PROXIES", value, Problem::Networks)),
        }
    }

    fn exchanges(&self, ours: Currency) -> Result<Vec<ExchangeConfig>, ConfigError> {
        let mut exchanges: Vec<ExchangeConfig> = Vec::new();
        for section in self.sections(EXCHANGE_PREFIX) {
            if self.yes(section, "DISABLED")? {
                continue;
            }
            self.refuse_unknown(section, &EXCHANGE_KEYS)?;
            let currency = self.currency(section)?;
            if currency != ours {
                continue;
            }
            let base_url = self.base_url(section, "EXCHANGE_BASE_URL", "https://exchange.demo.taler.net/")?;
            let key = self.required(
                section,
                "MASTER_KEY",
                "(master_public_key of the exchange's /keys)",
            )?;
            let master_key = key
                .text
                .parse()
                .map_err(|_| invalid("MASTER_KEY", key, Problem::MasterKey))?;
            if let Some(other) = exchanges.iter().find(|other| other.master_key == master_key) {
                let other = self.required(&other.section, "MASTER_KEY", "")?;
                return Err(ConfigError::SameExchange {
                    at: key.at.clone(),
                    other: other.at.clone(),
                });
            }
            let roots = self.optional(section, "TLS_ROOTS_FILE")?;
            exchanges.push(ExchangeConfig {
                section: section.to_owned(),
                base_url,
                master_key,
                currency,
                connect_to: self.connect_to(section)?,
                tls_roots: roots.map(|value| self.roots(value)).transpose()?,
            });
        }
        Ok(exchanges)
    }

    fn disk_reserve(&self) -> Result<u64, ConfigError> {
        let mib = match self.optional("quittance", "DISK_RESERVE_MIB")? {
            None => DISK_RESERVE_MIB,
            Some(value) => value
                .text
                .parse()
                .ok()
                .filter(|mib| *mib <= DISK_RESERVE_MIB_MAX)
                .ok_or_else(|| invalid("DISK_RESERVE_MIB", value, Problem::DiskReserve))?,
        };
        Ok(mib * 1024 * 1024)
    }

    fn roots(&self, value: &Value) -> Result<RootsFile, ConfigError> {
        Ok(RootsFile {
            path: self.conf.path(value)?,
            at: value.at.clone(),
        })
    }

    fn connect_to(&self, section: &str) -> Result<Option<SocketAddr>, ConfigError> {
        match self.optional(section, "CONNECT_TO")? {
            None => Ok(None),
            Some(value) => match value.text.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 => Ok(Some(address)),
                _ => Err(invalid("CONNECT_TO", value, Problem::SocketAddress)),
            },
        }
    }

    fn witnesses(&self) -> Result<Vec<WitnessConfig>, ConfigError> {
        let mut witnesses: Vec<WitnessConfig> = Vec::new();
        for section in self.sections(WITNESS_PREFIX) {
            self.refuse_unknown(section, &WITNESS_KEYS)?;
            let value = self.required(section, "VKEY", "witness.example/w1+0123abcd+BAUG...")?;
            let vkey: CosignerKey = value
                .text
                .parse()
                .map_err(|_| invalid("VKEY", value, Problem::WitnessKey))?;
            if witnesses.iter().any(|other| other.vkey == vkey) {
                return Err(invalid("VKEY", value, Problem::SameWitness));
            }
            witnesses.push(WitnessConfig {
                section: section.to_owned(),
                url: self.base_url(section, "URL", "https://witness.example/")?,
                vkey,
                connect_to: self.connect_to(section)?,
            });
        }
        Ok(witnesses)
    }

    /// Names of sections that begin so, without regard to case.
    fn sections(&self, prefix: &'static str) -> impl Iterator<Item = &'a str> {
        self.conf.section_names().filter(move |name| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
    }

    fn yes(&self, section: &str, key: &'static str) -> Result<bool, ConfigError> {
        match self.optional(section, key)? {
            None => Ok(false),
            Some(value) if value.text.eq_ignore_ascii_case("YES") => Ok(true),
            Some(value) if value.text.eq_ignore_ascii_case("NO") => Ok(false),
            Some(value) => Err(invalid(key, value, Problem::YesNo)),
        }
    }
}

fn invalid(key: &'static str, value: &Value, problem: Problem) -> ConfigError {
    ConfigError::Invalid {
        at: value.at.clone(),
        key,
        value: value.text.clone(),
        problem,
    }
}

fn is_origin(text: &str) -> bool {
    text.len() <= MAX_ORIGIN_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"+?#@\\".contains(&byte))
        && !text.starts_with(RESERVED_ORIGIN)
        && !text.contains("://")
        && !text.starts_with('/')
        && !text.ends_with('/')
        && Url::parse(&format!("https://{text}")).is_ok()
}

/// How many characters to insert, remove or replace to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const DEMO_KEY: &str = "F80MFRG8HVH6R9CQ47KRFQSJP3T6DBJ4K1D9B703RJY3Z39TBMJ0";
    const OTHER_KEY: &str = "2TQSTPFZBC2MC4E52NHPA050YXYG02VC3AB50QESM6JX1QJEYVQ0";

    /// Line 10 is `MASTER_KEY`, line 13 `[quittance]`.
    const SAMPLE: &str = "\
[taler]
CURRENCY = KUDOS
[merchant]
SERVE = tcp
BIND_TO = 127.0.0.1
PORT = 9966                               # 0: any
BASE_URL = https://shop.example/
[merchant-exchange-demo]
EXCHANGE_BASE_URL = https://exchange.demo.taler.net/
MASTER_KEY = F80MFRG8HVH6R9CQ47KRFQSJP3T6DBJ4K1D9B703RJY3Z39TBMJ0
CURRENCY = KUDOS
CONNECT_TO = 127.0.0.1:8443               # optional: another address for that URL (egress proxy, tests)
[quittance]
LEDGER = ledger.sqlite3
ANCHOR = anchor/ledger.anchor
KEYS = keys/
ORIGIN = shop.example/quittance
UNDEPOSITED = typed                       # or: failure
ADMIN_TOKEN_FILE = admin.token            # optional
AUDITOR_TOKEN_FILE = auditor.token        # optional
METRICS_BIND = 127.0.0.1:9968             # optional
LOG_FORMAT = json                         # or: text
";

    /// Loads a text as `c.conf`; messages come without the folder's name.
    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.conf");
        fs::write(&file, text).unwrap();
        let prefix = format!("{}/", folder.path().canonicalize().unwrap().display());
        Config::load(&file).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    /// The message about the sample with one text in it replaced.
    fn refusal(from: &str, to: &str) -> String {
        assert_eq!(SAMPLE.matches(from).count(), 1, "{from}");
        load(&SAMPLE.replace(from, to)).unwrap_err()
    }

    #[test]
    fn the_sample_is_read_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.conf");
        fs::write(&file, SAMPLE).unwrap();
        let root = folder.path().canonicalize().unwrap();
        let expected = Config {
            file: file.clone(),
            currency: "KUDOS".parse().unwrap(),
            serve: Bind {
                tcp: "127.0.0.1:9966".parse().unwrap(),
            },
            base_url: "https://shop.example/".parse().unwrap(),
            exchanges: vec![ExchangeConfig {
                section: "merchant-exchange-demo".to_owned(),
                base_url: "https://exchange.demo.taler.net/".parse().unwrap(),
                master_key: DEMO_KEY.parse().unwrap(),
                currency: "KUDOS".parse().unwrap(),
                connect_to: Some("127.0.0.1:8443".parse().unwrap()),
                tls_roots: None,
            }],
            witnesses: Vec::new(),
            ledger: root.join("ledger.sqlite3"),
            anchor: root.join("anchor/ledger.anchor"),
            keys: root.join("keys/"),
            origin: "shop.example/quittance".to_owned(),
            undeposited: Undeposited::Typed,
            admin_token_file: Some(root.join("admin.token")),
            auditor_token_file: Some(root.join("auditor.token")),
            trusted_proxies: Network::LOOPBACK.to_vec(),
            disk_reserve: 256 * 1024 * 1024,
            metrics_bind: Some("127.0.0.1:9968".parse().unwrap()),
            log_format: LogFormat::Json,
        };
        assert_eq!(Config::load(&file).unwrap(), expected);
    }

    #[test]
    fn a_reserve_and_roots_are_read() {
        let more = "DISK_RESERVE_MIB = 3\n[merchant-exchange-demo]\nTLS_ROOTS_FILE = tls/ca.pem\n";
        let config = load(&(SAMPLE.to_owned() + more)).unwrap();
        assert_eq!(config.disk_reserve, 3 * 1024 * 1024);
        let roots = config.exchanges[0].tls_roots.clone().unwrap();
        assert!(roots.path.is_absolute() && roots.path.ends_with("tls/ca.pem"));
        assert!(roots.at.to_string().ends_with("c.conf:25"), "{}", roots.at);
        for wrong in ["-1", "256M", "1048577", "0.5"] {
            let refused = load(&format!("{SAMPLE}DISK_RESERVE_MIB = {wrong}\n")).unwrap_err();
            assert!(refused.starts_with("c.conf:23: DISK_RESERVE_MIB = "), "{refused}");
        }
    }

    #[test]
    fn witnesses_are_read() {
        const VKEY: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
        let section = |name: &str, vkey: &str| {
            format!("[Quittance-Witness-{name}]\nURL = https://w.example/log/\nVKEY = {vkey}\n")
        };
        let witnesses = load(&(SAMPLE.to_owned() + &section("one", VKEY)))
            .unwrap()
            .witnesses;
        assert_eq!(witnesses.len(), 1);
        assert_eq!(witnesses[0].vkey.to_string(), VKEY);
        assert_eq!(witnesses[0].url.as_str(), "https://w.example/log/");
        let twice = load(&(SAMPLE.to_owned() + &section("one", VKEY) + &section("two", VKEY))).unwrap_err();
        assert!(twice.contains("a witness is its key"), "{twice}");
        // A log's key, of type 0x01, is no witness's.
        let log = "shop.example/demo+37c25771+ASV1pM3+6huQGxMkYL3Z7qJDxBJZZG0CK5AUQ5Em3Iu9";
        let wrong = load(&(SAMPLE.to_owned() + &section("one", log))).unwrap_err();
        assert!(wrong.contains("cosignature key"), "{wrong}");
        let typo = load(&(SAMPLE.to_owned() + &section("one", VKEY) + "VKEYS = x\n")).unwrap_err();
        assert!(typo.contains("VKEY"), "{typo}");
    }

    #[test]
    fn what_is_optional_may_be_absent() {
        let mut text = SAMPLE.to_owned();
        for line in [
            "BIND_TO",
            "CONNECT_TO",
            "UNDEPOSITED",
            "ADMIN_TOKEN_FILE",
            "AUDITOR_TOKEN_FILE",
        ] {
            text = text.replace(&format!("\n{line} ="), &format!("\n# {line} ="));
        }
        let config = load(&text).unwrap();
        assert_eq!(config.serve.tcp, "127.0.0.1:9966".parse().unwrap());
        assert_eq!(config.exchanges[0].connect_to, None);
        assert_eq!(
            (
                config.undeposited,
                config.admin_token_file,
                config.auditor_token_file
            ),
            (Undeposited::Typed, None, None)
        );
    }

    #[test]
    fn other_sections_hold_what_they_like() {
        let text = format!(
            "{SAMPLE}[merchantdb-postgres]\nCONFIG = postgres:///taler-merchant\n[merchant]\nDATABASE = x\n"
        );
        assert!(load(&text).is_ok());
        assert_eq!(
            load(&SAMPLE.replace("= typed", "= Failure")).unwrap().undeposited,
            Undeposited::Failure
        );
        assert_eq!(
            load(&SAMPLE.replace("BIND_TO = 127.0.0.1", "BIND_TO = ::1"))
                .unwrap()
                .serve
                .tcp
                .to_string(),
            "[::1]:9966"
        );
    }

    #[test]
    fn every_mandatory_option_is_asked_for_by_name() {
        let mandatory = [
            ("taler", "CURRENCY"),
            ("merchant", "SERVE"),
            ("merchant", "PORT"),
            ("merchant", "BASE_URL"),
            ("merchant-exchange-demo", "EXCHANGE_BASE_URL"),
            ("merchant-exchange-demo", "MASTER_KEY"),
            ("merchant-exchange-demo", "CURRENCY"),
            ("quittance", "LEDGER"),
            ("quittance", "ANCHOR"),
            ("quittance", "KEYS"),
            ("quittance", "ORIGIN"),
        ];
        for (section, key) in mandatory {
            let (before, after) = SAMPLE.split_once(&format!("[{section}]\n")).unwrap();
            let line = before.lines().count() + 1;
            let text = format!(
                "{before}[{section}]\n{}",
                after.replacen(&format!("{key} ="), "#", 1)
            );
            let message = load(&text).unwrap_err();
            assert!(
                message.starts_with(&format!("c.conf:{line}: [{section}] has no {key}; add {key} = ")),
                "{message}"
            );
        }
        let message = load("[taler]\nCURRENCY = KUDOS\n").unwrap_err();
        assert!(
            message.ends_with("c.conf: no section [quittance]; add it, with LEDGER = ledger.sqlite3"),
            "{message}"
        );
    }

    #[test]
    fn wrong_values_are_refused_where_they_stand() {
        let cases = [
            (
                "CURRENCY = KUDOS\n[merchant]",
                "CURRENCY = kudos\n[merchant]",
                "c.conf:2: CURRENCY = \"kudos\": must be 3 to 11",
            ),
            (
                "SERVE = tcp",
                "SERVE = unix",
                "c.conf:4: SERVE = \"unix\": only tcp is served; set SERVE = tcp and put a reverse",
            ),
            (
                "BIND_TO = 127.0.0.1",
                "BIND_TO = shop",
                "c.conf:5: BIND_TO = \"shop\": must be an IP address",
            ),
            (
                "PORT = 9966",
                "PORT = 65536",
                "c.conf:6: PORT = \"65536\": must be a number from 0",
            ),
            ("PORT = 9966", "PORT = ", "c.conf:6: PORT = \"\": is empty"),
            (
                "https://shop.example/",
                "https://shop.example",
                "c.conf:7: BASE_URL = \"https://shop.example\": must end in a slash",
            ),
            (
                "https://shop.example/",
                "ftp://shop.example/",
                "c.conf:7: BASE_URL = \"ftp://shop.example/\": must be an http",
            ),
            (
                "https://shop.example/",
                "https://u:p@shop.example/",
                "c.conf:7: BASE_URL = ",
            ),
            (
                "https://shop.example/",
                "https://shop.example/?a/",
                "c.conf:7: BASE_URL = ",
            ),
            (
                "https://exchange.demo.taler.net/",
                "exchange/",
                "c.conf:9: EXCHANGE_BASE_URL = \"exchange/\": must be an http",
            ),
            (
                DEMO_KEY,
                "F80M",
                "c.conf:10: MASTER_KEY = \"F80M\": must be the exchange's master public key",
            ),
            (
                "127.0.0.1:8443",
                "localhost:8443",
                "c.conf:12: CONNECT_TO = \"localhost:8443\": must be IP:PORT",
            ),
            ("127.0.0.1:8443", "127.0.0.1:0", "c.conf:12: CONNECT_TO = "),
            (
                "127.0.0.1:8443 ",
                "1.2.3.4:5\nDISABLED = maybe ",
                "c.conf:13: DISABLED = \"maybe\": must be YES or NO",
            ),
            (
                "anchor/ledger.anchor",
                "ledger.sqlite3",
                "c.conf:15: ANCHOR = \"ledger.sqlite3\": must be another file",
            ),
            (
                "= keys/",
                "= $QUITTANCE_TEST_UNSET/k",
                "c.conf:16: variable \"QUITTANCE_TEST_UNSET\" is neither in [PATHS]",
            ),
            (
                "UNDEPOSITED = typed",
                "UNDEPOSITED = no",
                "c.conf:18: UNDEPOSITED = \"no\": must be typed or failure",
            ),
            (
                "127.0.0.1:9968",
                "9968",
                "c.conf:21: METRICS_BIND = \"9968\": must be IP:PORT",
            ),
            (
                "LOG_FORMAT = json",
                "LOG_FORMAT = xml",
                "c.conf:22: LOG_FORMAT = \"xml\": must be text or json",
            ),
        ];
        for (from, to, expected) in cases {
            let message = refusal(from, to);
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn origins() {
        for good in [
            "shop.example",
            "shop.example:8443/a",
            "shop.example/quittance/2",
            &format!("a/{}", "b".repeat(198)),
        ] {
            assert!(is_origin(good), "{good}");
        }
        let long = format!("a/{}", "b".repeat(199));
        for bad in [
            "",
            "a b",
            "a+b",
            "https://a",
            "quittance/x",
            "/a",
            "a/",
            "a?b",
            "a#b",
            "b@a",
            "sh\u{f6}p.example",
            "a\tb",
            "[a",
            &long,
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
        let message = refusal("ORIGIN = shop.example/quittance", "ORIGIN = quittance/shop");
        assert!(
            message.starts_with("c.conf:17: ORIGIN = \"quittance/shop\": must look like a URL"),
            "{message}"
        );
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let expected = "c.conf:18: [quittance] knows no UNDEPOSITTED; did you mean UNDEPOSITED?";
        assert_eq!(refusal("UNDEPOSITED = typed", "undepositted = typed"), expected);
        let expected = "c.conf:12: [merchant-exchange-demo] knows no CONECT_TO; did you mean CONNECT_TO?";
        assert_eq!(refusal("CONNECT_TO", "CONECT_TO"), expected);
        assert_eq!(distance("LEDGER", "LEDGER"), 0);
        assert_eq!(distance("LEGDERS", "LEDGER"), 3);
        assert_eq!(distance("", "KEYS"), 4);
    }

    #[test]
    fn exchanges_disabled_or_of_another_currency_are_left_out() {
        let exchange = |name: &str, key: &str, more: &str| {
            format!("[{name}]\nEXCHANGE_BASE_URL = https://b.example/\nMASTER_KEY = {key}\n{more}\n")
        };
        let off = exchange(
            "merchant-exchange-off",
            DEMO_KEY,
            "DISABLED = YES\nCURRENCY = KUDOS\nWHATEVER = 1",
        );
        let euro = exchange("merchant-exchange-euro", DEMO_KEY, "CURRENCY = EUR");
        let second = exchange(
            "Merchant-Exchange-B",
            OTHER_KEY,
            "DISABLED = no\nCURRENCY = KUDOS",
        );
        let config = load(&format!("{SAMPLE}{off}{euro}{second}")).unwrap();
        let names: Vec<&str> = config
            .exchanges
            .iter()
            .map(|exchange| exchange.section.as_str())
            .collect();
        assert_eq!(names, ["Merchant-Exchange-B", "merchant-exchange-demo"]);

        let twice = exchange(
            "merchant-exchange-x",
            &DEMO_KEY.to_lowercase(),
            "CURRENCY = KUDOS",
        );
        let message = load(&format!("{SAMPLE}{twice}")).unwrap_err();
        assert!(
            message.starts_with("c.conf:25: the MASTER_KEY of c.conf:10 again"),
            "{message}"
        );
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named_when_it_is_needed() {
        let message = refusal("[quittance]", "@inline-secret@ quittance secret.conf\n[other]");
        assert!(
            message
                .starts_with("c.conf:13: [quittance] has no LEDGER; add LEDGER = ledger.sqlite3 (or make "),
            "{message}"
        );
        assert!(message.ends_with("secret.conf readable)"), "{message}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever replaces a line's value, the answer is a configuration or a message that begins with file
        /// and line.
        #[test]
        fn values_never_panic(line in 0_usize..20, value in r"[ -~\u{e4}]{0,24}") {
            let changed = SAMPLE.lines().enumerate().map(|(at, text)| match text.split_once('=') {
                Some((key, _)) if at == line => format!("{key}={value}\n"),
                _ => format!("{text}\n"),
            });
            if let Err(message) = load(&changed.collect::<String>()) {
                prop_assert!(message.starts_with(&format!("c.conf:{}: ", line + 1)), "{}", message);
            }
        }

        #[test]
        fn distance_is_a_metric(a in "[A-C]{0,6}", b in "[A-C]{0,6}", c in "[A-C]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
