//! What a running `plat` tells about itself (`plat status`, `plat sessions`).

use std::io;
use std::net::SocketAddrV4;
use std::str::FromStr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nat64::{Nat64, TcpState};
use nat64_host::{
    Export, FilterError, Import, SessionFilter, SessionFollower, SessionList, Sorted,
};
use plat_host::{DrainOrder, StatusSource};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::info;
use xlat_host::daemon::control::{Answer, ask};
use xlat_host::daemon::exit;
use xlat_host::daemon::wall_clock::epoch;
use xlat_tun::now;

use crate::cli::{self, OfProtocol, SortedBy};
use crate::moved::{AT, LAYOUT, TOTAL};
use crate::orders::{self, Order, Orders};

/// Subscribers that `plat status` names.
const TOP: usize = 5;
/// Sessions that are sorted, unless another number is asked for.
const SORTED: usize = 1000;
/// Most programs that follow the sessions at the same time.
pub(crate) const FOLLOWERS: usize = 4;
/// Bytes of a line of a session, and how long the next one may take to come.
const SESSION_MAX: u64 = 512;
const SILENCE: Duration = Duration::from_secs(10);
const OTHER_LAYOUT: &str = "the other gateway has its subscribers elsewhere in its tables: both need the same file \
                            `secret` in the state directory (copied before the start) and the same --queues";
/// What the last line of a drain begins with that did not come to its end.
const NOT_DRAINED: &str = "not drained: ";
/// Least and most time between two lines of a drain.
const PROGRESS: Duration = Duration::from_secs(1);
const REMINDER: Duration = Duration::from_secs(10);
/// How often those who follow get news.
const NEWS: Duration = Duration::from_millis(250);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Reload,
    /// Take no new subscribers.
    Drain {
        /// At most so many milliseconds.
        at_most: Option<u64>,
        early: bool,
    },
    Resume,
    /// The sessions, for another gateway.
    Export {
        client: Option<String>,
        external: Option<String>,
    },
    /// Those of another gateway follow.
    ImportSessions {
        /// When they left it, in seconds since 1970.
        at: u64,
        /// Where its subscribers are.
        layout: String,
    },
    /// Who has an external port.
    Whose {
        external: SocketAddrV4,
    },
    Status {
        json: bool,
        /// As it is known, without measuring anything first.
        #[serde(default)]
        known: bool,
    },
    List(Listing),
    /// What programs before 0.2.0 ask for.
    Sessions {
        json: bool,
        client: Option<String>,
    },
}

/// Which sessions, and how they are shown.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Listing {
    json: bool,
    follow: bool,
    protocol: Option<OfProtocol>,
    client: Option<String>,
    remote: Option<String>,
    external: Option<String>,
    /// Names of TCP states.
    states: Vec<String>,
    sort: Option<SortedBy>,
    limit: Option<usize>,
}

impl From<cli::Sessions> for Listing {
    fn from(flags: cli::Sessions) -> Self {
        let states = flags.state.iter();
        Self {
            json: flags.json,
            follow: flags.follow,
            protocol: flags.protocol,
            client: flags.client,
            remote: flags.remote,
            external: flags.external,
            states: states.map(|state| state.0.name().to_owned()).collect(),
            sort: flags.sort,
            limit: flags.limit,
        }
    }
}

impl Listing {
    fn filter(&self) -> Result<SessionFilter, String> {
        let states = self.states.iter().map(|name| {
            let state = TcpState::ALL.into_iter().find(|one| one.name() == name);
            state.ok_or_else(|| format!("--state: there is no state {name}"))
        });
        Ok(SessionFilter {
            protocol: self.protocol.map(Into::into),
            client: side("--client", self.client.as_deref())?,
            external: side("--external", self.external.as_deref())?,
            remote: side("--remote", self.remote.as_deref())?,
            states: states.collect::<Result<_, _>>()?,
        })
    }
}

/// Why it is not known who has an external port.
enum Unknown {
    /// Ports are not a function of the subscriber.
    NoFunction,
    Nobody,
}

/// What answers come from.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) source: StatusSource,
    pub(crate) orders: Orders,
    /// Places for those who follow the sessions.
    pub(crate) followers: Arc<Semaphore>,
}

