//! Echo request and reply, with the time between them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::icmp::{IcmpSocket, identifier, pattern};

/// Sends one echo request with `size` bytes of data and waits for the reply, whose data must be
/// the same. Returns the time it took.
///
/// # Errors
/// When no reply comes within `patience`, or another one than was asked for.
pub fn ping(target: impl Into<IpAddr>, size: usize, patience: Duration) -> Result<Duration> {
    let target = target.into();
    let socket = IcmpSocket::open(target)?;
    let id = identifier();
    let begin = Instant::now();
    socket.send_echo(target, id, 1, size)?;
    let data = socket
        .wait_for_echo(id, 1, begin + patience)
        .with_context(|| format!("ping {target} with {size} bytes"))?;
    let time = begin.elapsed();
    ensure!(
        data == pattern(size),
        "the reply of {target} carries other data"
    );
    Ok(time)
}
