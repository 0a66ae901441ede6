//! The program as its user runs it: what it prints, how it exits, and what it refuses.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;

use quittance::commands::{self, NewInstance};
use quittance::config::Config;
use quittance_taler::Micros;
use quittance_tlog::note::VerifierKey;
use tempfile::TempDir;

const CONFIG: &str = "\
[taler]
CURRENCY = KUDOS
[merchant]
SERVE = tcp
BIND_TO = 127.0.0.1
PORT = 0
BASE_URL = https://shop.example/
[quittance]
LEDGER = data/ledger.sqlite3
ANCHOR = anchor/ledger.anchor
KEYS = keys/
ORIGIN = shop.example/cli
";

/// A folder with a configuration.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        let home = Home(TempDir::new().unwrap());
        fs::write(home.config(), CONFIG).unwrap();
        home
    }

    /// With a ledger and the root instance's token.
    pub(crate) fn ready() -> (Home, String) {
        let home = Home::new();
        home.ok(&["init"]);
        let token = home.ok(&["instance", "add", "--id", "default"]);
        (home, token.trim().to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("quittance.conf")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quittance"));
        command
            .args(arguments)
            .arg("-c")
            .arg(self.config())
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "0");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exits 0; what it prints on stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exits so, says nothing on stdout, and gives one sentence (or more) on stderr that has all these words.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }

    pub(crate) fn serve(&self) -> Serving {
        let mut child = self
            .command(&["serve"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let addr = line
            .strip_prefix("listening on http://")
            .and_then(|rest| rest.strip_suffix("/\n"))
            .unwrap_or_else(|| panic!("it said {line:?}"))
            .to_owned();
        Serving { child, addr, stdout }
    }

    /// As an auditor sees it: nothing found.
    pub(crate) fn audit(&self, vkey: &str) {
        let report = quittance_replay::verify(&quittance_replay::VerifyOptions {
            ledger: self.path("data/ledger.sqlite3"),
            anchor: Some(self.path("anchor/ledger.anchor")),
            ledger_key: Some(vkey.trim().parse().unwrap()),
            predecessor: None,
            exchange_keys: Vec::new(),
            ..quittance_replay::VerifyOptions::default()
        })
        .unwrap();
        assert!(report.is_sound(), "{}", quittance_replay::print_report(&report));
    }
}

/// A running service; killed if the test fails.
pub(crate) struct Serving {
    child: Child,
    addr: String,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Serving {
    pub(crate) fn send(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    /// SIGTERM, and it exits 0.
    pub(crate) fn ends_well(self) {
        let (status, _) = self.terminate();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// SIGTERM; how it exits, and what else it printed.
    fn terminate(mut self) -> (ExitStatus, String) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_absent_or_empty(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |file| file.len() == 0)
}

#[test]
fn init_prints_the_event_key_and_makes_a_ledger_once() {
    let home = Home::new();
    let printed = home.ok(&["init"]);
    assert_eq!(printed.lines().count(), 1);
    let key: VerifierKey = printed.trim().parse().unwrap();
    assert_eq!(key.to_string(), printed.trim());
    assert!(printed.starts_with("shop.example/cli+"), "{printed}");
    for name in ["keys/event.key", "keys/checkpoint.key"] {
        assert_eq!(mode(&home.path(name)), 0o600, "{name}");
    }
    for name in ["keys", "data", "anchor"] {
        assert_eq!(mode(&home.path(name)), 0o700, "{name}");
    }
    assert!(is_absent_or_empty(&home.path("data/ledger.sqlite3-wal")));
    let before = fs::read(home.path("data/ledger.sqlite3")).unwrap();
    home.fails(&["init"], 1, &["ledger.sqlite3", "exists already"]);
    assert_eq!(fs::read(home.path("data/ledger.sqlite3")).unwrap(), before);
    // A ledger that is gone is not replaced beside its anchor, nor by new keys over the old ones.
    fs::rename(home.path("data/ledger.sqlite3"), home.path("aside")).unwrap();
    home.fails(&["init"], 1, &["ledger.anchor", "exists already"]);
    fs::rename(home.path("anchor/ledger.anchor"), home.path("aside.anchor")).unwrap();
    home.fails(&["init"], 1, &["event.key"]);
    fs::rename(home.path("aside"), home.path("data/ledger.sqlite3")).unwrap();
    fs::rename(home.path("aside.anchor"), home.path("anchor/ledger.anchor")).unwrap();
    home.audit(&printed);
}

#[test]
fn nothing_runs_without_a_ledger_and_none_is_made() {
    let home = Home::new();
    for command in [
        &["serve"][..],
        &["instance", "add", "--id", "default"],
        &["instance", "close", "--id", "default"],
        &["clock-correct", "--reason", "none"],
        &["rotate-key"],
        &["erase", "--attachment", "2:reason", "--reason", "none"],
    ] {
        home.fails(
            command,
            1,
            &["there is no ledger at", "data/ledger.sqlite3", "quittance init"],
        );
    }
    assert!(!home.path("data").exists());
}

#[test]
fn a_wrong_configuration_or_command_exits_2() {
    let home = Home::new();
    fs::write(home.config(), format!("{CONFIG}LEGDER = typo.sqlite3\n")).unwrap();
    // The thirteenth line of the file.
    home.fails(&["init"], 2, &["quittance.conf:13", "LEGDER", "LEDGER"]);
    home.fails(&["serve"], 2, &["quittance.conf:13"]);
    fs::write(home.config(), CONFIG.replace("KUDOS", "kudos!")).unwrap();
    home.fails(&["init"], 2, &["quittance.conf:2", "CURRENCY"]);
    fs::remove_file(home.config()).unwrap();
    home.fails(&["init"], 2, &["quittance.conf"]);
    fs::write(home.config(), CONFIG).unwrap();
    for wrong in [
        &["serve", "--fast"][..],
        &["dance"],
        &["instance", "add"],
        &["instance", "add", "--id", "../x"],
        &["clock-correct"],
        &["rotate-key", "--role", "merchant"],
        &["erase", "--attachment", "2", "--reason", "none"],
        &["erase", "--attachment", "2:notes", "--reason", "none"],
        &["erase", "--attachment", "2:reason"],
        &["init", "--recovery-key", "nonsense"],
        // The point at infinity: anybody could sign under it.
        &[
            "init",
            "--recovery-key",
            "0400000000000000000000000000000000000000000000000000",
        ],
    ] {
        home.fails(wrong, 2, &[]);
    }
    assert!(!home.path("data").exists());
}

#[test]
fn instance_add_prints_the_token_alone() {
    let home = Home::new();
    let vkey = home.ok(&["init"]);
    let printed = home.ok(&["instance", "add", "--id", "default", "--name", "Boots"]);
    let token = printed.strip_suffix('\n').unwrap();
    assert!(
        token.starts_with("secret-token:") && !token.contains(char::is_whitespace),
        "{token:?}"
    );
    for name in ["keys/instance-default.key", "keys/instance-default.json"] {
        assert_eq!(mode(&home.path(name)), 0o600, "{name}");
    }
    // The token is nowhere in the files; only what it hashes to.
    let secret = token.strip_prefix("secret-token:").unwrap();
    let file = fs::read_to_string(home.path("keys/instance-default.json")).unwrap();
    assert!(!file.contains(secret) && file.contains("Boots"), "{file}");
    home.fails(
        &["instance", "add", "--id", "default"],
        1,
        &["default", "open already"],
    );
    home.fails(&["instance", "add", "--id", "admin"], 1, &["admin", "default"]);

    // An operator's own token and a merchant's own key: nothing to print.
    fs::write(
        home.path("own.token"),
        "secret-token:AAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    )
    .unwrap();
    fs::write(home.path("own.key"), [7; 32]).unwrap();
    let (own_token, own_key) = (home.path("own.token"), home.path("own.key"));
    let (own_token, own_key) = (own_token.to_str().unwrap(), own_key.to_str().unwrap());
    let add = [
        "instance",
        "add",
        "--id",
        "own",
        "--token-file",
        own_token,
        "--merchant-key",
        own_key,
    ];
    // Not as long as others may read them.
    fs::set_permissions(own_key, PermissionsExt::from_mode(0o644)).unwrap();
    home.fails(&add, 1, &["own.key", "chmod 600"]);
    fs::set_permissions(own_key, PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(own_token, PermissionsExt::from_mode(0o640)).unwrap();
    home.fails(&add, 1, &["own.token", "chmod 600"]);
    fs::set_permissions(own_token, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(home.ok(&add), "");
    home.fails(
        &["instance", "add", "--id", "again", "--merchant-key", own_key],
        1,
        &["merchant key", "own"],
    );
    fs::write(home.path("own.token"), "secret-token:short").unwrap();
    home.fails(
        &["instance", "add", "--id", "weak", "--token-file", own_token],
        1,
        &["22"],
    );

    let serving = home.serve();
    let body = "{\"contract_terms\":{}}";
    for (path, token, status) in [
        ("private/ledger/orders", token, "400"),
        ("instances/own/private/ledger/orders", token, "401"),
        (
            "instances/own/private/ledger/orders",
            "secret-token:AAAAAAAAAAAAAAAAAAAAAAAAAA",
            "400",
        ),
    ] {
        let reply = serving.send("POST", path, token, body);
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {reply}"
        );
    }
    serving.ends_well();
    home.audit(&vkey);
}

#[test]
fn serve_says_where_it_listens_and_ends_in_order() {
    let (home, token) = Home::ready();
    let serving = home.serve();
    assert!(!serving.addr.ends_with(":0"));
    let config = serving.send("GET", "config", &token, "");
    assert!(config.contains("\"name\":\"taler-merchant\""), "{config}");
    assert!(
        fs::metadata(home.path("data/ledger.sqlite3-wal")).is_ok(),
        "it is at work"
    );
    let (status, printed) = serving.terminate();
    assert_eq!((status.code(), printed.as_str()), (Some(0), ""), "{status}");
    assert!(is_absent_or_empty(&home.path("data/ledger.sqlite3-wal")));
    // And again, on the same ledger.
    home.serve().ends_well();
}

#[test]
fn a_second_process_is_told_about_the_first() {
    let (home, _) = Home::ready();
    let serving = home.serve();
    let pid = serving.child.id().to_string();
    for command in [
        &["serve"][..],
        &["instance", "add", "--id", "second"],
        &["instance", "close", "--id", "default"],
        &["clock-correct", "--reason", "none"],
        &["rotate-key"],
        &["erase", "--attachment", "2:reason", "--reason", "none"],
    ] {
        home.fails(command, 1, &["in use", "serve", &pid]);
    }
    serving.ends_well();
    home.ok(&["instance", "add", "--id", "second"]);
}

#[test]
fn keys_that_others_may_read_are_not_used() {
    let (home, _) = Home::ready();
    for name in [
        "keys/event.key",
        "keys/checkpoint.key",
        "keys/instance-default.key",
        "keys/instance-default.json",
    ] {
        for open in [0o644, 0o640, 0o602] {
            fs::set_permissions(home.path(name), PermissionsExt::from_mode(open)).unwrap();
            let base = name.strip_prefix("keys/").unwrap();
            home.fails(&["serve"], 1, &[base, "chmod 600", &format!("{open:o}")]);
        }
        fs::set_permissions(home.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    // Nor another key in its place.
    fs::write(home.path("keys/instance-default.key"), [7; 32]).unwrap();
    home.fails(&["serve"], 1, &["instance default"]);
    fs::copy(home.path("keys/checkpoint.key"), home.path("keys/event.key")).unwrap();
    home.fails(&["serve"], 1, &["event key"]);
}

#[test]
fn a_ledger_behind_its_anchor_is_not_continued() {
    let home = Home::new();
    let vkey = home.ok(&["init"]);
    let (ledger, early, late) = (
        home.path("data/ledger.sqlite3"),
        home.path("early"),
        home.path("late"),
    );
    fs::copy(&ledger, &early).unwrap();
    home.ok(&["instance", "add", "--id", "default"]);
    fs::copy(&ledger, &late).unwrap();
    fs::copy(&early, &ledger).unwrap();
    for command in [
        &["serve"][..],
        &["instance", "add", "--id", "other"],
        &["clock-correct", "--reason", "none"],
        &["rotate-key"],
        &["erase", "--attachment", "2:reason", "--reason", "none"],
    ] {
        let told = [
            "behind its anchor",
            "What this means",
            "backup",
            "a backup is never served from again",
            "quittance init -c NEW --continues OLD --anchor A",
        ];
        home.fails(command, 3, &told);
    }
    assert_eq!(fs::read(&ledger).unwrap(), fs::read(&early).unwrap());
    // The right file again: all is well.
    fs::copy(&late, &ledger).unwrap();
    home.serve().ends_well();
    home.audit(&vkey);
}

#[test]
fn a_clock_that_went_back_is_corrected_by_the_operator() {
    let home = Home::new();
    let vkey = home.ok(&["init"]);
    // An hour ahead, somebody recorded an event.
    let config = Config::load(&home.config()).unwrap();
    let now = quittance::clock::system()().get();
    let ahead: quittance::clock::Clock = Arc::new(move || Micros::new(now + 3_600_000_000).unwrap());
    let new = NewInstance {
        id: "ahead".parse().unwrap(),
        name: None,
        merchant_key: None,
        token_file: None,
    };
    commands::add_instance(&config, &ahead, &new).unwrap();

    home.fails(&["instance", "add", "--id", "now"], 1, &["clock"]);
    let said = home.ok(&["clock-correct", "--reason", "the battery was empty"]);
    assert!(said.contains(&(now + 3_600_000_000).to_string()), "{said}");
    // The files of the refused instance stay; another id is free.
    home.ok(&["instance", "add", "--id", "later"]);
    home.audit(&vkey);
}

#[test]
fn a_closed_instance_is_unknown() {
    let (home, token) = Home::ready();
    home.ok(&["instance", "add", "--id", "second"]);
    assert_eq!(home.ok(&["instance", "close", "--id", "default"]), "");
    home.fails(
        &["instance", "close", "--id", "default"],
        1,
        &["default", "not open"],
    );
    home.fails(
        &["instance", "close", "--id", "nobody"],
        1,
        &["nobody", "not open"],
    );
    let serving = home.serve();
    let reply = serving.send("POST", "orders/x/refund", &token, "{}");
    assert!(
        reply.starts_with("HTTP/1.1 404 ") && reply.contains("\"code\":2000"),
        "{reply}"
    );
    let reply = serving.send("POST", "private/ledger/orders", &token, "{}");
    assert!(reply.starts_with("HTTP/1.1 401 "), "{reply}");
    let reply = serving.send("GET", "instances/second/config", &token, "");
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    serving.ends_well();
}

#[test]
fn help_and_version_are_printed() {
    for argument in ["--help", "--version"] {
        let output = Command::new(env!("CARGO_BIN_EXE_quittance"))
            .arg(argument)
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .to_lowercase()
                .contains("quittance")
        );
    }
}
