//! Each format on its sample: what becomes of every line.

use crate::tests::{errors, import, import_clat};

#[expect(clippy::disallowed_methods, reason = "a test reads the samples")]
fn sample(path: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{root}/samples/{path}")).unwrap()
}

#[track_caller]
fn contains(toml: &str, lines: &[&str]) {
    for line in lines {
        assert!(toml.contains(line), "{line}\nis missing in\n{toml}");
    }
}

#[test]
fn im_01_jools_json_is_carried_over() {
    let (toml, _) = import(&[
        ("nat64.json", &sample("jool/nat64.json")),
        ("bib.csv", &sample("jool/bib.csv")),
    ]);
    contains(
        &toml,
        &[
            "\"2001:db8:1:ffff::/96\",  # nat64.json:6: pool6 2001:db8:1:ffff::/96",
            "lowest-ipv6-mtu = 1400",
            "filtering = \"address-dependent\"",
            "udp-timeout = \"360s\"",
            "tcp-est-timeout = \"9000s\"",
            "icmp-timeout = \"30s\"",
            "allow-short-timeouts = true  # nat64.json:11: icmp-timeout is shorter",
            "traffic-class = 0",
            "tos = 16  # nat64.json:14: tos 16",
            "session-log = \"syslog\"",
            "\"192.0.2.1:20000-60000\",  # nat64.json:20: pool4 TCP 192.0.2.1 20000-40000",
            "\"tcp:192.0.2.1:20080=[2001:db8:1::80]:80\",  # nat64.json:27: TCP 2001:db8:1::80#80",
            "\"tcp:192.0.2.1:20443=[2001:db8:1::80]:443\",  # bib.csv:2: static in Jool",
            "\"udp:192.0.2.1:31000=[2001:db8:1::5]:5000\",  # bib.csv:3: dynamic in Jool",
            "# not carried over: nat64.json:15: mtu-plateaus, because ",
            "# not carried over: nat64.json:24: pool4 TCP 192.0.2.2 , because plat does not choose",
            "# - pool4 has different ports for tcp, udp, icmp; ",
            "client = [\n    \"::/0\",",
        ],
    );
}

#[test]
fn im_01_jools_stateless_json_and_its_commands_are_carried_over() {
    let (toml, _) = import(&[("siit.json", &sample("jool-siit/siit.json"))]);
    contains(
        &toml,
        &[
            "\"203.0.113.80/32=2001:db8:4::80/128\",  # siit.json:13: EAMT ",
            "\"203.0.113.16/28=2001:db8:4::/124\",",
            "hairpin = \"simple\"",
            "udp-zero-checksum = \"drop\"",
            "rfc6791-pool = \"198.51.100.0/24\"",
            "# not carried over: siit.json:16: denylist4 203.0.113.99, because ",
        ],
    );
    let (toml, _) = import(&[("jool.sh", &sample("jool-commands/jool.sh"))]);
    contains(
        &toml,
        &[
            "\"2001:db8:1:ffff::/96\",  # jool.sh:4: sudo jool instance add office",
            "\"192.0.2.16/30:1024-65535\",",
            "\"tcp:192.0.2.17:2525=[2001:db8:1::25]:25\",",
            "# not carried over: jool.sh:3: modprobe jool, because ",
            "# not carried over: jool.sh:7: --max-iterations 5000, because ",
            "# not carried over: jool.sh:10: ip route add ",
        ],
    );
}