impl Control {
    /// Answers one request.
    pub(crate) async fn answer(self, request: Request, mut answer: Answer) -> io::Result<()> {
        match request {
            Request::Reload => self.give(Order::Reload, answer).await,
            Request::Resume => self.give(Order::Resume, answer).await,
            Request::Export { client, external } => {
                let filter = Listing {
                    client,
                    external,
                    ..Listing::default()
                };
                match self.movable().and_then(|nat| Ok((nat, filter.filter()?))) {
                    Ok((nat, filter)) => export(nat, filter, answer).await,
                    Err(reason) => answer.refuse(&reason).await,
                }
            }
            Request::ImportSessions { at, layout } => match self.movable() {
                Ok(nat) if layout_of(nat) != layout => answer.refuse(OTHER_LAYOUT).await,
                Ok(nat) => {
                    let summary = import(nat, at, &mut answer).await?;
                    // An answer is not worth more than the sessions.
                    let _ = orders::give(&self.orders, Order::Look).await;
                    answer.text(&summary).await
                }
                Err(reason) => answer.refuse(&reason).await,
            },
            Request::Drain { at_most, early } => {
                let at_most = at_most.map(Duration::from_millis);
                let order = Order::Drain(DrainOrder { at_most, early });
                match at_most {
                    None => self.give(order, answer).await,
                    Some(_) => self.drain(order, answer).await,
                }
            }
            Request::Whose { external } => match self.whose(external) {
                Ok(line) => answer.text(&line).await,
                Err(Unknown::NoFunction) => {
                    let line = "this plat runs without --deterministic: the session log knows";
                    answer.refuse(line).await
                }
                Err(Unknown::Nobody) => answer.nothing("nobody has that address and port").await,
            },
            Request::Status { json, known } => {
                match known {
                    true => self.source.judge(),
                    false => drop(self.source.measure(true).await),
                }
                let status = self.source.status(TOP);
                match json {
                    true => answer.json(&status).await,
                    false => answer.text(&status.to_text()).await,
                }
            }
            Request::List(wanted) => self.sessions(wanted, answer).await,
            Request::Sessions { json, client } => {
                let wanted = Listing {
                    json,
                    client,
                    ..Listing::default()
                };
                self.sessions(wanted, answer).await
            }
        }
    }

    /// The tables, if another gateway can have the same addresses.
    fn movable(&self) -> Result<&Nat64, String> {
        let Some(source) = &self.source.nat else {
            return Err("this plat keeps no sessions: it runs without --pool".into());
        };
        let nat = source.nat();
        match nat.outer() {
            None => Ok(nat),
            Some(_) => {
                Err("clients share an address of this host, which no other gateway has".into())
            }
        }
    }

    async fn give(&self, order: Order, mut answer: Answer) -> io::Result<()> {
        match orders::give(&self.orders, order).await {
            Ok(line) => answer.text(&format!("{line}\n")).await,
            Err(reason) => answer.refuse(&reason).await,
        }
    }

    /// Begins a drain and tells how far it is until it is over, or others end it.
    async fn drain(&self, order: Order, mut answer: Answer) -> io::Result<()> {
        match orders::give(&self.orders, order).await {
            Ok(line) => answer.text(&format!("{line}\n")).await?,
            Err(reason) => return answer.refuse(&reason).await,
        }
        let mut told = (None, Instant::now());
        loop {
            let seen = self.source.drain.lock();
            let seen = seen.unwrap_or_else(PoisonError::into_inner).clone();
            let Some(seen) = seen else {
                return answer.text(&format!("{NOT_DRAINED}it was resumed\n")).await;
            };
            if seen.over {
                return answer.text(&format!("{seen}\n")).await;
            }
            let is_new = told.0 != Some(seen.sessions);
            if is_new && told.1.elapsed() >= PROGRESS || told.1.elapsed() >= REMINDER {
                answer.text(&format!("{seen}\n")).await?;
                told = (Some(seen.sessions), Instant::now());
            }
            tokio::select! {
                () = answer.closed() => return Ok(()),
                () = tokio::time::sleep(NEWS) => {}
            }
        }
    }

    /// The subscriber who has an external port.
    fn whose(&self, external: SocketAddrV4) -> Result<String, Unknown> {
        let nat = self.source.nat.as_ref().map(nat64_host::StatusSource::nat);
        let nat = nat.filter(|nat| nat.config().ports.deterministic);
        let nat = nat.ok_or(Unknown::NoFunction)?;
        let subscriber = nat.subscriber_of(*external.ip(), external.port());
        let subscriber = subscriber.ok_or(Unknown::Nobody)?;
        Ok(format!("{subscriber}\n"))
    }

    async fn sessions(self, wanted: Listing, answer: Answer) -> io::Result<()> {
        let Some(source) = &self.source.nat else {
            let line = "this plat keeps no sessions: it runs without --pool";
            return answer.refuse(line).await;
        };
        let filter = match wanted.filter() {
            Ok(filter) => filter,
            Err(reason) => return answer.refuse(&reason).await,
        };
        let nat = source.nat();
        match wanted.follow {
            true => self.follow(nat, filter, wanted.json, answer).await,
            false => list(nat, filter, &wanted, answer).await,
        }
    }

