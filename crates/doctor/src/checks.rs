//! The list of checks.

/// What is checked: an entry of the list.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// A name for programs and for `docs/troubleshooting.md`.
    pub id: &'static str,
    /// Which programs check it.
    pub programs: Programs,
    /// What is asked.
    pub question: &'static str,
    /// How it is measured, and what a fault means.
    pub means: &'static str,
    /// What to do about a fault.
    pub remedy: &'static str,
    /// Faults that bring about this one: while one of these checks fails, this one is no fault of its own.
    pub follows: &'static [&'static str],
}

/// Which programs have a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// `clat doctor`.
    Clat,
    /// `plat doctor`.
    Plat,
    /// Both.
    Both,
}

impl Programs {
    /// True if the program of this name has the check.
    pub fn include(self, program: &str) -> bool {
        match self {
            Self::Clat => program == "clat",
            Self::Plat => program == "plat",
            Self::Both => true,
        }
    }
}

/// What stands in the way of any packet.
const WAY: &[&str] = &[
    "tun",
    "sysctls",
    "daemon",
    "uplink",
    "prefix",
    "host-setup",
    "forward-chains",
    "policy-rules",
    "rp-filter",
    "egress",
    "pool",
];

/// All checks, in the order in which they are shown: causes come before what follows from them.
pub static ALL: [&Check; 25] = [
    &PRIVILEGES,
    &TUN,
    &KERNEL,
    &SYSCTLS,
    &STATE_FILES,
    &CLOCK,
    &OTHER_CLAT,
    &UPLINK,
    &PREFIX,
    &EGRESS,
    &DAEMON,
    &HOST_SETUP,
    &FORWARD_CHAINS,
    &POLICY_RULES,
    &RP_FILTER,
    &POOL,
    &PATH,
    &PATH_MTU,
    &DNS,
    &UPSTREAMS,
    &DNS64,
    &ROUTERS,
    &CONNTRACK,
    &LIMITS,
    &FAST_PATH,
];

/// The TUN device.
pub static TUN: Check = Check {
    id: "tun",
    programs: Programs::Both,
    question: "Can a TUN interface be made?",
    means: "`/dev/net/tun` is opened and closed again. Packets are read and written by way of a TUN \
            interface; without it nothing is translated.",
    remedy: "load the kernel module (modprobe tun); give a container the device \
             (--device /dev/net/tun)",
    follows: &[],
};

/// Kernel features.
pub static KERNEL: Check = Check {
    id: "kernel",
    programs: Programs::Both,
    question: "Has the kernel what is needed?",
    means: "The kernel is asked for its nftables rules. Without nftables packets are translated, but \
            clients that share an address of this host, port forwards and the guard of the uplink \
            have no rules to be made of.",
    remedy: "load the kernel module nf_tables, or build the kernel with CONFIG_NF_TABLES",
    follows: &["privileges"],
};

/// Privileges.
pub static PRIVILEGES: Check = Check {
    id: "privileges",
    programs: Programs::Both,
    question: "Has doctor the privileges to look?",
    means: "The daemon and doctor need CAP_NET_ADMIN and CAP_NET_RAW in this network namespace. \
            Without them doctor cannot ping, hear routers or read rules, and says `skip` for these \
            checks.",
    remedy: "run it as root",
    follows: &[],
};

/// Kernel parameters.
pub static SYSCTLS: Check = Check {
    id: "sysctls",
    programs: Programs::Both,
    question: "Have kernel parameters the values that forwarding takes?",
    means: "The parameters that forward packets are read. A daemon sets them when it starts and sets \
            them again when another program changes them, unless `/proc/sys` is read-only, as it is \
            in most containers. A parameter that has another value and cannot be set is a fault.",
    remedy: "set them from outside, before the program starts: --sysctl KEY=VALUE of the container \
             runtime, or /etc/sysctl.d of the host",
    follows: &[],
};

