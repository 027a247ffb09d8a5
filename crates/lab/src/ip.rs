//! `ip` of iproute2 in a namespace.

use anyhow::Result;

use crate::command::output;
use crate::namespace::Namespace;

/// Where Debian has it.
pub const IP: &str = "/usr/sbin/ip";

/// Runs `ip` with these words, and returns what it prints.
///
/// # Errors
/// When it complains.
pub fn ip(namespace: &Namespace, words: &str) -> Result<String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    output(namespace, IP, &words, "")
}

/// The same with `-6`: routes, rules and neighbours of IPv6.
///
/// # Errors
/// When it complains.
pub fn ip6(namespace: &Namespace, words: &str) -> Result<String> {
    ip(namespace, &format!("-6 {words}"))
}
