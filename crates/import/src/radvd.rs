//! `radvd.conf`: interfaces with options, prefixes, routes and DNS servers.

use std::net::Ipv6Addr;

use xlat_core::addr::Ipv6Prefix;

use crate::blocks::{self, Dialect, Statement};
use crate::found::{Found, Role, Value};
use crate::text::{Origin, Text, Word};

/// The words that statements begin with.
pub(crate) const WORDS: [&str; 58] = [
    "interface",
    "prefix",
    "route",
    "RDNSS",
    "DNSSL",
    "clients",
    "lowpanco",
    "abro",
    "nat64prefix",
    "AdvRASrcAddress",
    "IgnoreIfMissing",
    "AdvSendAdvert",
    "MaxRtrAdvInterval",
    "MinRtrAdvInterval",
    "MinDelayBetweenRAs",
    "AdvManagedFlag",
    "AdvOtherConfigFlag",
    "AdvLinkMTU",
    "AdvRAMTU",
    "AdvReachableTime",
    "AdvRetransTimer",
    "AdvCurHopLimit",
    "AdvDefaultLifetime",
    "AdvDefaultPreference",
    "AdvSourceLLAddress",
    "RemoveAdvOnExit",
    "AdvOnLink",
    "AdvAutonomous",
    "AdvValidLifetime",
    "AdvPreferredLifetime",
    "DeprecatePrefix",
    "DecrementLifetimes",
    "AdvRouterAddr",
    "AdvHomeAgentFlag",
    "AdvIntervalOpt",
    "AdvHomeAgentInfo",
    "UnicastOnly",
    "UnrestrictedUnicast",
    "AdvRASolicitedUnicast",
    "AdvCaptivePortalAPI",
    "Base6Interface",
    "Base6to4Interface",
    "HomeAgentPreference",
    "HomeAgentLifetime",
    "AdvRoutePreference",
    "AdvRouteLifetime",
    "RemoveRoute",
    "AdvRDNSSPreference",
    "AdvRDNSSOpen",
    "AdvRDNSSLifetime",
    "FlushRDNSS",
    "AdvDNSSLLifetime",
    "FlushDNSSL",
    "AdvMobRtrSupportFlag",
    "AdvVersionLow",
    "AdvVersionHigh",
    "Adv6LBRaddress",
    "AdvContextLength",
];

/// What radvd announces if nothing is said, where an interface can differ from others.
const DEFAULTS: [(&str, Value); 11] = [
    ("ra-interval", Value::Number(600)),
    ("ra-managed", Value::Bool(false)),
    ("ra-other", Value::Bool(false)),
    ("ra-reachable", Value::Number(0)),
    ("ra-retransmit", Value::Number(0)),
    ("ra-hop-limit", Value::Number(64)),
    ("ra-prefix-valid", Value::Number(86400)),
    ("ra-prefix-preferred", Value::Number(14400)),
    ("ra-on-link", Value::Bool(true)),
    ("ra-autonomous", Value::Bool(true)),
    ("ra-router-address", Value::Bool(false)),
];

/// Seconds without end (RFC 4861).
const INFINITY: u64 = 0xffff_ffff;

pub(crate) fn read(text: &Text, lans: &[String], found: &mut Found) {
    let dialect = Dialect {
        has_c_comments: false,
    };
    let statements = match blocks::parse(text, dialect) {
        Ok(statements) => statements,
        Err(error) => return found.errors.push(error),
    };
    let mut interfaces: Vec<Interface> = Vec::new();
    for statement in &statements {
        let from = statement.origin();
        let (Some(name), Some(block)) = (statement.name(), &statement.block) else {
            found.error(&from.at, "radvd.conf is made of `interface NAME { ... };`");
            continue;
        };
        if !name.is("interface") {
            found.unknown(
                name,
                "statement of radvd outside of an interface",
                ["interface"],
            );
            continue;
        }
        let [lan] = statement.arguments() else {
            found.error(&name.at, "an interface has one name");
            continue;
        };
        if interfaces.iter().any(|other| other.name == lan.text) {
            let message = format!("interface {} is described twice", lan.text);
            found.error(&lan.at, message);
            continue;
        }
        if !lans.is_empty() && !lans.contains(&lan.text) {
            found.leave(&from, "this interface was not chosen with --lan");
            continue;
        }
        if let Some(interface) = Interface::read(&lan.text, &from, block, found) {
            interfaces.push(interface);
        }
    }
    carry(&interfaces, found);
}

