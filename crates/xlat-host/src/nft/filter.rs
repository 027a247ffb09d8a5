//! Finds chains of other programs that may drop translated packets.

use std::io;

use netlink_sys::Socket;

use super::NftError;
use super::message::{
    DONE, DUMP, ERROR, GET_CHAIN, GET_RULE, REQUEST, attributes, connect, message, messages,
    outcome,
};

/// A chain that drops forwarded packets without a matching rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppingChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Name of its table.
    pub table: String,
    /// Name of the chain.
    pub name: String,
}

/// Chains that drop forwarded packets unless one of their rules accepts them: by their policy, or
/// by a last rule that matches every packet (as firewalld does).
///
/// # Errors
/// If the kernel refuses; also where it has no nf_tables.
pub fn dropping_forward_chains() -> Result<Vec<DroppingChain>, NftError> {
    let failed = |source| NftError {
        what: "the chains cannot be listed",
        table: None,
        source,
    };
    let socket = connect().map_err(failed)?;
    let mut chains = Vec::new();
    dump(&socket, GET_CHAIN, |body| {
        chains.extend(forward_chain(body))
    })
    .map_err(failed)?;
    if chains.iter().any(|chain: &Chain| !chain.drops) {
        dump(&socket, GET_RULE, |body| apply_rule(&mut chains, body)).map_err(failed)?;
    }
    let dropping = chains.into_iter().filter(|chain| chain.drops);
    Ok(dropping.map(|chain| chain.place).collect())
}

/// Warns in the log about chains that may drop the packets that `tun` translates.
pub fn warn_of_dropping_chains(tun: &str) {
    let chains = match dropping_forward_chains() {
        Ok(chains) => chains,
        Err(error) => return tracing::debug!("{error}"),
    };
    for chain in chains {
        let (family, table, name) = (chain.family, &chain.table, &chain.name);
        tracing::warn!(
            "chain {name} of table {family} {table} drops forwarded packets that it has no rule \
             for; if translated ones are among them: nft insert rule {family} {table} {name} \
             iifname {tun} accept, and the same with oifname"
        );
    }
    for (command, list) in [
        ("iptables-legacy", "/proc/thread-self/net/ip_tables_names"),
        ("ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names"),
    ] {
        let tables = std::fs::read_to_string(list).unwrap_or_default();
        if tables.lines().any(|table| table == "filter") {
            tracing::info!(
                "this host has rules of {command}, which plat does not inspect; if translated \
                packets \
                 do not pass, see {command} -S FORWARD"
            );
        }
    }
}

/// A chain that forwarded packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    place: DroppingChain,
    /// Its policy, or one of its rules, drops every packet that gets there.
    drops: bool,
}

pub(super) fn dump(socket: &Socket, what: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    socket.send(&message(what, REQUEST | DUMP, 0, UNSPECIFIED, &[]), 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE => return Ok(()),
                ERROR => return outcome(body),
                _ => each(body),
            }
        }
    }
}

fn forward_chain(body: &[u8]) -> Option<Chain> {
    let (family, rest) = family(body)?;
    let hook = find(rest, 4)?;
    if number(find(hook, 1)?)? != FORWARD {
        return None;
    }
    Some(Chain {
        place: DroppingChain {
            family,
            table: text(find(rest, 1)?),
            name: text(find(rest, 3)?),
        },
        drops: number(find(rest, 5)?)? == DROP,
    })
}

/// Once a rule drops every packet, the rules after it do not matter.
fn apply_rule(chains: &mut [Chain], body: &[u8]) {
    let rule = || {
        let (family, rest) = family(body)?;
        let place = DroppingChain {
            family,
            table: text(find(rest, 1)?),
            name: text(find(rest, 2)?),
        };
        Some((place, drops_everything(find(rest, 4).unwrap_or_default())))
    };
    let Some((place, drops)) = rule() else { return };
    for chain in chains.iter_mut().filter(|chain| chain.place == place) {
        chain.drops |= drops;
    }
}

/// True if a rule matches every packet and drops or rejects it.
fn drops_everything(expressions: &[u8]) -> bool {
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let name = find(expression, 1).map(text).unwrap_or_default();
        match name.as_str() {
            "counter" | "log" => {}
            "reject" => drops = true,
            "immediate" => drops = find(expression, 2).is_some_and(is_drop),
            _ => return false,
        }
    }
    drops
}

fn is_drop(immediate: &[u8]) -> bool {
    let verdict = || find(find(find(immediate, 2)?, 2)?, 1).and_then(number);
    verdict() == Some(DROP)
}

fn family(body: &[u8]) -> Option<(&'static str, &[u8])> {
    let (header, rest) = body.split_at_checked(4)?;
    let family = match header[0] {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    Some((family, rest))
}

pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes);
    all.find_map(|(one, value)| (one == kind).then_some(value))
}

pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

const UNSPECIFIED: (u8, u16) = (0, 0);
const FORWARD: u32 = 2;
const DROP: u32 = 0;

#[cfg(test)]
mod tests {
    use super::super::expression::{
        EQUAL, META_IN, compare, drop_packet, expression, interface_name, load_meta,
    };
    use super::super::message::Attributes;
    use super::*;

    fn chain(hook: u32, policy: u32) -> Option<Chain> {
        let mut all = Attributes(Vec::new());
        all.text(1, "filter");
        all.text(3, "FORWARD");
        all.nest(4, |attributes| attributes.number(1, hook));
        all.number(5, policy);
        forward_chain(&[&[2, 0, 0, 0][..], &all.0].concat())
    }

    fn rule(fill: impl FnOnce(&mut Attributes)) -> Vec<u8> {
        let mut all = Attributes(Vec::new());
        all.text(1, "filter");
        all.text(2, "FORWARD");
        all.nest(4, fill);
        [&[2, 0, 0, 0][..], &all.0].concat()
    }

    #[test]
    fn a_chain_that_drops_what_is_forwarded_is_recognised() {
        let dropping = chain(FORWARD, DROP).unwrap();
        let expected = DroppingChain {
            family: "ip",
            table: "filter".into(),
            name: "FORWARD".into(),
        };
        assert_eq!((dropping.place, dropping.drops), (expected, true));
        assert_eq!(chain(FORWARD, 1).map(|chain| chain.drops), Some(false));
        assert_eq!(chain(1, DROP), None);
        assert_eq!(forward_chain(&[2, 0, 0]), None);
    }

    #[test]
    fn a_last_rule_that_takes_everything_is_as_good_as_a_policy() {
        let after = |rules: &[Vec<u8>]| {
            let mut chains = vec![chain(FORWARD, 1).unwrap()];
            rules.iter().for_each(|rule| apply_rule(&mut chains, rule));
            chains[0].drops
        };
        let reject = || rule(|rule| expression(rule, "reject", |_| {}));
        let counted = || {
            rule(|rule| {
                expression(rule, "counter", |_| {});
                drop_packet(rule);
            })
        };
        let of_one = || {
            rule(|rule| {
                load_meta(rule, META_IN);
                compare(rule, EQUAL, &interface_name("eth0"));
                drop_packet(rule);
            })
        };
        assert!(after(&[reject()]));
        assert!(after(&[of_one(), counted()]));
        assert!(!after(&[of_one()]));
        assert!(after(&[reject(), of_one()]));
    }
}
