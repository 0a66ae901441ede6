//! TLS towards an exchange: a server with a certificate of its own authority, in front of the sandbox or of a prepared
//! reply.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use quittance::app::{App, StartError};
use quittance::config::RootsFile;
use quittance::limits::REPLY_MAX;
use quittance_events::copy::Copy;
use quittance_events::{Event, Facts};
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, acceptor, authority, roots};
use crate::support::{Coin, Options, Shop, coin};
use crate::{attempts, entry, failure, success};

const HOST: &str = "exchange.test";

/// What stands behind the TLS server.
#[derive(Clone)]
enum Behind {
    Exchange(SocketAddr),
    Reply(Vec<u8>),
}

struct Server {
    addr: SocketAddr,
    behind: Arc<Mutex<Option<Behind>>>,
}

impl Server {
    async fn start(authority: &Authority) -> Server {
        let acceptor = acceptor(authority, HOST);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(None));
        let to = Arc::clone(&behind);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let behind: Option<Behind> = to.lock().unwrap().clone();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us is gone here.
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    match behind.expect("said before it is asked") {
                        Behind::Exchange(addr) => {
                            let mut exchange = TcpStream::connect(addr).await.unwrap();
                            let _ = copy_bidirectional(&mut stream, &mut exchange).await;
                        }
                        Behind::Reply(reply) => {
                            let mut request = [0; 4096];
                            let _ = stream.read(&mut request).await.unwrap();
                            // The reader may have had enough.
                            let _ = stream.write_all(&reply).await;
                            let _ = stream.shutdown().await;
                        }
                    }
                });
            }
        });
        Server { addr, behind }
    }

    fn put(&self, behind: Behind) {
        *self.behind.lock().unwrap() = Some(behind);
    }

    /// A shop whose exchange is this server, with these roots.
    async fn shop(&self, roots: &Path) -> Shop {
        // The sandbox's keys come from its seed: this is the one that the shop will start.
        let same = quittance_sandbox::Sandbox::start(quittance_sandbox::SandboxConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            currency: "KUDOS".parse().unwrap(),
            seed: 11,
            clock: quittance_sandbox::system_clock(),
        })
        .await
        .unwrap();
        let url = format!("https://{HOST}:{}/", self.addr.port());
        let options = Options {
            exchange: Some((url, same.master_pub().to_string(), self.addr)),
            more_config: format!("TLS_ROOTS_FILE = {}", roots.display()),
            ..Options::default()
        };
        same.stop().await;
        let shop = Shop::open_with(options).await;
        self.put(Behind::Exchange(shop.sandbox.addr()));
        shop
    }
}

fn one() -> [Coin; 1] {
    [coin(1, "KUDOS:4", "KUDOS:0.1")]
}

#[tokio::test]
async fn the_configured_root_vouches_for_the_exchange() {
    let (folder, authority) = (TempDir::new().unwrap(), authority());
    let server = Server::start(&authority).await;
    let mut shop = server.shop(&roots(&folder, &authority)).await;
    let hash = shop.sell("half", "KUDOS:20", &one(), false).await;
    let body = shop.abort("half", hash, &one()).await.expect(200);
    assert_eq!(entry(&body, 0), success());
    shop.audit().await;
}

#[tokio::test]
async fn an_exchange_that_the_root_does_not_vouch_for_is_sent_nothing() {
    let (folder, ours) = (TempDir::new().unwrap(), authority());
    let server = Server::start(&authority()).await;
    let mut shop = server.shop(&roots(&folder, &ours)).await;
    let hash = shop.sell("half", "KUDOS:20", &one(), false).await;
    assert_eq!(shop.abort("half", hash, &one()).await.error(), (502, 2010));
    assert!(shop.sandbox.requests().is_empty());
    shop.audit().await;
}

#[tokio::test]
async fn over_tls_too_a_redirect_is_not_followed_and_a_reply_without_end_is_cut() {
    let (folder, authority) = (TempDir::new().unwrap(), authority());
    let server = Server::start(&authority).await;
    let mut shop = server.shop(&roots(&folder, &authority)).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = [coin(2, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("first", "KUDOS:20", &first, false).await;
    shop.abort("first", hash, &first).await.expect(200);
    let hash = shop.sell("sold", "KUDOS:4", &one(), true).await;
    shop.approve("sold", "KUDOS:2").await.expect(200);
    let moved = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/coins/x/refund\r\ncontent-length: 2\r\n\r\n{{}}",
        elsewhere.local_addr().unwrap()
    );
    let endless = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{{\"a\":\"{}\"}}",
        "x".repeat(4 * REPLY_MAX)
    );
    for reply in [moved, endless] {
        server.put(Behind::Reply(reply.into_bytes()));
        let body = shop.fetch("sold", hash).await.expect(200);
        assert_eq!(entry(&body, 0), failure(502, 2013));
        shop.clock.advance_s(5);
    }
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(50), elsewhere.accept()).await;
    nobody.unwrap_err();
    shop.stop().await;
    let recorded = attempts(&shop.events(), &one()[0]);
    assert_eq!(recorded[..2], ["1 307 Malformed", "2 200 Unproven"]);
    let mut kept = Vec::new();
    Copy::open(&shop.ledger())
        .unwrap()
        .walk::<quittance_events::copy::CopyError>(|stored| {
            let stored = stored.unwrap();
            if let Facts::ExchangeReplied(_) = Event::parse(&stored.sealed).unwrap().facts {
                kept.extend(
                    stored
                        .attachments
                        .iter()
                        .map(|one| one.bytes.as_ref().unwrap().len()),
                );
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(kept.iter().max(), Some(&REPLY_MAX));
    shop.audit().await;
}

#[tokio::test]
async fn a_roots_file_that_holds_none_is_told_at_the_start_with_its_line() {
    let (folder, authority) = (TempDir::new().unwrap(), authority());
    let server = Server::start(&authority).await;
    let mut shop = server.shop(&roots(&folder, &authority)).await;
    shop.stop().await;
    let named = shop.config.exchanges[0].tls_roots.clone().unwrap();
    let line = named.at.to_string();
    assert!(line.contains("quittance.conf:"), "{line}");
    let broken = authority.pem().replace("MII", "AAA");
    for (name, text, why) in [
        ("missing.pem", None, "No such file"),
        ("empty.pem", Some(String::new()), "it holds no certificate in PEM"),
        (
            "key.pem",
            Some(KeyPair::generate().unwrap().serialize_pem()),
            "it holds no certificate in PEM",
        ),
        ("broken.pem", Some(broken), "certificate 1: "),
    ] {
        let path = folder.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let mut config = shop.config.clone();
        config.exchanges[0].tls_roots = Some(RootsFile {
            path: path.clone(),
            ..named.clone()
        });
        let error = App::start(&config, shop.clock.clock(), shop.times).await;
        let error: StartError = error.err().unwrap();
        let text = error.to_string();
        let expected = format!("{line}: TLS_ROOTS_FILE = {}: ", path.display());
        assert!(text.starts_with(&expected) && text.contains(why), "{text}");
        assert_eq!(error.exit_code(), 2);
    }
    shop.start().await;
}