/// An interface that advertisements are sent on.
struct Interface {
    name: String,
    from: Origin,
    settings: Vec<(&'static str, Value, Origin)>,
    /// Values of lists, which are added up.
    lists: Vec<(&'static str, String, Origin)>,
}

impl Interface {
    fn read(name: &str, from: &Origin, block: &[Statement], found: &mut Found) -> Option<Self> {
        let is_on = |statement: &Statement| {
            let is_switch = statement
                .name()
                .is_some_and(|word| word.is("AdvSendAdvert"));
            is_switch
                && statement
                    .arguments()
                    .first()
                    .is_some_and(|word| word.is("on"))
        };
        if !block.iter().any(is_on) {
            found.leave(
                from,
                "radvd advertises on an interface with `AdvSendAdvert on` only",
            );
            return None;
        }
        let mut interface = Self {
            name: name.into(),
            from: from.clone(),
            settings: Vec::new(),
            lists: Vec::new(),
        };
        for statement in block {
            match (statement.name(), &statement.block) {
                (Some(word), None) => interface.option(word, statement, found),
                (Some(word), Some(block)) => interface.block(word, statement, block, found),
                (None, _) => found.error(&from.at, "a block has no name"),
            }
        }
        Some(interface)
    }

    fn set(&mut self, key: &'static str, value: impl Into<Value>, from: &Origin) {
        self.settings.push((key, value.into(), from.clone()));
    }

    /// An option of the interface itself.
    fn option(&mut self, word: &Word, statement: &Statement, found: &mut Found) {
        let from = statement.origin();
        let Some(value) = value(word, statement, found) else {
            return;
        };
        let name = word.text.to_ascii_lowercase();
        let numbers = [
            ("advreachabletime", "ra-reachable", 0..=3_600_000),
            ("advretranstimer", "ra-retransmit", 0..=INFINITY),
            ("advcurhoplimit", "ra-hop-limit", 0..=255),
            ("advdefaultlifetime", "ra-lifetime", 0..=9000),
        ];
        if let Some((_, key, range)) = numbers.into_iter().find(|(known, ..)| *known == name) {
            if let Some(number) = found.number(value, range) {
                self.set(key, number, &from);
            }
            return;
        }
        let flags = [
            ("advmanagedflag", "ra-managed"),
            ("advotherconfigflag", "ra-other"),
        ];
        if let Some((_, key)) = flags.into_iter().find(|(known, _)| *known == name) {
            if let Some(on) = switch(value, found) {
                self.set(key, on, &from);
            }
            return;
        }
        match name.as_str() {
            "advsendadvert" => {
                switch(value, found);
            }
            "maxrtradvinterval" if value.text.contains('.') => found.leave(
                &from,
                "plat advertises every 4 seconds at most; intervals below are for Mobile IPv6",
            ),
            "maxrtradvinterval" => {
                if let Some(seconds) = found.number(value, 4..=1800) {
                    self.set("ra-interval", seconds, &from);
                }
            }
            "advlinkmtu" | "advramtu" if value.text == "0" => {}
            "advlinkmtu" => {
                if let Some(bytes) = found.number(value, 1280..=65535) {
                    self.set("ra-mtu", bytes, &from);
                }
            }
            "advdefaultpreference" => match value.text.to_ascii_lowercase().as_str() {
                "low" | "medium" | "high" => {
                    self.set("ra-preference", value.text.to_ascii_lowercase(), &from);
                }
                other => {
                    let message = format!("`{other}` is none of low, medium, high");
                    found.error(&value.at, message);
                }
            },
            _ => match REASONS.iter().find(|(known, _)| word.is(known)) {
                Some((_, because)) => found.leave(&from, *because),
                None => found.unknown(word, "option of an interface in radvd", WORDS),
            },
        }
    }

    fn block(
        &mut self,
        word: &Word,
        statement: &Statement,
        block: &[Statement],
        found: &mut Found,
    ) {
        let from = statement.origin();
        match word.text.to_ascii_lowercase().as_str() {
            "prefix" => self.prefix(statement, block, found),
            "route" => {
                if let Some(prefix) = prefix_of(statement, found) {
                    self.lists.push(("ra-route", prefix.to_string(), from));
                }
                let because = "plat announces routes for three intervals, with the preference of --ra-preference";
                let options = ["AdvRouteLifetime", "AdvRoutePreference", "RemoveRoute"];
                leave_all(block, &options, because, found);
            }
            "rdnss" => {
                for server in statement.arguments() {
                    if let Some(address) = found.parse::<Ipv6Addr>(server, "an IPv6 address") {
                        let from = from.clone();
                        self.lists.push(("ra-dns", address.to_string(), from));
                    }
                }
                let because = "plat announces DNS servers for three intervals, and withdraws them at \
                               its end";
                let options = [
                    "AdvRDNSSLifetime",
                    "AdvRDNSSPreference",
                    "AdvRDNSSOpen",
                    "FlushRDNSS",
                ];
                leave_all(block, &options, because, found);
            }
            "dnssl" => {
                for domain in statement.arguments() {
                    let from = from.clone();
                    self.lists.push(("ra-search", domain.text.clone(), from));
                }
                let because = "plat announces domains for three intervals, and withdraws them at its \
                               end";
                leave_all(block, &["AdvDNSSLLifetime", "FlushDNSSL"], because, found);
            }
            "nat64prefix" => {
                if let Some(prefix) = statement.arguments().first() {
                    found.prefix(prefix, Role::Announces, &from);
                }
                let because = "plat announces its prefix for three intervals (RFC 8781)";
                leave_all(block, &["AdvValidLifetime"], because, found);
            }
            "clients" => found.leave(&from, "plat advertises to all hosts of the link"),
            "advrasrcaddress" => {
                found.leave(
                    &from,
                    "plat advertises from the interface's link-local address",
                );
            }
            "abro" | "lowpanco" => found.leave(&from, "plat does not route for 6LoWPAN"),
            _ => found.unknown(word, "block of an interface in radvd", WORDS),
        }
    }

    fn prefix(&mut self, statement: &Statement, block: &[Statement], found: &mut Found) {
        let from = statement.origin();
        let Some(prefix) = prefix_of(statement, found) else {
            return;
        };
        if !prefix.address().is_unspecified() {
            found.leave(
                &from,
                format!(
                    "plat announces the prefixes of {}'s own addresses: give it one in {prefix}",
                    self.name
                ),
            );
        }
        for option in block {
            let from = option.origin();
            let Some(word) = option.name() else {
                continue;
            };
            let Some(value) = value(word, option, found) else {
                continue;
            };
            let flags = [
                ("AdvOnLink", "ra-on-link"),
                ("AdvAutonomous", "ra-autonomous"),
                ("AdvRouterAddr", "ra-router-address"),
            ];
            let lifetimes = [
                ("AdvValidLifetime", "ra-prefix-valid"),
                ("AdvPreferredLifetime", "ra-prefix-preferred"),
            ];
            if let Some((_, key)) = flags.into_iter().find(|(known, _)| word.is(known)) {
                if let Some(on) = switch(value, found) {
                    self.set(key, on, &from);
                }
            } else if let Some((_, key)) = lifetimes.into_iter().find(|(known, _)| word.is(known)) {
                let seconds = match value.is("infinity") {
                    true => Some(INFINITY),
                    false => found.number(value, 0..=INFINITY),
                };
                if let Some(seconds) = seconds {
                    self.set(key, seconds, &from);
                }
            } else if let Some((_, because)) =
                PREFIX_REASONS.iter().find(|(known, _)| word.is(known))
            {
                found.leave(&from, *because);
            } else {
                found.unknown(word, "option of a prefix in radvd", WORDS);
            }
        }
    }
}

/// Options of an interface that have no counterpart.
const REASONS: [(&str, &str); 18] = [
    (
        "IgnoreIfMissing",
        "plat waits for an interface that is missing",
    ),
    (
        "MinRtrAdvInterval",
        "plat takes a third of --ra-interval (RFC 4861)",
    ),
    (
        "MinDelayBetweenRAs",
        "plat keeps to the 3 seconds of RFC 4861",
    ),
    (
        "AdvRAMTU",
        "advertisements of plat are never longer than 1280 bytes",
    ),
    (
        "AdvSourceLLAddress",
        "plat always names its link-layer address",
    ),
    (
        "RemoveAdvOnExit",
        "plat withdraws at its end what it has announced",
    ),
    ("UnicastOnly", "plat needs a link with multicast"),
    ("UnrestrictedUnicast", "plat needs a link with multicast"),
    (
        "AdvRASolicitedUnicast",
        "plat answers solicitations as RFC 4861 says",
    ),
    ("AdvCaptivePortalAPI", "plat announces no captive portal"),
    ("AdvHomeAgentFlag", "plat is no home agent of Mobile IPv6"),
    ("AdvHomeAgentInfo", "plat is no home agent of Mobile IPv6"),
    ("AdvIntervalOpt", "plat is no home agent of Mobile IPv6"),
    (
        "AdvMobRtrSupportFlag",
        "plat is no home agent of Mobile IPv6",
    ),
    (
        "HomeAgentPreference",
        "plat is no home agent of Mobile IPv6",
    ),
    ("HomeAgentLifetime", "plat is no home agent of Mobile IPv6"),
    ("AdvContextLength", "plat does not route for 6LoWPAN"),
    ("Adv6LBRaddress", "plat does not route for 6LoWPAN"),
];

/// Options of a prefix that have no counterpart.
const PREFIX_REASONS: [(&str, &str); 4] = [
    (
        "DeprecatePrefix",
        "plat deprecates a prefix when the interface loses it",
    ),
    (
        "DecrementLifetimes",
        "plat always counts down with the lifetimes of the interface's address",
    ),
    (
        "Base6Interface",
        "plat announces the prefixes of the interface's own addresses",
    ),
    (
        "Base6to4Interface",
        "plat announces the prefixes of the interface's own addresses",
    ),
];

/// Carries over what the interfaces have in common, which must be everything.
fn carry(interfaces: &[Interface], found: &mut Found) {
    let said = |key: &str| {
        let mut settings = interfaces.iter().flat_map(|interface| &interface.settings);
        settings.any(|(known, ..)| *known == key)
    };
    for interface in interfaces {
        found.set("lan", interface.name.clone(), &interface.from);
        for (key, value, from) in &interface.settings {
            found.set(key, value.clone(), from);
        }
        for (key, value) in &DEFAULTS {
            let own = |(known, ..): &(&str, Value, Origin)| known == key;
            let is_ours = !matches!(*key, "ra-prefix-valid" | "ra-prefix-preferred");
            if interface.settings.iter().any(own) || is_ours && !said(key) {
                continue;
            }
            let from = interface
                .from
                .named(format!("radvd's default on {}", interface.name));
            found.set(key, value.clone(), &from);
        }
        for (key, value, from) in &interface.lists {
            found.set(key, value.clone(), from);
        }
    }
    same_lists(interfaces, found);
    if !interfaces.is_empty() {
        found.differs(
            "plat also announces its NAT64 prefix (PREF64), and its DNS64 if that runs and no other \
             DNS server is named; it stops to announce what does not work, such as a default route \
             that is gone",
        );
    }
}

/// What one interface announces, all do: what differs is refused.
fn same_lists(interfaces: &[Interface], found: &mut Found) {
    let Some((first, others)) = interfaces.split_first() else {
        return;
    };
    let has = |interface: &Interface, key: &str, value: &str| {
        let mut lists = interface.lists.iter();
        lists.any(|(known, have, _)| *known == key && have == value)
    };
    for other in others {
        let pairs = [(first, other), (other, first)];
        for (one, two) in pairs {
            for (key, value, from) in &one.lists {
                if !has(two, key, value) {
                    let message = format!(
                        "{value} is announced on {}, and not on {}: plat announces the same on all \
                         its interfaces; choose some with --lan",
                        one.name, two.name
                    );
                    found.error(&from.at, message);
                }
            }
        }
    }
}

/// The one value of an option.
fn value<'a>(word: &Word, statement: &'a Statement, found: &mut Found) -> Option<&'a Word> {
    let [value] = statement.arguments() else {
        let message = format!("{} has one value, and a semicolon behind it", word.text);
        found.error(&word.at, message);
        return None;
    };
    Some(value)
}

