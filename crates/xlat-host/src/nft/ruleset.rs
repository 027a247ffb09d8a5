//! The chains of other programs as far as they decide about packets of the TUN: rules that match every
//! packet or the name of an interface, and their verdicts.

use std::collections::HashMap;

use super::filter::{find, number, text};
use super::message::attributes;

/// Nested chains that are followed.
const DEPTH: usize = 16;

/// All chains of the host.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    rules: HashMap<ChainName, Vec<Rule>>,
    forward: Vec<ForwardChain>,
}

/// Family, table and name of a chain.
pub(super) type ChainName = (u8, String, String);

/// A base chain that forwarded packets pass.
#[derive(Clone, Debug)]
struct ForwardChain {
    name: ChainName,
    /// Its policy drops.
    drops: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Interfaces that a packet must come in by and leave by.
    names: Vec<NameMatch>,
    /// It has another condition, too.
    is_conditional: bool,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
struct NameMatch {
    direction: Direction,
    /// Without zero bytes at its end it is a prefix.
    value: Vec<u8>,
    is_inverted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// A packet of a new connection that comes from the TUN or goes there.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    tun: &'a str,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accept,
    Drop,
    /// The end of the chain was reached.
    End,
}

/// Whether a rule matches a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// It depends on what is not known of the packet.
    Maybe,
}

impl Ruleset {
    /// Takes the body of a message about a chain.
    pub(super) fn add_chain(&mut self, body: &[u8]) {
        if let Some(chain) = forward_chain(body) {
            self.forward.push(chain);
        }
    }

    /// Takes the body of a message about a rule, in the order of the kernel's list.
    pub(super) fn add_rule(&mut self, body: &[u8]) {
        let parse = || {
            let (family, rest) = body.split_at_checked(4)?;
            let name = (family[0], text(find(rest, 1)?), text(find(rest, 2)?));
            Some((name, Rule::parse(find(rest, 4).unwrap_or_default())?))
        };
        if let Some((name, rule)) = parse() {
            self.rules.entry(name).or_default().push(rule);
        }
    }

    /// The forward chains that drop new connections of the translator: IPv4 ones that come from
    /// `tun`, IPv6 ones that go there.
    pub(super) fn dropping(&self, tun: &str) -> Vec<ChainName> {
        let dropping = self.forward.iter().filter(|chain| {
            let directions: &[Direction] = match chain.name.0 {
                IP => &[Direction::In],
                IP6 => &[Direction::Out],
                _ => &[Direction::In, Direction::Out],
            };
            let mut packets = directions.iter().map(|direction| Packet {
                tun,
                direction: *direction,
            });
            packets.any(|packet| match self.follow(&chain.name, packet, DEPTH) {
                Outcome::Drop => true,
                Outcome::Accept => false,
                Outcome::End => chain.drops,
            })
        });
        dropping.map(|chain| chain.name.clone()).collect()
    }

    /// What becomes of a packet in a chain. A rule that may match and may not is passed over.
    fn follow(&self, chain: &ChainName, packet: Packet<'_>, depth: usize) -> Outcome {
        let Some(depth) = depth.checked_sub(1) else {
            return Outcome::End;
        };
        for rule in self.rules.get(chain).into_iter().flatten() {
            if rule.matches(packet) != Match::Yes {
                continue;
            }
            let other = |name: &str| (chain.0, chain.1.clone(), name.to_owned());
            match &rule.verdict {
                Verdict::Accept => return Outcome::Accept,
                Verdict::Drop => return Outcome::Drop,
                Verdict::Return => return Outcome::End,
                Verdict::Goto(name) => return self.follow(&other(name), packet, depth),
                Verdict::Jump(name) => match self.follow(&other(name), packet, depth) {
                    Outcome::End => {}
                    decided => return decided,
                },
            }
        }
        Outcome::End
    }
}

impl Rule {
    /// Reads the expressions of a rule; `None` if it decides nothing.
    fn parse(expressions: &[u8]) -> Option<Self> {
        let mut rule = Self {
            names: Vec::new(),
            is_conditional: false,
            verdict: Verdict::Return,
        };
        let mut verdict = None;
        let mut loaded = None;
        for (_, expression) in attributes(expressions) {
            let name = find(expression, 1).map(text).unwrap_or_default();
            let data = find(expression, 2).unwrap_or_default();
            match name.as_str() {
                "meta" => loaded = direction(data),
                "cmp" => match loaded.take().and_then(|from| NameMatch::parse(from, data)) {
                    Some(one) => rule.names.push(one),
                    None => rule.is_conditional = true,
                },
                "immediate" => verdict = verdict_of(data).or(verdict),
                "reject" => verdict = Some(Verdict::Drop),
                // As iptables writes it.
                "target" if find(data, 1).map(text).as_deref() == Some("REJECT") => {
                    verdict = Some(Verdict::Drop);
                }
                "counter" | "log" | "target" => {}
                _ => {
                    loaded = None;
                    rule.is_conditional = true;
                }
            }
        }
        rule.verdict = verdict?;
        Some(rule)
    }

