//! Waits at a start for what is not there yet: at boot interfaces, addresses, routes and
//! `/etc/resolv.conf` come in any order.
//!
//! Nothing on the host is changed while a start waits. systemd shows what it waits for, is asked
//! for more time, and the log has one line for each thing.

use std::future::{Future, ready};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use xlat_tun::counters::Metric;

use super::control::{Answer, SCHEMA, Socket};
use super::flags::{RunFlags, StatusGroup};
use super::health::HealthStatus;
use super::metrics::{Metrics, Page};
use super::notify;
use super::signals::{Request, Signals};
use crate::host::{Changes, Error, Host};

/// How often the start looks again without a change in the network: no message tells of files.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How often systemd is asked for more time.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Something that a start needs and that may still come: not the fault of the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// A start that waits for what is missing.
#[derive(Debug)]
pub struct Waiting {
    /// Name of the program.
    program: &'static str,
    run_dir: PathBuf,
    /// Name of the instance.
    name: String,
    status_group: Option<StatusGroup>,
    metrics: Option<SocketAddr>,
    signals: Signals,
    changes: Changes,
}

impl Waiting {
    /// Prepares to wait: signals are caught and changes of the network noticed from now on. While
    /// the start waits, `status` and the metrics of the instance `name` say so. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no rtnetlink socket or no signals.
    pub fn new(
        program: &'static str,
        (run_dir, name): (&Path, &str),
        flags: &RunFlags,
    ) -> Result<Self, Error> {
        Ok(Self {
            program,
            run_dir: run_dir.into(),
            name: name.into(),
            status_group: flags.status_group,
            metrics: flags.metrics,
            signals: Signals::catch().map_err(|error| Error::Netlink(error.to_string()))?,
            changes: Changes::listen()?,
        })
    }