/// Files of the daemon.
pub static STATE_FILES: Check = Check {
    id: "state-files",
    programs: Programs::Both,
    question: "Can the daemon keep its state?",
    means: "The directories of `--state-dir` and `--run-dir` must belong to root or the daemon's \
            user, nobody else may write to them, and files that were set aside as damaged are named. \
            Without its state a restarted daemon has another address, or forgets its sessions.",
    remedy: "chown root and chmod go-w the directory; look at the damaged file and remove it",
    follows: &[],
};

/// The clock.
pub static CLOCK: Check = Check {
    id: "clock",
    programs: Programs::Both,
    question: "Can the clock be right?",
    means: "The wall clock is compared with the date of this version of the program and with the \
            times of the daemon's own files. A clock that is behind them was set back, or lost its \
            battery. Certificates of resolvers are refused with a wrong clock, and the session log \
            names wrong times.",
    remedy: "set the clock: timedatectl set-ntp true, or chronyc makestep",
    follows: &[],
};

/// The daemon itself.
pub static DAEMON: Check = Check {
    id: "daemon",
    programs: Programs::Both,
    question: "Does the daemon run, answer and do its work?",
    means: "The daemon is asked for its status over its control socket. It may not run, hang, be of \
            another version than the program that asks, wait for something at its start, or be in a \
            state in which it translates nothing. What it says about itself stands in the evidence.",
    remedy: "read its log (journalctl -u clat, journalctl -u plat) and start it again",
    follows: &[
        "tun",
        "sysctls",
        "state-files",
        "uplink",
        "prefix",
        "egress",
    ],
};

/// Another CLAT.
pub static OTHER_CLAT: Check = Check {
    id: "other-clat",
    programs: Programs::Clat,
    question: "Is there another CLAT on this host?",
    means: "A default route of another program has an address of 192.0.0.0/29 (RFC 7335): a CLAT of \
            NetworkManager, systemd-networkd or Android, or a DS-Lite tunnel. `clat` waits while \
            there is one, unless it runs with `--always`.",
    remedy: "decide for one of the two: stop the other one, or disable clat",
    follows: &[],
};

/// The uplink.
pub static UPLINK: Check = Check {
    id: "uplink",
    programs: Programs::Clat,
    question: "Is there a way to IPv6?",
    means: "The interface with the IPv6 default route, or that of `--uplink`, must be up, have a \
            carrier and an IPv6 address that others can answer to.",
    remedy: "connect the interface; ip -6 route shows whether a router has been heard",
    follows: &[],
};

/// The NAT64 prefix.
pub static PREFIX: Check = Check {
    id: "prefix",
    programs: Programs::Both,
    question: "Which NAT64 prefix is used, and do all agree?",
    means: "The prefix in use or configured is compared with those that routers announce (PREF64, \
            RFC 8781) and that each DNS64 of the link uses (`ipv4only.arpa`, RFC 7050). Packets to a \
            prefix that is not the network's reach no NAT64. Different prefixes from different \
            sources mean that hosts of one network use different gateways, or that one of the \
            sources is out of date or forged.",
    remedy: "leave --prefix away, or give the one that the network announces; make routers and DNS64 \
             announce the same one",
    follows: &["uplink"],
};

/// Changes that the daemon made.
pub static HOST_SETUP: Check = Check {
    id: "host-setup",
    programs: Programs::Both,
    question: "Is everything in place that the daemon set up on this host?",
    means: "The daemon restores addresses, routes, rules and parameters that other programs take \
            away. What it could not restore is named.",
    remedy: "find the program that removes it (NetworkManager, a firewall, a script) and leave the \
             interface of the daemon to the daemon",
    follows: &["sysctls"],
};

/// Forward chains.
pub static FORWARD_CHAINS: Check = Check {
    id: "forward-chains",
    programs: Programs::Both,
    question: "Does a firewall on this host drop translated packets?",
    means: "The forward chains of all nftables tables (those of iptables-nft, firewalld, ufw and \
            Docker among them) are read. Translated packets are forwarded packets: a chain that drops \
            what it has no rule for drops them.",
    remedy: "accept what comes from and goes to the TUN in that chain: nft insert rule FAMILY TABLE \
             CHAIN iifname TUN accept, and the same with oifname",
    follows: &[],
};

