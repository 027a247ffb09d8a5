//! What comes back through a translator.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;
use std::time::Duration;

use doctor::{Finding, checks};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::icmp4::{self, Reply};
use crate::icmp6;

/// Who is asked for an answer.
#[derive(Debug)]
pub struct Way {
    /// By what.
    pub echo: Echo,
    /// The IPv4 address, for people.
    pub target: String,
    /// The target is known to answer: otherwise its silence means nothing.
    pub is_known: bool,
    /// Largest packet to send, in bytes.
    pub mtu: u16,
}

/// Echo requests of one family.
#[derive(Debug)]
pub enum Echo {
    /// Through the TUN, as IPv4 programs do.
    V4(icmp4::Echo),
    /// Into the prefix.
    V6(icmp6::Echo),
}

impl Echo {
    async fn ask(&self, sequence: u16, length: usize, patience: Duration) -> Reply {
        match self {
            Self::V4(echo) => echo.ask(sequence, length, patience).await.1,
            Self::V6(echo) => echo.ask(sequence, length, patience).await,
        }
    }
}

/// The target that an administrator names: an IPv4 address, and a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who answers pings.
    pub address: Ipv4Addr,
    /// Who takes TCP connections.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || format!("an IPv4 address, or one with a port, not {text}");
        match text.parse::<SocketAddrV4>() {
            Ok(both) => Ok(Self {
                address: *both.ip(),
                port: Some(both.port()),
            }),
            Err(_) => Ok(Self {
                address: text.parse().map_err(|_| refused())?,
                port: None,
            }),
        }
    }
}

/// Requests of which one must be answered.
const TRIES: u16 = 3;

/// Pings, and takes about so long if there is no answer.
pub async fn ping(way: &Way, patience: Duration) -> Finding {
    let target = &way.target;
    if answers(way, patience).await {
        return checks::PATH.ok(format!("{target} answers a ping"));
    }
    let text = format!("{target} does not answer a ping");
    match way.is_known {
        true => checks::PATH.fail(text),
        false => checks::PATH.skipped(format!(
            "{text}, and need not behind every NAT64; give --target with an address that does"
        )),
    }
}

/// Whether large packets pass like small ones. Through a TUN they are UDP datagrams, to which the answer
/// is a small one: large answers to pings come in fragments from beyond a NAT64, and translators do not
/// translate fragments of ICMP (RFC 7915 section 1.2). Into the prefix they are pings.
pub async fn sizes(way: &Way, patience: Duration) -> Finding {
    let (check, target) = (&checks::PATH_MTU, &way.target);
    let each = patience / 6;
    let unmeasured = || {
        check.skipped(format!(
            "{target} does not answer what could be made larger"
        ))
    };
    let small = sized(way, SMALL, if way.is_known { 2 } else { 1 }, each).await;
    if small != Reply::Echo {
        return unmeasured();
    }
    let finding = large(way, each).await;
    // Answers may be limited in number: silence counts while small packets are answered.
    if finding.outcome.is_fault() && sized(way, SMALL, 1, each).await != Reply::Echo {
        return unmeasured();
    }
    finding
}

async fn sized(way: &Way, length: usize, tries: u16, each: Duration) -> Reply {
    let Echo::V4(echo) = &way.echo else {
        return ask(way, length, tries, each).await;
    };
    for _ in 0..tries {
        let reply = echo.ask_port(NOBODY, length, each).await;
        if reply != Reply::Silence {
            return reply;
        }
    }
    Reply::Silence
}

/// The port at which traceroute expects nobody.
const NOBODY: u16 = 33434;

async fn answers(way: &Way, patience: Duration) -> bool {
    // One that may never answer is not asked again: that would look like packets that get lost.
    let tries = if way.is_known { TRIES } else { 1 };
    ask(way, SMALL, tries, patience / u32::from(tries)).await == Reply::Echo
}

/// Bytes of a packet that passes everywhere.
const SMALL: usize = 84;

async fn large(way: &Way, each: Duration) -> Finding {
    let (check, target) = (&checks::PATH_MTU, &way.target);
    let mut size = way.mtu;
    for _ in 0..TRIES {
        match sized(way, size.into(), 2, each).await {
            Reply::Echo if size == way.mtu => {
                return check.ok(format!("{target} answers packets of {size} bytes"));
            }
            Reply::Echo => {
                let full = way.mtu;
                return check.ok(format!(
                    "a link on the way takes {size} bytes, not {full}, and says so; those are answered"
                ));
            }
            Reply::TooBig(mtu) if (68..size).contains(&mtu) => size = mtu,
            Reply::TooBig(mtu) => {
                return check.fail(format!("{size} bytes are refused as too big for {mtu}"));
            }
            Reply::Silence => {
                return check.fail(format!(
                    "{target} answers small packets, and none of {size} bytes; no router says why"
                ));
            }
        }
    }
    check.fail(format!(
        "one router after the other wants smaller packets, at last {size} bytes"
    ))
}

async fn ask(way: &Way, length: usize, tries: u16, each: Duration) -> Reply {
    for sequence in 1..=tries {
        let number = sequence + if length == SMALL { 0 } else { 100 };
        let reply = way.echo.ask(number, length, each).await;
        if reply != Reply::Silence {
            return reply;
        }
    }
    Reply::Silence
}

/// Connects to a target that the administrator named. A refusal is an answer.
pub async fn tcp(target: SocketAddr, patience: Duration) -> Finding {
    let check = &checks::PATH;
    let outcome: io::Result<_> = match timeout(patience, TcpStream::connect(target)).await {
        Ok(outcome) => outcome.map(drop),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    };
    match outcome {
        Ok(()) => check.ok(format!("a TCP connection to {target} is made")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            check.ok(format!("{target} refuses a TCP connection, and so answers"))
        }
        Err(error) => check.fail(format!("no TCP connection to {target}: {error}")),
    }
}
