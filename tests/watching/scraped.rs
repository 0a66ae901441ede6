//! Metrics as Prometheus gets them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Options, Shop};

/// A shop that serves metrics.
pub(crate) fn watched() -> Options {
    Options {
        more_config: "[quittance]\nMETRICS_BIND = 127.0.0.1:0\n".into(),
        ..Options::default()
    }
}

/// Sends a request's head as it is; gives the reply's head and body.
pub(crate) async fn raw(addr: SocketAddr, head: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// One reading of all metrics.
pub(crate) struct Scraped {
    pub(crate) text: String,
    series: BTreeMap<String, String>,
}

impl Scraped {
    pub(crate) async fn from(addr: SocketAddr) -> Scraped {
        let (head, text) = raw(addr, "GET /metrics HTTP/1.1\r\nhost: metrics\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Scraped::read(text)
    }

    pub(crate) async fn of(shop: &Shop) -> Scraped {
        Scraped::from(shop.app().metrics_addr().unwrap()).await
    }

    pub(crate) fn read(text: String) -> Scraped {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut series = BTreeMap::new();
        for line in lines {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let twice = series.insert(name.to_owned(), value.to_owned());
            assert_eq!(twice, None, "{line}");
        }
        Scraped { text, series }
    }

    /// Families' names as `# TYPE` has them, with what it says that they are.
    pub(crate) fn types(&self) -> BTreeMap<String, String> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types
            .map(|line| {
                let (name, kind) = line.split_once(' ').unwrap();
                (name.to_owned(), kind.to_owned())
            })
            .collect()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The sum of a metric's series that bear these labels; 0 where there is none. They are whole numbers.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let whole = |text: &str| text.strip_suffix(".0").unwrap_or(text).parse::<u64>().unwrap();
        self.find(name, labels).map(whole).sum()
    }

    /// The one series of a metric that is a time.
    pub(crate) fn seconds(&self, name: &str) -> Duration {
        let text = self.find(name, &[]).next().unwrap();
        Duration::from_secs_f64(text.parse().unwrap())
    }

    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.find(name, labels).next().is_some()
    }

    fn find<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a str> + 'a {
        let matching = self.series.iter().filter(move |(series, _)| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let bears = |(label, value): &(&str, &str)| rest.contains(&format!("{label}=\"{value}\""));
            found == format!("quittance_{name}") && labels.iter().all(bears)
        });
        matching.map(|(_, value)| value.as_str())
    }
}
