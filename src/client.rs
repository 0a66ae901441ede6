//! An HTTP client for one exchange or witness at one address, and for webhooks. No cookies, no redirects, no retries of its own: an
//! attempt that happens unseen would be missing in the evidence. Bounded in size here, in time by its callers.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
#[cfg(feature = "simulation")]
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quittance_events::facts::Failure;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use url::Url;

use crate::config::RootsFile;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub http_status: u16,
    /// Body as received, at most as much of it as was asked for.
    pub body: Vec<u8>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS needs them.
    #[error("no root certificates to check {0} with: {1}")]
    Roots(Url, std::io::Error),
    /// The configured ones.
    #[error("{}: TLS_ROOTS_FILE = {}: {why}", .file.at, .file.path.display())]
    RootsFile {
        /// Which file, and where the configuration names it.
        file: RootsFile,
        /// What is wrong with it.
        why: String,
    },
}

/// The certificates of a PEM file, each of which must be usable: an operator who names one means it.
fn read_roots(file: &RootsFile) -> Result<RootCertStore, ClientError> {
    let fail = |why: String| ClientError::RootsFile {
        file: file.clone(),
        why,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&file.path).map_err(|e| fail(e.to_string()))?;
    for (number, certificate) in (1..).zip(certificates) {
        let which = |e: &dyn std::fmt::Display| fail(format!("certificate {number}: {e}"));
        let certificate = certificate.map_err(|e| which(&e))?;
        roots.add(certificate).map_err(|e| which(&e))?;
    }
    if roots.is_empty() {
        return Err(fail("it holds no certificate in PEM".into()));
    }
    Ok(roots)
}

/// Connects to the address that the configuration gives, or to the URL's host.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    connect_to: Option<SocketAddr>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect_to = self.connect_to;
        Box::pin(async move {
            let stream = match connect_to {
                Some(address) => TcpStream::connect(address).await?,
                None => {
                    let https = uri.scheme_str() == Some("https");
                    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
                    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                    TcpStream::connect((host, port)).await?
                }
            };
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

pub(crate) struct Client {
    base_url: Url,
    media_type: &'static str,
    inner: legacy::Client<HttpsConnector<Connector>, Full<Bytes>>,
    /// Stands in for the network.
    #[cfg(feature = "simulation")]
    pub(crate) wire: Option<Arc<dyn Wire>>,
}

/// A simulated network. It is handed whole requests; when and how each ends is its own affair.
#[cfg(feature = "simulation")]
pub trait Wire: Send + Sync {
    /// Sends a request.
    fn call(&self, url: Url, body: Vec<u8>) -> Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;
}

impl Client {
    /// `media_type` is that of what is sent and wanted. `roots` stand in place of the system's.
    pub(crate) fn new(
        base_url: &Url,
        connect_to: Option<SocketAddr>,
        media_type: &'static str,
        roots: Option<&RootsFile>,
    ) -> Result<Client, ClientError> {
        let builder = HttpsConnectorBuilder::new();
        let with = |roots: RootCertStore| {
            rustls::ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth()
        };
        let builder = match roots {
            Some(file) => builder.with_tls_config(with(read_roots(file)?)),
            None if base_url.scheme() == "https" => builder
                .with_native_roots()
                .map_err(|e| ClientError::Roots(base_url.clone(), e))?,
            // Plain HTTP needs no roots, and a machine without any can still run the demo and the tests.
            None => builder.with_tls_config(with(RootCertStore::empty())),
        };
        let connector = builder
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector { connect_to });
        let inner = legacy::Client::builder(TokioExecutor::new())
            // A kept connection that the exchange closed meanwhile would look like a lost reply.
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Client {
            base_url: base_url.clone(),
            media_type,
            inner,
            #[cfg(feature = "simulation")]
            wire: None,
        })
    }

    pub(crate) async fn get(&self, path: &str, max: usize) -> Result<Reply, Failure> {
        self.send(Method::GET, path, Vec::new(), max).await
    }

    pub(crate) async fn post(&self, path: &str, body: Vec<u8>, max: usize) -> Result<Reply, Failure> {
        self.send(Method::POST, path, body, max).await
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>, max: usize) -> Result<Reply, Failure> {
        let url = self
            .base_url
            .join(path)
            .expect("a plain path joins a base URL that ends in a slash");
        #[cfg(feature = "simulation")]
        if let Some(wire) = &self.wire {
            let mut reply = wire.call(url, body).await?;
            reply.body.truncate(max);
            return Ok(reply);
        }
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header("content-type", self.media_type)
            .header("accept", self.media_type)
            .body(Full::new(Bytes::from(body)))
            .expect("a URL is a request target");
        self.call(request, max).await
    }

    /// Sends a request as it is, to the address that it names.
    pub(crate) async fn call(&self, request: Request<Full<Bytes>>, max: usize) -> Result<Reply, Failure> {
        let reply = self.inner.request(request).await.map_err(|error| {
            if error.is_connect() {
                Failure::Connect
            } else {
                Failure::Closed
            }
        })?;
        let http_status = reply.status().as_u16();
        let mut stream = reply.into_body();
        let mut body = Vec::new();
        while body.len() < max {
            let Some(frame) = stream.frame().await else { break };
            if let Ok(data) = frame.map_err(|_| Failure::Closed)?.into_data() {
                body.extend_from_slice(&data);
            }
        }
        // What is longer is cut: no longer JSON, it is judged malformed, and the evidence of it is kept.
        body.truncate(max);
        Ok(Reply { http_status, body })
    }
}
