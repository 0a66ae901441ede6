//! The program under test as a process whose every log line is kept.

use std::fs::{OpenOptions, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quittance_sandbox::{Sandbox, SandboxConfig, system_clock};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::key_text;

pub(crate) const MERCHANT: [u8; 32] = [5; 32];
/// Far longer than starting and stopping take on a machine with much else to do.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Program {
    pub(crate) folder: TempDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) token: String,
    /// Certificates in place of the system's.
    pub(crate) roots: Option<PathBuf>,
    child: Option<(Child, SocketAddr)>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Program {
    /// A folder with a ledger and one instance, and an exchange. `more` stands in `[quittance]`.
    pub(crate) async fn make(more: &str) -> Program {
        let sandbox = Sandbox::start(SandboxConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            currency: "KUDOS".parse().unwrap(),
            seed: 21,
            clock: system_clock(),
        })
        .await
        .unwrap();
        let config = format!(
            "[taler]\nCURRENCY = KUDOS\n[merchant]\nSERVE = tcp\nPORT = 0\nBASE_URL = https://shop.example/\n\
             [merchant-exchange-test]\nEXCHANGE_BASE_URL = {}\nMASTER_KEY = {}\nCURRENCY = KUDOS\n[quittance]\n\
             LEDGER = data/ledger.sqlite3\nANCHOR = anchor/ledger.anchor\nKEYS = keys/\nORIGIN = shop.example/watched\n\
             {more}\n",
            sandbox.base_url(),
            sandbox.master_pub(),
        );
        let mut program = Program {
            folder: TempDir::new().unwrap(),
            sandbox,
            token: String::new(),
            roots: None,
            child: None,
            client: Client::builder(TokioExecutor::new()).build_http(),
        };
        std::fs::write(program.path("quittance.conf"), config).unwrap();
        let key = program.private("merchant.key", &key_text(MERCHANT));
        program.run(&["init"]).await;
        let add = ["instance", "add", "--id", "default", "--merchant-key", &key];
        program.token = program.run(&add).await;
        program
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only its owner reads; gives its name.
    pub(crate) fn private(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// All that the program has written to stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quittance"));
        command
            .args(arguments)
            .arg("-c")
            .arg(self.path("quittance.conf"))
            // All that there is, of the libraries too.
            .env("QUITTANCE_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(roots) = &self.roots {
            command.env("SSL_CERT_FILE", roots);
        }
        command
    }

    /// Runs a command to its end; gives what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", self.log());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&mut self) {
        let mut child = self.command(&["serve"]).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("it does not start: {}", self.log()))
            .unwrap();
        let addr = line.trim().strip_prefix("listening on http://").unwrap();
        let addr = addr.trim_end_matches('/').parse().unwrap();
        self.child = Some((child, addr));
    }

    /// SIGTERM, and a clean end.
    pub(crate) async fn terminate(&mut self) {
        let (mut child, _) = self.child.take().unwrap();
        let id = child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status();
        assert!(kill.await.unwrap().success());
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it does not stop: {}", self.log()));
        assert_eq!(status.unwrap().code(), Some(0), "{}", self.log());
    }

    /// Sends a request; gives status, the request's id if it has one, and body.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Option<String>, Vec<u8>) {
        let (_, addr) = self.child.as_ref().unwrap();
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{addr}/{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let reply = self.client.request(request).await.unwrap();
        let id = reply.headers().get("quittance-request");
        let id = id.map(|id| id.to_str().unwrap().to_owned());
        let status = reply.status().as_u16();
        (
            status,
            id,
            reply.into_body().collect().await.unwrap().to_bytes().to_vec(),
        )
    }

    /// As the shop: with its token.
    pub(crate) async fn post_private(&self, path: &str, body: &Value) -> Value {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str())];
        let (status, _, reply) = self
            .send("POST", path, &headers, body.to_string().into_bytes())
            .await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
        serde_json::from_slice(&reply).unwrap()
    }
}