    /// Attempts a step of the start until nothing is missing. `missing` finds in an error what may
    /// still come. `None` if the administrator ends the daemon meanwhile.
    ///
    /// # Errors
    /// Those of the step that no wait helps against.
    pub async fn until_there<T, E, F: Future<Output = Result<T, E>>>(
        &mut self,
        missing: impl Fn(&E) -> Option<Missing>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Option<T>, E> {
        let waits_for = Arc::new(Mutex::new(String::new()));
        let (mut answering, mut told) = (None, None);
        let outcome = loop {
            let late = match attempt().await {
                Ok(done) => break Ok(Some(done)),
                Err(error) => match missing(&error) {
                    Some(Missing(line)) => line,
                    None => break Err(error),
                },
            };
            let is_new = *lock(&waits_for) != late;
            if is_new {
                info!("the start waits: {late}");
                lock(&waits_for).clone_from(&late);
            }
            if is_new || told.is_none_or(|at: Instant| at.elapsed() >= TELL_AGAIN) {
                notify::waiting(&format!("waiting: {late}"));
                told = Some(Instant::now());
            }
            if answering.is_none() {
                answering = Some(self.answer(&waits_for).await);
            }
            tokio::select! {
                request = self.signals.next() => match request {
                    Request::Stop => break Ok(None),
                    // The files are read when the start goes on.
                    Request::Reload => {}
                },
                () = self.changes.next() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        };
        if let Some((socket, metrics)) = answering {
            drop(metrics);
            // The socket has gone from the file system when its task has.
            if let Some(socket) = socket {
                socket.abort();
                let _ = socket.await;
            }
        }
        outcome
    }

    /// The signals, for the daemon that has started.
    pub fn into_signals(self) -> Signals {
        self.signals
    }

    /// Tells those who ask what the start waits for.
    async fn answer(
        &self,
        waits_for: &Arc<Mutex<String>>,
    ) -> (Option<JoinHandle<()>>, Option<Metrics>) {
        let (program, line) = (self.program, Arc::clone(waits_for));
        let socket = Socket::bind(&self.run_dir, &self.name, self.status_group.as_ref());
        let socket = socket.map(|socket| {
            tokio::spawn(socket.serve(move |request, answer| {
                let line = lock(&line).clone();
                reply(program, line, request, answer)
            }))
        });
        let line = Arc::clone(waits_for);
        let measure = move || ready(HealthStatus::waiting(&lock(&line)));
        let metrics = self
            .metrics
            .map(|address| Metrics::serve(address, page, measure));
        let socket = socket.inspect_err(|error| warn!("no status meanwhile: {error}"));
        let metrics = metrics
            .map(|served| served.inspect_err(|error| warn!("no metrics meanwhile: {error}")));
        (socket.ok(), metrics.and_then(Result::ok))
    }
}

/// Looks whether these interfaces are there.
///
/// # Errors
/// If the kernel refuses.
pub async fn links(host: &Host, names: &[String]) -> Result<Result<(), Missing>, Error> {
    let have = host.links().await?;
    let mut names = names.iter();
    let missing = names.find(|name| !have.iter().any(|link| link.name == **name));
    Ok(match missing {
        None => Ok(()),
        Some(name) => Err(Missing(format!("there is no interface {name}"))),
    })
}

/// Looks whether this host has these addresses and may use them.
///
/// # Errors
/// If the kernel refuses.
pub async fn addresses(host: &Host, addresses: &[Ipv6Addr]) -> Result<Result<(), Missing>, Error> {
    let all = host.addresses().await?;
    for address in addresses {
        let mut have = all.iter().filter(|have| have.address == *address);
        let what = match have.next() {
            None => "is no address of this host",
            Some(have) if have.duplicate => "is used by another host on the link",
            Some(have) if have.tentative => "is in duplicate address detection",
            Some(_) => continue,
        };
        return Ok(Err(Missing(format!("{address} {what}"))));
    }
    Ok(Ok(()))
}

/// Answers `status`, in both forms, and nothing else.
async fn reply(program: &str, line: String, request: Value, mut answer: Answer) -> io::Result<()> {
    match request.get("Status").map(|status| &status["json"]) {
        Some(Value::Bool(true)) => {
            let health = HealthStatus::waiting(&line);
            answer
                .json(&json!({ "schema": SCHEMA, "health": health, "waits_for": line }))
                .await
        }
        Some(_) => answer.text(&format!("{program} waits: {line}\n")).await,
        None => {
            let refusal = format!("{program} has not started yet, it waits: {line}");
            answer.refuse(&refusal).await
        }
    }
}

fn page() -> String {
    let mut page = Page::new();
    write_page(&mut page, true);
    page.into_text()
}

/// Adds whether the start waits.
pub fn write_page(page: &mut Page, waits: bool) {
    let help = "1 while the start waits for something that is not there yet.";
    let metric = Metric::gauge("xlat_start_waiting", help);
    page.family(metric, [(String::new(), u64::from(waits))]);
}

fn lock(line: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(results: Vec<Result<u8, Missing>>) -> Result<(Option<u8>, usize), Missing> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let place = (directory.path(), "nat64");
            let mut waiting = Waiting::new("plat", place, &RunFlags::default()).unwrap();
            let count = results.len();
            let mut results = results.into_iter();
            let missing = |error: &Missing| (error.0 != "hopeless").then(|| error.clone());
            let done = waiting.until_there(missing, || {
                let next = results.next().expect("no attempt too many");
                async { next }
            });
            let done = done.await?;
            assert!(!directory.path().join("nat64.sock").exists());
            Ok((done, count - results.len()))
        })
    }

    #[test]
    fn fp_15_what_is_late_is_waited_for_and_what_is_wrong_is_not() {
        let late = || Err(Missing("eth0 is not there".into()));
        let hopeless = Missing("hopeless".into());
        assert_eq!(attempt(vec![Ok(7)]), Ok((Some(7), 1)));
        assert_eq!(attempt(vec![late(), late(), Ok(7)]), Ok((Some(7), 3)));
        assert_eq!(attempt(vec![late(), Err(hopeless.clone())]), Err(hopeless));
    }
}