#[test]
fn im_01_tundra_unbound_and_bind_are_carried_over() {
    let (toml, _) = import(&[("t.conf", &sample("tundra/tundra-nat64.conf"))]);
    contains(
        &toml,
        &[
            "tun = \"tundra\"",
            "queues = 4",
            "\"192.168.64.1/32=2001:db8:5::1/128\",",
            "\"64:ff9b::/96\",",
            "wkp-strict = \"on\"",
            "traffic-class = 0",
            "# not carried over: t.conf:3: program.privilege_drop_user = nobody, because ",
        ],
    );
    let toml = import_clat(&[("t.conf", &sample("tundra/tundra-clat.conf"))]);
    contains(
        &toml,
        &[
            "ipv6 = \"2001:db8:5::c1a7\"",
            "mtu4 = 1260",
            "tun = \"clat\"",
        ],
    );

    let (toml, _) = import(&[("unbound.conf", &sample("unbound/unbound.conf"))]);
    contains(
        &toml,
        &[
            "[dns64]\nlisten = [\n    \"2001:db8:1::53\",  # unbound.conf:4: interface: ",
            "\"2001:db8:1::/48\",  # unbound.conf:6: access-control: ",
            "\"2001:db8:1:ffff::/96\",  # unbound.conf:10: dns64-prefix: ",
            "ca = \"/etc/ssl/certs/ca-certificates.crt\"",
            "# not carried over: unbound.conf:13: msg-cache-size: 64m, because ",
            "# not carried over: unbound.conf:8: access-control: ::/0 refuse, because ",
            "# - unbound validates DNSSEC; ",
        ],
    );
    let (toml, _) = import(&[(
        "forward.conf",
        &(sample("unbound/unbound.conf").replace("conf.d/*.conf", "conf.d/*.conf\"\n# \"")
            + &sample("unbound/conf.d/forward.conf")),
    )]);
    contains(
        &toml,
        &[
            "\"tls://192.0.2.1:853#dns.example\",",
            "\"tls://[2001:db8::1]:853#dns.example\",",
            "\"corp.example=192.0.2.9\",  # forward.conf:",
        ],
    );

    let (toml, _) = import(&[(
        "local.conf",
        "server:\n interface: 2001:db8:1::53\n module-config: \"dns64 iterator\"\n \
         dns64-synthall: yes\n dns64-ignore-aaaa: \"old.example\"\n minimal-responses: yes\n serve-expired: yes prefetch: yes num-threads: 4\n \
         local-zone: \"office\" static\n local-data: \"printer.office. 3600 IN A 192.0.2.9\"\n \
         local-data: 'printer.office AAAA 2001:db8::9'\n local-data: 'office MX 10 mail.office'\n \
         local-data-ptr: \"192.0.2.9 printer.office\"\n local-data-ptr: \"192.0.2.8 3600 x.office\"\n\
         forward-zone:\n name: \"corp.example.\"\n forward-addr: 192.0.2.9\n \
         forward-addr: 2001:db8::9@5353\n",
    )]);
    contains(
        &toml,
        &[
            "forward = [\n    \"corp.example=192.0.2.9,[2001:db8::9]:5353\",  # local.conf:16: forward-addr: 192.0.2.9 for corp.example.",
            "always = [\n    \"all\",  # local.conf:4: dns64-synthall: yes",
            "    \"old.example\",  # local.conf:5: ",
            "record = [\n    \"printer.office=192.0.2.9\",  # local.conf:9: ",
            "    \"printer.office=2001:db8::9\",  # local.conf:10: ",
            "minimal = true  # local.conf:6: minimal-responses: yes",
            "stale = 86400  # local.conf:7: serve-expired: yes; unbound's default serve-expired-ttl",
            "prefetch = true  # local.conf:7: ",
            "threads = 4  # local.conf:7: ",
            "# not carried over: local.conf:8: local-zone: office static, because ",
            "# not carried over: local.conf:11: local-data: office MX 10 mail.office, because ",
            "# not carried over: local.conf:13: local-data-ptr: 192.0.2.8 3600 x.office, because ",
            "# - local-data of unbound gets no IPv6 addresses; ",
        ],
    );
    assert!(
        !toml.contains("192.0.2.9 printer.office, because"),
        "{toml}"
    );
    let (toml, _) = import(&[(
        "named.conf",
        "options { listen-on-v6 { 2001:db8:1::53; }; minimal-responses yes; stale-answer-enable yes; max-stale-ttl 1d12h;\n \
         dns64 64:ff9b::/96 { clients { 2001:db8:1::/48; !10/8; }; }; };\n\
         zone \"corp.example\" IN { type forward; forward only;\n \
         forwarders { 192.0.2.9 port 5353; 2001:db8::9; }; };\n\
         zone \"open.example\" { type forward; forwarders { }; };\n",
    )]);
    contains(
        &toml,
        &[
            "client = [\n    \"2001:db8:1::/48\",  # named.conf:2: clients { ... }",
            "\"corp.example=192.0.2.9:5353,2001:db8::9\",  # named.conf:3: zone corp.example IN { ... }",
            "minimal = true  # named.conf:1: ",
            "stale = 129600  # named.conf:1: max-stale-ttl 1d12h",
            "# not carried over: named.conf:5: zone open.example { ... }, because ",
        ],
    );

    let text = sample("named/named.conf.options").replace("named.conf.acl", "acls");
    let (toml, _) = import(&[("named.conf", &text.replace("office;", "ours;"))]);
    contains(
        &toml,
        &[
            "\"192.0.2.1\",  # named.conf:5: 192.0.2.1",
            "\"[2001:db8::1]:5353\",",
            "listen = [\n    \"2001:db8:1::53\",",
            "\"2001:db8:1::/48\",  # named.conf:10: allow-recursion { ... }",
            "\"10.0.0.0/8\",  # named.conf:15: !10/8",
            "exclude = [\n    \"2001:db8:bad::/48\",",
            "# not carried over: named.conf:19: zone office.example { ... }, because ",
        ],
    );
}