/// Policy routing.
pub static POLICY_RULES: Check = Check {
    id: "policy-rules",
    programs: Programs::Clat,
    question: "Do this host's routes lead to the NAT64?",
    means: "The kernel is asked for the route to the prefix. A VPN or a policy rule that leads it to \
            another interface takes the packets away from the NAT64; `clat` then leads its own \
            packets by rules of its own, which must be there.",
    remedy: "ip -6 rule and ip -6 route get PREFIX::1 show who leads it elsewhere",
    follows: &["uplink"],
};

/// Reverse path filter.
pub static RP_FILTER: Check = Check {
    id: "rp-filter",
    programs: Programs::Both,
    question: "Does the reverse path filter drop answers?",
    means: "With `rp_filter` 1 (strict, RFC 3704) the kernel drops packets that arrive on another \
            interface than the one it would send answers to. That is read for each interface on \
            which translated packets arrive, with the routes that their answers take.",
    remedy: "make it loose: sysctl net.ipv4.conf.INTERFACE.rp_filter=2",
    follows: &[],
};

/// The way out to IPv4.
pub static EGRESS: Check = Check {
    id: "egress",
    programs: Programs::Plat,
    question: "Is there a way out to IPv4?",
    means: "There must be an IPv4 default route by an interface with a carrier, and an address where \
            clients share it.",
    remedy: "connect the interface towards IPv4; ip route shows whether there is a default route",
    follows: &[],
};

/// What comes back.
pub static PATH: Check = Check {
    id: "path",
    programs: Programs::Both,
    question: "Does anything come back through the prefix?",
    means: "An IPv4 address is pinged through the prefix: that of `--target`, or 192.0.0.8, which a \
            `plat` answers itself (RFC 7600); where `--target` names a port, a TCP connection is made \
            to it too. A refused connection is an answer. Other NAT64s need not answer for \
            192.0.0.8: without `--target` their silence is no fault.",
    remedy: "look at the NAT64 with plat doctor, and at the firewalls between it and this host",
    follows: WAY,
};

/// Path MTU.
pub static PATH_MTU: Check = Check {
    id: "path-mtu",
    programs: Programs::Both,
    question: "Do large packets pass both ways?",
    means: "The target of `path` is sent the largest packet that the interface allows, with `don't \
            fragment`: `clat` sends a UDP datagram to a port where nobody listens, whose answer is a \
            small ICMP error, `plat` a ping. A router that cannot forward it has to say so (packet too \
            big), and then the size that it names is tried. Silence instead, while small packets are \
            answered, means a path MTU black hole: web pages hang after the first bytes.",
    remedy: "let ICMPv6 type 2 and ICMP type 3 code 4 pass in all firewalls on the way, or set a \
             smaller --mtu on both sides",
    follows: &[
        "path",
        "tun",
        "sysctls",
        "daemon",
        "uplink",
        "prefix",
        "host-setup",
        "forward-chains",
        "policy-rules",
        "rp-filter",
        "egress",
        "pool",
    ],
};

/// DNS servers of the link.
pub static DNS: Check = Check {
    id: "dns",
    programs: Programs::Clat,
    question: "Do the DNS servers of the link answer, and which are a DNS64?",
    means: "Each DNS server that the link's routers announce, or that this host has for the link, is \
            asked for `ipv4only.arpa`. One that does not answer delays all names. A network without \
            DNS64 is fine with a CLAT on each host; IPv6-only programs then reach IPv6 names alone.",
    remedy: "ask for the server with dig AAAA ipv4only.arpa @ADDRESS; let the routers announce \
             servers that work",
    follows: &["uplink"],
};

