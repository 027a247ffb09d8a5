//! A look at other people's chains: who is in the way of translated packets?

use super::NftError;
use super::message::{
    DONE, DUMP, ERROR, GET_CHAIN, REQUEST, attributes, connect, message, messages, outcome,
};

/// A chain that drops what it has no rule for, on the way of forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppingChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Name of its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// Chains that drop forwarded packets unless one of their rules accepts them.
///
/// # Errors
/// What the kernel refuses; without nf_tables there are none.
pub fn dropping_forward_chains() -> Result<Vec<DroppingChain>, NftError> {
    let failed = |source| NftError {
        what: "the chains cannot be listed",
        source,
    };
    let socket = connect().map_err(failed)?;
    let request = message(GET_CHAIN, REQUEST | DUMP, 0, UNSPECIFIED, &[]);
    socket.send(&request, 0).map_err(failed)?;
    let mut chains = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full().map_err(failed)?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE => return Ok(chains),
                ERROR => return outcome(body).map(|()| chains).map_err(failed),
                _ => chains.extend(dropping_chain(body)),
            }
        }
    }
}

/// Says in the log who is in the way of the packets that `tun` translates: chains that drop what
/// they do not know.
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
}

fn dropping_chain(body: &[u8]) -> Option<DroppingChain> {
    let (header, rest) = body.split_at_checked(4)?;
    let family = match header[0] {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let find = |kind| {
        attributes(rest)
            .find(|(one, _)| *one == kind)
            .map(|(_, value)| value)
    };
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let hook = find(4)?;
    let hook = attributes(hook).find(|(kind, _)| *kind == 1)?.1;
    if number(hook)? != FORWARD || number(find(5)?)? != DROP {
        return None;
    }
    let text = |bytes: &[u8]| {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    Some(DroppingChain {
        family,
        table: text(find(1)?),
        name: text(find(3)?),
    })
}

const UNSPECIFIED: (u8, u16) = (0, 0);
const FORWARD: u32 = 2;
const DROP: u32 = 0;

#[cfg(test)]
mod tests {
    use super::super::message::Attributes;
    use super::*;

    #[test]
    fn a_chain_that_drops_what_is_forwarded_is_recognised() {
        let chain = |hook, policy| {
            let mut all = Attributes(Vec::new());
            all.text(1, "filter");
            all.text(3, "FORWARD");
            all.nest(4, |attributes| attributes.number(1, hook));
            all.number(5, policy);
            dropping_chain(&[&[2, 0, 0, 0][..], &all.0].concat())
        };
        let expected = DroppingChain {
            family: "ip",
            table: "filter".into(),
            name: "FORWARD".into(),
        };
        assert_eq!(chain(FORWARD, DROP), Some(expected));
        assert_eq!(chain(FORWARD, 1), None);
        assert_eq!(chain(1, DROP), None);
        assert_eq!(dropping_chain(&[2, 0, 0]), None);
    }
}