    /// Tells of changes as long as the client listens.
    async fn follow(
        &self,
        nat: &Nat64,
        filter: SessionFilter,
        json: bool,
        mut answer: Answer,
    ) -> io::Result<()> {
        let Ok(_permit) = self.followers.try_acquire() else {
            let line = format!("{FOLLOWERS} programs follow the sessions already");
            return answer.refuse(&line).await;
        };
        let follower = SessionFollower::new(nat, filter, json);
        answer.text(&follower.heading()).await?;
        loop {
            let has_left = tokio::select! {
                () = answer.closed() => true,
                () = tokio::time::sleep(NEWS) => false,
            };
            if has_left {
                return Ok(());
            }
            let news = follower.news(nat, now(), SystemTime::now())?;
            if !news.is_empty() {
                answer.text(&news).await?;
            }
        }
    }
}

/// Asks the running gateway to drain, and shows how far it is.
///
/// # Errors
/// It does not answer, or sessions are left when the time is over.
pub(crate) fn drain(flags: &cli::Drain) -> anyhow::Result<()> {
    let at_most = flags.wait.map(Duration::from);
    let request = Request::Drain {
        at_most: at_most.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        early: flags.now,
    };
    let place = &flags.place;
    let mut failed = None;
    ask(&place.run_dir, &place.tun, &request, |line| {
        if line.starts_with(NOT_DRAINED) {
            failed = Some(line.trim_end().to_owned());
            return Ok(());
        }
        exit::print(line)
    })?;
    match failed {
        Some(line) => Err(anyhow::anyhow!(line)),
        None => Ok(()),
    }
}

async fn export(nat: &Nat64, filter: SessionFilter, mut answer: Answer) -> io::Result<()> {
    let head = format!("{AT}{}\n{LAYOUT}{}\n", epoch(), layout_of(nat));
    answer.text(&head).await?;
    let mut export = Export::new(filter);
    while let Some(page) = export.next_page(nat) {
        match page.is_empty() {
            false => answer.text(&page).await?,
            // Others have their turn.
            true => tokio::task::yield_now().await,
        }
    }
    let total = format!("{TOTAL}{}\n", export.count());
    answer.text(&total).await
}

/// Takes up what the client sends, and says what became of it.
async fn import(nat: &Nat64, at: u64, answer: &mut Answer) -> io::Result<String> {
    let mut import = Import::new(at);
    let mut body = answer.ask_for_body().await?;
    let mut line = String::new();
    let mut number = 0_u32;
    loop {
        line.clear();
        let mut one = (&mut body).take(SESSION_MAX);
        if timeout(SILENCE, one.read_line(&mut line)).await?? == 0 {
            break;
        }
        if !line.starts_with(TOTAL) {
            import.take(nat, line.trim_end());
        }
        number = number.wrapping_add(1);
        if number.is_multiple_of(256) {
            tokio::task::yield_now().await;
        }
    }
    let summary = import.summary();
    info!(
        "from another gateway: {}",
        summary.trim_end().replace('\n', "; ")
    );
    Ok(summary)
}

fn layout_of(nat: &Nat64) -> String {
    format!("{:016x}", nat.layout_id())
}

/// Lists sessions page by page.
async fn list(
    nat: &Nat64,
    filter: SessionFilter,
    wanted: &Listing,
    mut answer: Answer,
) -> io::Result<()> {
    let limit = match wanted.sort {
        Some(_) => Some(wanted.limit.unwrap_or(SORTED)),
        None => wanted.limit,
    };
    let mut list = SessionList::new(filter, limit, wanted.json);
    let mut sorted = wanted
        .sort
        .map(|by| Sorted::new(by.into(), limit.unwrap_or(SORTED)));
    loop {
        let page = match &mut sorted {
            Some(sorted) => list.sorted(nat, sorted)?,
            None => match list.next_page(nat)? {
                Some(page) => Some(page),
                None => break,
            },
        };
        match page {
            Some(page) if !page.is_empty() => answer.text(&page).await?,
            // Others have their turn.
            _ => tokio::task::yield_now().await,
        }
        if sorted.is_some() && list.is_read() {
            break;
        }
    }
    match list.total(nat) {
        Some(total) => answer.text(&total).await,
        None => answer.nothing("no session matches").await,
    }
}

/// What a flag says about one side of sessions.
fn side<S: FromStr<Err = FilterError>>(
    flag: &str,
    text: Option<&str>,
) -> Result<Option<S>, String> {
    let parsed = text.map(|text| {
        text.parse::<S>()
            .map_err(|error| format!("{flag} {text}: {error}"))
    });
    parsed.transpose()
}
