//! The program under test as a process, in a folder of its own.

use std::fs::{File, OpenOptions, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use quittance_replay::{VerifyOptions, print_report, verify};
use quittance_sandbox::{Sandbox, SandboxConfig, system_clock};
use quittance_taler::EddsaPrivateKey;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::load::World;
use crate::support::key_text;
use crate::support::selling::PAYTO;

pub(crate) const MERCHANT: [u8; 32] = [5; 32];
/// Far longer than starting and stopping take on a machine with much else to do.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Program {
    folder: TempDir,
    pub(crate) vkey: String,
    child: Option<Child>,
}

/// A sandbox, a folder with a ledger and one instance, and the world of its clients.
pub(crate) async fn make() -> (Program, World) {
    let (mut program, sandbox) = prepare().await;
    program.vkey = program.run(&["init"]).await;
    let token = program.run(&ADD_INSTANCE).await;
    program.run(&["account", "add", "--payto", PAYTO]).await;
    let merchant_pub = EddsaPrivateKey::from_bytes(MERCHANT).merchant_pub();
    (program, World::new(sandbox, merchant_pub, token))
}

/// Adds the one instance; the key lies where the program is run.
pub(crate) const ADD_INSTANCE: [&str; 6] = [
    "instance",
    "add",
    "--id",
    "default",
    "--merchant-key",
    "merchant.key",
];

/// A sandbox, and a folder with a configuration for it and nothing else.
pub(crate) async fn prepare() -> (Program, Sandbox) {
    let sandbox = Sandbox::start(SandboxConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        currency: "KUDOS".parse().unwrap(),
        seed: 21,
        clock: system_clock(),
    })
    .await
    .unwrap();
    let folder = TempDir::new().unwrap();
    let config = format!(
        "[taler]\nCURRENCY = KUDOS\n[merchant]\nSERVE = tcp\nBIND_TO = 127.0.0.1\nPORT = 0\n\
         BASE_URL = https://shop.example/\n[merchant-exchange-test]\nEXCHANGE_BASE_URL = {}\nMASTER_KEY = {}\n\
         CURRENCY = KUDOS\n[quittance]\nLEDGER = data/ledger.sqlite3\nANCHOR = anchor/ledger.anchor\nKEYS = keys/\n\
         ORIGIN = shop.example/crash\n",
        sandbox.base_url(),
        sandbox.master_pub(),
    );
    std::fs::write(folder.path().join("quittance.conf"), config).unwrap();
    let key = folder.path().join("merchant.key");
    std::fs::write(&key, key_text(MERCHANT)).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let program = Program {
        folder,
        vkey: String::new(),
        child: None,
    };
    (program, sandbox)
}

impl Program {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.path("data/ledger.sqlite3")
    }

    /// What the program had to say, for whoever reads a failed test.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The program, run by `wrapper` (and its arguments) where there is one.
    fn command(&self, wrapper: &[String], arguments: &[&str]) -> Command {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let program = env!("CARGO_BIN_EXE_quittance");
        let mut command = match wrapper {
            [] => Command::new(program),
            [wrapper, its @ ..] => {
                let mut command = Command::new(wrapper);
                command.args(its).arg(program);
                command
            }
        };
        command
            .args(arguments)
            .arg("-c")
            .arg(self.path("quittance.conf"))
            .env("RUST_LOG", "warn")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end; gives what it printed.
    async fn run(&self, arguments: &[&str]) -> String {
        let child = self.command(&[], arguments).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", self.log());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn spawn(&mut self) {
        self.spawn_by(&[]);
    }

    pub(crate) fn spawn_by(&mut self, wrapper: &[String]) {
        assert!(self.child.is_none());
        self.child = Some(self.command(wrapper, &["serve"]).spawn().unwrap());
    }

    /// Runs a command to its end, whatever that is: exit code (none: a signal), and what it printed.
    pub(crate) async fn try_run(&self, wrapper: &[String], arguments: &[&str]) -> (Option<i32>, String) {
        let child = self.command(wrapper, arguments).spawn().unwrap();
        // Not `output`, which would take stderr away from the log.
        let output = child.wait_with_output().await.unwrap();
        let printed = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        (output.status.code(), printed)
    }

    /// A copy of a program that does not run, in a folder of its own.
    pub(crate) fn copied(&self) -> Program {
        fn copy(from: &Path, to: &Path) {
            for entry in std::fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let to = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    std::fs::create_dir(&to).unwrap();
                    std::fs::set_permissions(&to, entry.metadata().unwrap().permissions()).unwrap();
                    copy(&entry.path(), &to);
                } else {
                    std::fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let folder = TempDir::new().unwrap();
        copy(self.folder.path(), folder.path());
        Program {
            folder,
            vkey: self.vkey.clone(),
            child: None,
        }
    }

    /// Waits for its end, however it comes; gives the exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it does not end: {}", self.log()));
        status.unwrap().code()
    }

    /// SIGTERM, if it still runs.
    pub(crate) async fn ask_to_stop(&self) {
        let id = self.child.as_ref().and_then(Child::id).unwrap().to_string();
        // It may be gone already, which `kill` reports.
        let _ = Command::new("kill").args(["-TERM", &id]).output().await.unwrap();
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&mut self) -> SocketAddr {
        self.spawn();
        let addr = self.listens().await;
        addr.unwrap_or_else(|line| panic!("{line:?}: {}", self.log()))
    }

    /// Waits until it listens; gives what it printed instead where it ends.
    pub(crate) async fn listens(&mut self) -> Result<SocketAddr, String> {
        let stdout = self.child.as_mut().unwrap().stdout.take().unwrap();
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("it does not start: {}", self.log()))
            .unwrap();
        let addr = line
            .trim()
            .strip_prefix("listening on http://")
            .and_then(|rest| rest.strip_suffix('/'));
        addr.map(|addr| addr.parse().unwrap()).ok_or(line.clone())
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    /// SIGTERM, and a clean end.
    pub(crate) async fn terminate(&mut self) {
        let mut child = self.child.take().unwrap();
        let id = child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .await
                .unwrap()
                .success()
        );
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended
            .unwrap_or_else(|_| panic!("it does not stop: {}", self.log()))
            .unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// The auditor finds nothing in the ledger, stopped or killed as it is.
    pub(crate) async fn verify(&self) {
        let options = VerifyOptions {
            ledger: self.ledger(),
            anchor: Some(self.path("anchor/ledger.anchor")),
            // None where `init` was cut short before it told the key.
            ledger_key: (!self.vkey.is_empty()).then(|| self.vkey.parse().unwrap()),
            predecessor: None,
            exchange_keys: Vec::new(),
            ..VerifyOptions::default()
        };
        let report = tokio::task::spawn_blocking(move || verify(&options))
            .await
            .unwrap()
            .unwrap();
        assert!(report.is_sound(), "{}", print_report(&report));
    }
}
