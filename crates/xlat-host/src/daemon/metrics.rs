//! Metrics for Prometheus: one page over HTTP, in its text format.
//!
//! Only `GET` and `HEAD` are supported, and each connection gets one response within a time limit,
//! which is all that a scraper needs. No scraper waits for another one (`Clients`).

use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use confinement::{Kind, Thread};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio::time::timeout;
use tracing::{error, warn};

use super::clients::{Clients, Limits};
use super::health::HealthStatus;
use xlat_tun::counters::{Families, Family, Metric, Sample};

/// Time limit for one connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most connections served at the same time.
const SCRAPERS: Limits = Limits {
    each_source: 16,
    all: 64,
};
/// Longest request in bytes.
const REQUEST_MAX: usize = 4096;

/// The HTTP endpoint, a thread of its own. Dropping it closes the port.
#[derive(Debug)]
pub struct Metrics {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<Thread>,
}

/// The address and port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("--metrics {address}: {source}")]
pub struct MetricsError {
    address: SocketAddr,
    source: std::io::Error,
}

impl Metrics {
    /// Listens on `address`; `page` renders the page for each request, and `measure` measures before
    /// how the daemon does, on the runtime of the caller: this thread lacks the privileges for it.
    ///
    /// # Errors
    /// If the address and port cannot be listened on, or the thread does not start.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn serve<M: Future<Output = HealthStatus> + Send + 'static>(
        address: SocketAddr,
        page: impl Fn() -> String + Send + Sync + 'static,
        measure: impl Fn() -> M + Send + Sync + 'static,
    ) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let control = Handle::current();
        let measure = move || control.spawn(measure());
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            if let Err(error) = run(listener, (page, measure), stopped) {
                warn!("no metrics any more: {error}");
            }
        };
        let killed = || error!("no metrics until the next start");
        let thread = confinement::spawn(Kind::Metrics, "metrics", || {}, work, killed);
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread.map_err(failed)?),
        })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // That it was killed has been reported.
            let _ = thread.join();
        }
    }
}

fn run<M: Future<Output = Result<HealthStatus, JoinError>> + Send + 'static>(
    listener: std::net::TcpListener,
    site: (
        impl Fn() -> String + Send + Sync + 'static,
        impl Fn() -> M + Send + Sync + 'static,
    ),
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        tokio::select! {
            () = accept(listener, Arc::new(site)) => {}
            _ = stopped => {}
        }
        Ok(())
    })
}

async fn accept<M: Future<Output = Result<HealthStatus, JoinError>> + Send + 'static>(
    listener: TcpListener,
    site: Arc<(
        impl Fn() -> String + Send + Sync + 'static,
        impl Fn() -> M + Send + Sync + 'static,
    )>,
) {
    let mut clients: Clients<IpAddr> = Clients::new(SCRAPERS);
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let site = Arc::clone(&site);
        let task = tokio::spawn(async move {
            // A failed response concerns only its scraper.
            let _ = timeout(PATIENCE, answer(stream, &site.0, &site.1)).await;
        });
        clients.admit(from.ip(), task.abort_handle());
    }
}