    fn matches(&self, packet: Packet<'_>) -> Match {
        let mut all = Match::Yes;
        for one in &self.names {
            match one.matches(packet) {
                Match::No => return Match::No,
                Match::Maybe => all = Match::Maybe,
                Match::Yes => {}
            }
        }
        if self.is_conditional {
            Match::Maybe
        } else {
            all
        }
    }
}

impl NameMatch {
    fn parse(direction: Direction, cmp: &[u8]) -> Option<Self> {
        const EQUAL: u32 = 0;
        const NOT_EQUAL: u32 = 1;
        let is_inverted = match number(find(cmp, 2)?)? {
            EQUAL => false,
            NOT_EQUAL => true,
            _ => return None,
        };
        let value = find(find(cmp, 3)?, 1)?.to_vec();
        Some(Self {
            direction,
            value,
            is_inverted,
        })
    }

    /// The other interface of a packet is not known, except that it is not the TUN.
    fn matches(&self, packet: Packet<'_>) -> Match {
        let is_tun = match self.value.iter().position(|byte| *byte == 0) {
            Some(end) => &self.value[..end] == packet.tun.as_bytes(),
            None => packet.tun.as_bytes().starts_with(&self.value),
        };
        let is_it = match (self.direction == packet.direction, is_tun) {
            (true, is_tun) => is_tun,
            (false, true) if self.value.contains(&0) => false,
            (false, _) => return Match::Maybe,
        };
        if is_it == self.is_inverted {
            Match::No
        } else {
            Match::Yes
        }
    }
}

fn direction(meta: &[u8]) -> Option<Direction> {
    const IN_NAME: u32 = 6;
    const OUT_NAME: u32 = 7;
    match number(find(meta, 2)?)? {
        IN_NAME => Some(Direction::In),
        OUT_NAME => Some(Direction::Out),
        _ => None,
    }
}

fn verdict_of(immediate: &[u8]) -> Option<Verdict> {
    let verdict = find(find(immediate, 2)?, 2)?;
    let chain = || find(verdict, 2).map(text);
    // NF_DROP, NF_ACCEPT, and the codes of nf_tables: NFT_JUMP, NFT_GOTO, NFT_RETURN.
    Some(match number(find(verdict, 1)?)?.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => return None,
    })
}

fn forward_chain(body: &[u8]) -> Option<ForwardChain> {
    const FORWARD: u32 = 2;
    const DROP: u32 = 0;
    let (family, rest) = body.split_at_checked(4)?;
    let is_of_packets = [INET, IP, IP6].contains(&family[0]);
    if !is_of_packets || number(find(find(rest, 4)?, 1)?)? != FORWARD {
        return None;
    }
    Some(ForwardChain {
        name: (family[0], text(find(rest, 1)?), text(find(rest, 3)?)),
        drops: number(find(rest, 5)?)? == DROP,
    })
}

pub(super) const INET: u8 = 1;
pub(super) const IP: u8 = 2;
pub(super) const IP6: u8 = 10;

#[cfg(test)]
mod tests {
    use super::super::expression::{
        EQUAL, META_IN, META_OUT, NOT_EQUAL, compare, drop_packet, expression, interface_name,
        load_meta,
    };
    use super::super::message::Attributes;
    use super::*;

    fn chain(family: u8, hook: u32, policy: u32) -> Vec<u8> {
        let mut all = Attributes(Vec::new());
        all.text(1, "filter");
        all.text(3, "FORWARD");
        all.nest(4, |attributes| attributes.number(1, hook));
        all.number(5, policy);
        [&[family, 0, 0, 0][..], &all.0].concat()
    }

    fn rule(family: u8, chain: &str, fill: impl FnOnce(&mut Attributes)) -> Vec<u8> {
        let mut all = Attributes(Vec::new());
        all.text(1, "filter");
        all.text(2, chain);
        all.nest(4, fill);
        [&[family, 0, 0, 0][..], &all.0].concat()
    }

    /// A verdict with the name of a chain.
    fn verdict(rule: &mut Attributes, code: i32, chain: &str) {
        expression(rule, "immediate", |immediate| {
            immediate.number(1, 0);
            immediate.nest(2, |data| {
                data.nest(2, |verdict| {
                    verdict.number(1, code.cast_unsigned());
                    if !chain.is_empty() {
                        verdict.text(2, chain);
                    }
                });
            });
        });
    }

    const ACCEPT: i32 = 1;
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    const RETURN: i32 = -5;