/// Resolvers upstream.
pub static UPSTREAMS: Check = Check {
    id: "upstreams",
    programs: Programs::Plat,
    question: "Does each resolver of the DNS64 answer?",
    means: "Each resolver that the DNS64 asks is asked by itself, in the way in which the DNS64 does \
            it (UDP and TCP, or TLS). One that is silent costs time, and without any no name is \
            resolved.",
    remedy: "name resolvers that work: --dns64-upstream, or /etc/resolv.conf",
    follows: &["egress"],
};

/// The DNS64's answers.
pub static DNS64: Check = Check {
    id: "dns64",
    programs: Programs::Plat,
    question: "Does the DNS64 make addresses of the prefix?",
    means: "Each resolver of the DNS64 is asked for the A records of `ipv4only.arpa` (RFC 7050), a \
            name that has no AAAA record. Without A records from upstream there is nothing to make an \
            IPv6 address of, and IPv6-only clients do not reach IPv4 by name.",
    remedy: "use resolvers that give A records: dig A ipv4only.arpa @ADDRESS",
    follows: &["upstreams", "daemon", "egress"],
};

/// Other routers.
pub static ROUTERS: Check = Check {
    id: "routers",
    programs: Programs::Plat,
    question: "Is another program of this host a router on the same link?",
    means: "On the links of `--lan` the listeners to router solicitations are counted. Hosts there hear \
            two routers with one address, which contradict each other. What other routers of a link \
            announce is in `prefix` of `clat doctor`.",
    remedy: "stop it (radvd, systemd-networkd, dnsmasq), or leave the link out of --lan",
    follows: &["daemon"],
};

/// The pool.
pub static POOL: Check = Check {
    id: "pool",
    programs: Programs::Plat,
    question: "Are there free ports and sessions?",
    means: "The daemon counts new connections that found no port or no room in the session table in \
            the last seconds, and addresses of the pool that another host on the link has.",
    remedy: "add addresses (--pool), raise --max-sessions, or limit what one subscriber may have: \
             plat status names those with most sessions",
    follows: &["daemon"],
};

/// Connection tracking.
pub static CONNTRACK: Check = Check {
    id: "conntrack",
    programs: Programs::Both,
    question: "Has connection tracking room?",
    means: "The number of entries of the kernel's connection tracking is compared with its limit. A \
            full table drops new connections without a word to those who wait.",
    remedy: "raise it: sysctl net.netfilter.nf_conntrack_max, and hashsize of nf_conntrack",
    follows: &[],
};

/// Limits of the kernel.
pub static LIMITS: Check = Check {
    id: "limits",
    programs: Programs::Plat,
    question: "Are limits of the kernel large enough for a router?",
    means: "The router of a LAN needs room in the neighbour table for all its hosts (`gc_thresh3`): \
            otherwise a scan keeps it from hosts that were silent for seconds. The limits hold for the \
            whole machine and are not to be seen in containers.",
    remedy: "raise net.ipv6.neigh.default.gc_thresh3 and the same of ipv4, and gc_thresh2 to half of it",
    follows: &["daemon"],
};

/// The fast path.
pub static FAST_PATH: Check = Check {
    id: "fast-path",
    programs: Programs::Both,
    question: "Is established traffic translated in the kernel?",
    means: "The daemon says whether its eBPF program is attached, and why not. Without it everything \
            works, at less speed. It is a fault where the daemon wanted it and lost it.",
    remedy: "give the start CAP_BPF and CAP_PERFMON, on Linux 5.19 or newer; see docs/performance.md",
    follows: &["daemon"],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dr_04_each_check_is_there_once_and_comes_after_its_causes() {
        for (place, check) in ALL.iter().enumerate() {
            let before: Vec<_> = ALL[..place].iter().map(|one| one.id).collect();
            assert!(!before.contains(&check.id), "{} twice", check.id);
            for cause in check.follows {
                assert!(before.contains(cause), "{} before {cause}", check.id);
            }
            for text in [check.question, check.means, check.remedy] {
                assert!(!text.contains("  ") && text.len() > 10, "{text}");
            }
        }
    }
}