async fn answer<M: Future<Output = Result<HealthStatus, JoinError>>>(
    mut stream: TcpStream,
    page: &impl Fn() -> String,
    measure: &impl Fn() -> M,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await? {
            0 => break,
            length => request.extend(&buffer[..length]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let mut words = request.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or(target);
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/" | "/metrics") => {
            measure().await?;
            ("200 OK", page())
        }
        // Another start would help against nothing that was measured.
        ("GET" | "HEAD", "/healthz") => ("200 OK", measure().await?.to_text()),
        ("GET" | "HEAD", "/readyz") => {
            let health = measure().await?;
            let status = match health.is_ready() {
                true => "200 OK",
                false => "503 Service Unavailable",
            };
            (status, health.to_text())
        }
        ("GET" | "HEAD", _) => (
            "404 Not Found",
            "only /metrics, /healthz and /readyz are here\n".to_owned(),
        ),
        _ => (
            "405 Method Not Allowed",
            "only GET is understood\n".to_owned(),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// A page of metrics, built family by family.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A page without metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a family of samples, each with its labels (`name="value"`, separated by commas; empty
    /// for a single sample).
    pub fn family(
        &mut self,
        metric: Metric,
        figures: impl IntoIterator<Item = (String, u64)>,
    ) -> &mut Self {
        let mut families = Families::default();
        let family = families.family(metric);
        for (labels, figure) in figures {
            family.add(labels, figure);
        }
        self.families(families)
    }

    /// Adds families that a table of counters has made.
    pub fn families(&mut self, families: impl IntoIterator<Item = Family>) -> &mut Self {
        let text = &mut self.0;
        for Family { metric, samples } in families {
            let Metric { name, kind, help } = metric;
            // Writing into a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for Sample {
                suffix,
                labels,
                value,
            } in samples
            {
                let _ = match labels.as_str() {
                    "" => writeln!(text, "{name}{suffix} {value}"),
                    labels => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
                };
            }
        }
        self
    }

    /// The page as text.
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_page_is_in_the_text_format() {
        let mut page = Page::new();
        let (x, y) = (
            Metric::counter("x_total", "What it is."),
            Metric::gauge("y", "Others."),
        );
        let two = [("a=\"b\"".into(), 1), ("a=\"c\"".into(), 2)];
        page.family(x, [(String::new(), 7)]).family(y, two);
        assert_eq!(
            page.into_text(),
            "# HELP x_total What it is.\n# TYPE x_total counter\nx_total 7\n\
             # HELP y Others.\n# TYPE y gauge\ny{a=\"b\"} 1\ny{a=\"c\"} 2\n"
        );
        let mut families = Families::default();
        let times = families.family(Metric::histogram("z_seconds", "Times."));
        times.add_part("_bucket", "le=\"+Inf\"", 3);
        times.add_part("_sum", "", 7.25);
        let mut page = Page::new();
        page.families(families);
        assert_eq!(
            page.into_text(),
            "# HELP z_seconds Times.\n# TYPE z_seconds histogram\n\
             z_seconds_bucket{le=\"+Inf\"} 3\nz_seconds_sum 7.25\n"
        );
        let mut page = Page::new();
        page.families(xlat_tun::counters::Snapshot::default().families());
        let text = page.into_text();
        assert!(text.contains("xlat_packets_total{family=\"ipv6\",direction=\"in\"} 0\n"));
    }

    #[test]
    fn a_scraper_gets_the_page_and_nothing_else_is_there() {
        let (runtime, address) = runtime_and_free_address();
        let _context = runtime.enter();
        let served = Metrics::serve(
            address,
            || "figures\n".into(),
            async || HealthStatus::default(),
        );
        let _served = served.unwrap();
        for (request, status, body) in [
            ("GET /metrics", "HTTP/1.1 200 OK", "\r\n\r\nfigures\n"),
            ("GET /metrics?name[]=x", "HTTP/1.1 200 OK", "figures\n"),
            (
                "HEAD /metrics",
                "HTTP/1.1 200 OK",
                "Connection: close\r\n\r\n",
            ),
            ("GET /other", "HTTP/1.1 404 ", "/readyz are here\n"),
            ("POST /metrics", "HTTP/1.1 405 ", "only GET is understood\n"),
            ("", "HTTP/1.1 405 ", ""),
        ] {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.starts_with(status) && text.ends_with(body), "{text}");
            let is_right = text.contains("Content-Length: 8\r\n");
            assert!(is_right || !status.contains("200"), "{text}");
        }
    }

    #[test]
    fn he_04_what_is_broken_is_not_ready_and_lives() {
        let (runtime, address) = runtime_and_free_address();
        let measure = async || HealthStatus::waiting("no eth0");
        let _context = runtime.enter();
        let served = Metrics::serve(address, String::new, measure);
        let _served = served.unwrap();
        for (path, status) in [("/healthz", "200"), ("/readyz", "503")] {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(
                text.ends_with("\r\n\r\nbroken\nbroken: no eth0\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn se_29_slow_scrapers_keep_nobody_waiting() {
        let (runtime, address) = runtime_and_free_address();
        let _context = runtime.enter();
        let served = Metrics::serve(address, String::new, async || HealthStatus::default());
        let _served = served.unwrap();
        let mut slow = Vec::new();
        for _ in 0..200 {
            let mut one = std::net::TcpStream::connect(address).unwrap();
            one.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
            slow.push(one);
            let start = std::time::Instant::now();
            let mut other = std::net::TcpStream::connect(address).unwrap();
            other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut text = String::new();
            other.read_to_string(&mut text).unwrap();
            assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
            assert!(start.elapsed() < PATIENCE / 2);
        }
    }

    fn runtime_and_free_address() -> (tokio::runtime::Runtime, SocketAddr) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        (runtime.unwrap(), free.local_addr().unwrap())
    }
}
