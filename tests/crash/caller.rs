//! Asks the program as a shop and its wallets do, and says when it is gone.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quittance_events::receipt::HEADER;
use serde_json::Value;

/// The program is gone.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) receipt: Option<String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Caller {
    token: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Caller {
    pub(crate) fn new(token: String) -> Caller {
        let mut client = Client::builder(TokioExecutor::new());
        // A connection to a program that was killed must not be taken for one to its successor.
        let client = client.pool_max_idle_per_host(0).build_http();
        Caller { token, client }
    }

    pub(crate) async fn post(&self, addr: SocketAddr, path: &str, body: &Value) -> Result<Reply, Gone> {
        let mut request = hyper::Request::post(format!("http://{addr}/{path}"));
        if path.starts_with("private/") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let reply = self.client.request(request).await.map_err(|_| Gone)?;
        let status = reply.status().as_u16();
        let receipt = reply.headers().get(HEADER);
        let receipt = receipt.map(|value| value.to_str().unwrap().to_owned());
        let body = reply.into_body().collect().await.map_err(|_| Gone)?;
        Ok(Reply {
            status,
            receipt,
            body: body.to_bytes().to_vec(),
        })
    }
}