#[test]
fn im_02_what_these_formats_do_not_know_is_refused_with_line_and_column() {
    let jool = "{\n \"global\": { \"pool6\": \"64:ff9b::/96\", \"udp-timeouts\": \"1\" },\n \
                \"pool4\": [{ \"protocol\": \"SCTP\", \"prefix\": \"192.0.2.1\" }], \"bib\": [ {} ]\n}";
    let unbound = "server:\n interface: ::\n module-config: \"iterator\"\n access-contrl: ::/0 allow\n \
                   access-control: 2001:db8::/32 allow\n access-control: 2001:db8:1::/48 refuse\n\
                   include: \"gone\"\n";
    let named = "options {\n dns64 64:ff9b::/96 { mapped { 10/8; }; suffix ::1; };\n \
                 listen-on-v6 { any; };\n forwaders { };\n allow-query { !2001:db8::1; any; };\n};\n";
    let tundra = "addressing.mode = clat\n";
    for (name, text, expected) in [
        (
            "jool.json",
            jool,
            &[
                "jool.json:2:39: there is no global variable of Jool here `udp-timeouts`; did you mean `udp-timeout`?",
                "jool.json:3:26: `SCTP` is none of TCP, UDP, ICMP",
                "jool.json:3:69: `protocol` is missing",
            ][..],
        ),
        (
            "jool.json",
            "{ \"pool4\": [ }",
            &["jool.json:1:14: a value is missing"],
        ),
        (
            "unbound.conf",
            unbound,
            &[
                "unbound.conf:4:2: there is no attribute of unbound `access-contrl`; did you mean `access-control`?",
                "unbound.conf:7:10: include: there is no gone",
                "unbound.conf:1:1: module-config has no dns64",
                "unbound.conf:1:1: no IPv6 address of this host is named",
                "unbound.conf:6:2: 2001:db8:1::/48 is refused inside of 2001:db8::/32",
            ],
        ),
        (
            "named.conf",
            named,
            &[
                "named.conf:2:32: plat knows which IPv4 addresses it leaves out",
                "named.conf:2:41: plat has no suffix",
                "named.conf:4:2: there is no option of BIND `forwaders`; did you mean `forwarders`?",
                "named.conf:5:16: plat has a list of who may ask, without exceptions",
                "named.conf:1:1: no IPv6 address of this host is named",
            ],
        ),
        ("tundra.conf", tundra, &["tundra.conf:1:19: this is a CLAT"]),
        (
            "jool.sh",
            "jool instance add --netfilter --pool6 $P\njool_siit eamt add 192.0.2.1 2001:db8::1\n",
            &["jool.sh:1:39: `$P`: the shell would replace it"],
        ),
    ] {
        let errors = errors(&[(name, text)]);
        for expected in expected {
            assert!(
                errors.iter().any(|error| error.starts_with(expected)),
                "{expected}: {errors:#?}"
            );
        }
    }
}