    /// Accepts what a rule about an interface matches.
    fn accept(family: u8, chain: &str, key: u32, operation: u32, name: &[u8]) -> Vec<u8> {
        rule(family, chain, |rule| {
            load_meta(rule, key);
            compare(rule, operation, name);
            expression(rule, "counter", |_| {});
            verdict(rule, ACCEPT, "");
        })
    }

    fn drops(family: u8, policy: u32, rules: &[Vec<u8>]) -> bool {
        let mut all = Ruleset::default();
        all.add_chain(&chain(family, 2, policy));
        rules.iter().for_each(|rule| all.add_rule(rule));
        !all.dropping("nat64").is_empty()
    }

    #[test]
    fn a_chain_that_drops_what_is_forwarded_is_recognised() {
        for family in [INET, IP, IP6] {
            assert!(drops(family, 0, &[]));
            assert!(!drops(family, 1, &[]));
        }
        assert!(!drops(7, 0, &[]), "a bridge");
        let mut input = Ruleset::default();
        input.add_chain(&chain(IP, 1, 0));
        input.add_chain(&[2, 0, 0]);
        assert!(input.dropping("nat64").is_empty());
    }

    #[test]
    fn a_last_rule_that_takes_everything_is_as_good_as_a_policy() {
        let reject = || rule(IP, "FORWARD", |rule| expression(rule, "reject", |_| {}));
        let counted = || {
            rule(IP, "FORWARD", |rule| {
                expression(rule, "counter", |_| {});
                drop_packet(rule);
            })
        };
        let of_one = || {
            rule(IP, "FORWARD", |rule| {
                load_meta(rule, META_IN);
                compare(rule, EQUAL, &interface_name("eth0"));
                drop_packet(rule);
            })
        };
        let conditional = || {
            rule(IP, "FORWARD", |rule| {
                expression(rule, "payload", |_| {});
                compare(rule, EQUAL, &[1]);
                verdict(rule, ACCEPT, "");
            })
        };
        assert!(drops(IP, 1, &[reject()]));
        assert!(drops(IP, 1, &[of_one(), conditional(), counted()]));
        assert!(!drops(IP, 1, &[of_one()]));
    }

    #[test]
    fn fp_23_a_jump_to_a_chain_that_drops_drops() {
        let to = |code, to: &str| rule(IP, "FORWARD", |rule| verdict(rule, code, to));
        let drop = || rule(IP, "refuse", drop_packet);
        assert!(drops(IP, 1, &[to(JUMP, "refuse"), drop()]));
        assert!(drops(IP, 1, &[to(GOTO, "refuse"), drop()]));
        assert!(!drops(IP, 1, &[to(JUMP, "refuse")]), "an empty chain");
        // A chain that returns leaves the rest to decide.
        let back = || rule(IP, "refuse", |rule| verdict(rule, RETURN, ""));
        let end = || rule(IP, "FORWARD", |rule| verdict(rule, ACCEPT, ""));
        assert!(!drops(IP, 1, &[to(JUMP, "refuse"), end(), back(), drop()]));
        // Chains that lead to each other end somewhere.
        let circle = rule(IP, "refuse", |rule| verdict(rule, JUMP, "FORWARD"));
        assert!(drops(IP, 0, &[to(JUMP, "refuse"), circle]));
    }

    #[test]
    fn fp_23_rules_that_accept_what_the_translator_forwards_are_enough() {
        let exact = interface_name("nat64");
        let from = |family| accept(family, "FORWARD", META_IN, EQUAL, &exact);
        let to = |family| accept(family, "FORWARD", META_OUT, EQUAL, &exact);
        assert!(!drops(IP, 0, &[from(IP)]));
        assert!(drops(IP, 0, &[to(IP)]));
        assert!(!drops(IP6, 0, &[to(IP6)]));
        assert!(drops(IP6, 0, &[from(IP6)]));
        assert!(drops(INET, 0, &[from(INET)]));
        assert!(!drops(INET, 0, &[from(INET), to(INET)]));
        // `nat*`, and all but another one.
        assert!(!drops(
            IP,
            0,
            &[accept(IP, "FORWARD", META_IN, EQUAL, b"nat")]
        ));
        let other = interface_name("eth0");
        assert!(!drops(
            IP,
            0,
            &[accept(IP, "FORWARD", META_IN, NOT_EQUAL, &other)]
        ));
        assert!(drops(
            IP,
            0,
            &[accept(IP, "FORWARD", META_IN, EQUAL, &other)]
        ));
        // It may leave by eth0 or not.
        assert!(drops(
            IP,
            0,
            &[accept(IP, "FORWARD", META_OUT, EQUAL, &other)]
        ));
        // Accepted in a chain of its own before the drop.
        let jump = rule(IP, "FORWARD", |rule| verdict(rule, JUMP, "ours"));
        assert!(!drops(
            IP,
            0,
            &[jump, accept(IP, "ours", META_IN, EQUAL, &exact)]
        ));
    }
}