/// `on` or `off`; radvd knows no other words.
fn switch(value: &Word, found: &mut Found) -> Option<bool> {
    match (value.is("on"), value.is("off")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => {
            let message = format!("`{}` is neither on nor off", value.text);
            found.error(&value.at, message);
            None
        }
    }
}

/// The prefix of a block, of which radvd ignores the host's bits.
fn prefix_of(statement: &Statement, found: &mut Found) -> Option<Ipv6Prefix> {
    let from = statement.origin();
    let [word] = statement.arguments() else {
        found.error(
            &from.at,
            "one prefix is missing here, as in `prefix 2001:db8::/64`",
        );
        return None;
    };
    let parts = word.text.split_once('/').and_then(|(address, length)| {
        let (address, length) = (
            address.parse::<Ipv6Addr>().ok()?,
            length.parse::<u8>().ok()?,
        );
        let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        Some((Ipv6Addr::from_bits(address.to_bits() & !host), length))
    });
    let prefix = parts.and_then(|(address, length)| Ipv6Prefix::new(address, length).ok());
    if prefix.is_none() {
        let message = format!("`{}` is not an IPv6 prefix", word.text);
        found.error(&word.at, message);
    }
    prefix
}

/// Leaves out the options of a block, all for one reason.
fn leave_all(block: &[Statement], options: &[&str], because: &str, found: &mut Found) {
    for option in block {
        match option.name() {
            Some(word) if options.iter().any(|known| word.is(known)) => {
                found.leave(&option.origin(), because);
            }
            Some(word) => found.unknown(word, "such option here", options.iter().copied()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{errors, import};

    const FULL: &str = "interface lan0 {\n  AdvSendAdvert on;\n  MaxRtrAdvInterval 30;\n  \
        MinRtrAdvInterval 10;\n  AdvManagedFlag on;\n  advotherconfigflag off;\n  AdvLinkMTU 1400;\n  \
        AdvDefaultLifetime 90;\n  AdvDefaultPreference high;\n  AdvCurHopLimit 32;\n  \
        prefix 2001:db8:1::/64 {\n    AdvOnLink on; AdvAutonomous off;\n    AdvValidLifetime infinity;\n    \
        DeprecatePrefix on;\n  };\n  RDNSS 2001:db8:1::53 2001:db8:1::54 { AdvRDNSSLifetime 60; };\n  \
        DNSSL lan.example { };\n  route 2001:db8:2::/48 { AdvRoutePreference low; };\n  \
        nat64prefix 64:ff9b::/96 { };\n  clients { fe80::1; };\n};\n";

    #[test]
    fn im_01_an_interface_becomes_a_lan_with_all_its_options() {
        let (toml, _) = import(&[("radvd.conf", FULL)]);
        for line in [
            "    \"lan0\",  # radvd.conf:1: interface lan0 { ... }",
            "\n[ra]\n",
            "\ninterval = 30  # radvd.conf:3: MaxRtrAdvInterval 30",
            "\nmanaged = true",
            "\nother = false",
            "\nmtu = 1400",
            "\nlifetime = 90",
            "\npreference = \"high\"",
            "\nhop-limit = 32",
            "\non-link = true",
            "\nautonomous = false",
            "\nprefix-valid = 4294967295",
            "\nprefix-preferred = 14400  # radvd.conf:1: radvd's default on lan0",
            "    \"2001:db8:1::54\",  # radvd.conf:16: RDNSS ",
            "    \"lan.example\",  # radvd.conf:17: DNSSL lan.example { ... }",
            "    \"2001:db8:2::/48\",",
            "    \"64:ff9b::/96\",  # radvd.conf:19: nat64prefix 64:ff9b::/96 { ... }",
            "# not carried over: radvd.conf:4: MinRtrAdvInterval 10, because ",
            "# not carried over: radvd.conf:11: prefix 2001:db8:1::/64 { ... }, because plat announces the prefixes of lan0's own addresses: give it one in 2001:db8:1::/64",
            "# not carried over: radvd.conf:14: DeprecatePrefix on, because ",
            "# not carried over: radvd.conf:16: AdvRDNSSLifetime 60, because ",
            "# not carried over: radvd.conf:20: clients { ... }, because ",
            "# - these files say nothing of a translator, and plat is one",
        ] {
            assert!(toml.contains(line), "{line} in {toml}");
        }
    }

    #[test]
    fn im_02_interfaces_that_differ_are_refused_unless_one_is_chosen() {
        let two = "interface lan0 { AdvSendAdvert on; MaxRtrAdvInterval 30; RDNSS 2001:db8::1 { }; };\n\
                   interface lan1 { AdvSendAdvert on; };\n\
                   interface lan2 { MaxRtrAdvInterval 20; };\n";
        let errors = errors(&[("radvd.conf", two)]);
        assert_eq!(errors.len(), 2, "{errors:#?}");
        assert_eq!(
            errors[0],
            "radvd.conf:1:58: 2001:db8::1 is announced on lan0, and not on lan1: plat announces the \
             same on all its interfaces; choose some with --lan"
        );
        assert!(
            errors[1]
                .starts_with("radvd.conf:2:1: ra-interval is 600 here, and 30 in radvd.conf:1"),
            "{errors:#?}"
        );
    }

    #[test]
    fn im_02_what_radvd_does_not_know_is_refused() {
        let text = "interface lan0 {\n AdvSendAdvert on;\n AdvSendAdverts on;\n MaxRtrAdvInterval 2;\n \
                    AdvManagedFlag yes;\n prefix 2001:db8::/129 { };\n RDNSS 192.0.2.1 { };\n \
                    prefix ::/64 { AdvOnLnk on; };\n};\nfoo x { };\n";
        let errors = errors(&[("radvd.conf", text)]);
        for (error, expected) in errors.iter().zip([
            "radvd.conf:3:2: there is no option of an interface in radvd `AdvSendAdverts`; did you mean `AdvSendAdvert`?",
            "radvd.conf:4:20: `2` is no number from 4 to 1800",
            "radvd.conf:5:17: `yes` is neither on nor off",
            "radvd.conf:6:9: `2001:db8::/129` is not an IPv6 prefix",
            "radvd.conf:7:8: `192.0.2.1` is not an IPv6 address: ",
            "radvd.conf:8:17: there is no option of a prefix in radvd `AdvOnLnk`; did you mean `AdvOnLink`?",
            "radvd.conf:10:1: there is no statement of radvd outside of an interface `foo`",
        ]) {
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(errors.len(), 7, "{errors:#?}");
    }

    #[test]
    fn im_04_the_prefix_that_is_announced_is_the_translators() {
        let tayga = "tun-device nat64\nipv4-addr 192.168.255.1\nprefix 2001:db8:64::/96\n\
                     dynamic-pool 192.168.255.0/24\n";
        let errors = errors(&[("tayga.conf", tayga), ("radvd.conf", FULL)]);
        assert_eq!(
            errors,
            [
                "radvd.conf:19:3: 64:ff9b::/96 is announced here, but the translator has 2001:db8:64::/96"
            ]
        );
    }
}
