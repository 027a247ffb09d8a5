use super::*;
use crate::pcp::SERVER_PORT;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const CLAT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x464);
const UPLINK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const SERVER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 5);
const START: Instant = Instant::from_secs(1000);
/// Where the nonce of a MAP request and of its response is.
const NONCE: std::ops::Range<usize> = 24..36;

fn at(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// A host that has the address of the CLAT for itself, and a LAN behind it.
fn hosts() -> Hosts {
    Hosts {
        pref64: "64:ff9b::/96".parse().unwrap(),
        own: OWN,
        client: CLAT,
        shared_ports: None,
        mapped: Vec::new(),
        masqueraded: vec!["192.168.1.0/24".parse().unwrap()],
    }
}

fn shared() -> Hosts {
    Hosts {
        client: UPLINK,
        shared_ports: Some(61000..=61003),
        ..hosts()
    }
}

struct Net {
    proxy: Proxy,
    now: Instant,
    /// Ports that the CLAT's host uses itself.
    used: Vec<u16>,
}

impl Net {
    fn new(hosts: Hosts) -> Self {
        let settings = Settings {
            secret: [1, 2],
            per_host: 3,
            total: 5,
        };
        let mut proxy = Proxy::new(settings, hosts, vec![SERVER], START);
        // What is announced at the start is a test of its own.
        proxy.announcing = None;
        let used = Vec::new();
        Self {
            proxy,
            now: START,
            used,
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.proxy.poll()).collect()
    }

    fn request(&mut self, host: Ipv4Addr, datagram: &[u8]) -> Vec<Output> {
        let from = SocketAddrV4::new(host, 40_000);
        let arrival = Arrival { socket: 0, from };
        let is_free = |_, port| !self.used.contains(&port);
        self.proxy.on_request(arrival, datagram, self.now, &is_free);
        self.outputs()
    }

    /// What the host is answered at once.
    fn answered(&mut self, host: Ipv4Addr, datagram: &[u8]) -> Vec<u8> {
        match &self.request(host, datagram)[..] {
            [Output::Reply { message, .. }] => message.clone(),
            others => panic!("{others:?}"),
        }
    }

    /// What the server is asked.
    fn asked(&mut self, host: Ipv4Addr, datagram: &[u8]) -> Vec<u8> {
        match &self.request(host, datagram)[..] {
            [Output::Ask { to, message, .. }] if *to == SERVER => message.clone(),
            others => panic!("{others:?}"),
        }
    }

    /// The server's response; what the host is answered then.
    fn response(&mut self, client: Ipv6Addr, message: &[u8]) -> Vec<Output> {
        self.proxy.on_response(SERVER, client, message, self.now);
        self.outputs()
    }

    fn wait(&mut self, millis: u64) -> Vec<Output> {
        self.now = self.now + Duration::from_millis(millis);
        self.proxy.tick(self.now);
        self.outputs()
    }
}

/// The response to a MAP or PEER request: 192.0.2.1 and this port, for so many seconds.
fn granted(request: &[u8], port: u16, lifetime: u32, epoch: u32) -> Vec<u8> {
    let mut message = request.to_vec();
    message[1] |= 0x80;
    message[4..8].copy_from_slice(&lifetime.to_be_bytes());
    message[8..12].copy_from_slice(&epoch.to_be_bytes());
    message[12..24].fill(0);
    message[42..44].copy_from_slice(&port.to_be_bytes());
    message[44..60].copy_from_slice(&bytes("00000000000000000000ffffc0000201"));
    message
}

fn denied(request: &[u8], code: u8, lifetime: u32) -> Vec<u8> {
    let mut message = granted(request, 0, lifetime, 5);
    message[3] = code;
    message
}

#[track_caller]
fn replied(outputs: &[Output]) -> Vec<u8> {
    match outputs {
        [Output::Reply { to, message }] => {
            assert_eq!(to.from.port(), 40_000);
            message.clone()
        }
        others => panic!("{others:?}"),
    }
}

/// NAT-PMP: UDP port 6881 for two hours, the same outside if that can be (RFC 6886 section 3.3).
fn natpmp_map() -> Vec<u8> {
    bytes("00 01 0000 1ae1 1ae1 00001c20")
}

/// PCP, from an IPv4 host: TCP port 80 for an hour, no suggestion (RFC 6887 section 11.1).
fn pcp_map(host: &str) -> Vec<u8> {
    bytes(&format!(
        "02 01 0000  00000e10  00000000000000000000ffff{host} \
         0102030405060708090a0b0c  06 000000  0050 0000  00000000000000000000ffff00000000"
    ))
}

const OWN_HEX: &str = "c0000001";
const LAN_HEX: &str = "c0a80105";

#[test]
fn pp_01_a_natpmp_request_becomes_a_pcp_request_and_back() {
    let mut net = Net::new(hosts());
    net.now = at(7000);
    let asked = net.asked(OWN, &natpmp_map());
    let expected = bytes("02 01 0000 00001c20 20010db8000100000000000000000464");
    assert_eq!(asked[..24], expected);
    let expected = bytes("11 000000 1ae1 1ae1 00000000000000000000ffff00000000");
    assert_eq!(asked[36..], expected);
    let reply = replied(&net.response(CLAT, &granted(&asked, 7000, 3600, 5)));
    // Version, opcode 129, success, our seven seconds, the port, what it is outside, an hour.
    assert_eq!(reply, bytes("00 81 0000 00000007 1ae1 1b58 00000e10"));
    let held: Vec<Held> = net.proxy.held().collect();
    assert_eq!(held[0].external, "192.0.2.1:7000".parse().unwrap());
    assert_eq!(held[0].until, at(7000) + Duration::from_secs(3600));
    // It needs no help here.
    assert_eq!(net.proxy.forwards(), []);
}

#[test]
fn pp_01_a_natpmp_host_renews_and_deletes() {
    let mut net = Net::new(hosts());
    let first = net.asked(OWN, &natpmp_map());
    net.response(CLAT, &granted(&first, 6881, 3600, 5));
    net.now = at(1_800_000);
    let again = net.asked(OWN, &natpmp_map());
    assert_eq!(first[NONCE], again[NONCE]);
    net.response(CLAT, &granted(&again, 6881, 3600, 1805));
    assert_eq!(net.proxy.held().count(), 1);
    let asked = net.asked(OWN, &bytes("00 01 0000 1ae1 0000 00000000"));
    assert_eq!((&asked[4..8], &asked[NONCE]), (&[0; 4][..], &first[NONCE]));
    let reply = replied(&net.response(CLAT, &granted(&asked, 6881, 0, 1805)));
    assert_eq!(reply, bytes("00 81 0000 00000708 1ae1 0000 00000000"));
    assert_eq!(net.proxy.held().count(), 0);
    // A restart later the nonce is the same, and the server knows the holder.
    let mut after = Net::new(hosts());
    assert_eq!(after.asked(OWN, &natpmp_map())[NONCE], first[NONCE]);
}

#[test]
fn pp_01_all_ports_of_a_protocol_are_deleted_at_once() {
    let mut net = Net::new(hosts());
    for port in ["1ae1", "1ae2"] {
        let asked = net.asked(OWN, &bytes(&format!("00 01 0000 {port} 0000 00001c20")));
        net.response(CLAT, &granted(&asked, 6881, 3600, 0));
    }
    let outputs = net.request(OWN, &bytes("00 01 0000 0000 0000 00000000"));
    let deletions = outputs.iter().filter_map(|output| match output {
        Output::Ask { message, .. } => Some(message[4..8].to_vec()),
        _ => None,
    });
    assert_eq!(deletions.collect::<Vec<_>>(), [[0; 4], [0; 4]]);
    let replies = outputs.iter().filter_map(|output| match output {
        Output::Reply { message, .. } => Some(message.clone()),
        _ => None,
    });
    let done = bytes("00 81 0000 00000000 0000 0000 00000000");
    assert_eq!(replies.collect::<Vec<_>>(), [done]);
}

#[test]
fn pp_02_the_external_address_is_what_the_server_says() {
    let mut net = Net::new(hosts());
    // RFC 6887 section 11.6: UDP port 9, for a short time.
    let asked = net.asked(OWN, &[0, 0]);
    assert_eq!(asked[4..8], 120u32.to_be_bytes());
    assert_eq!(asked[36..44], bytes("11 000000 0009 0000"));
    let reply = replied(&net.response(CLAT, &granted(&asked, 9, 120, 0)));
    assert_eq!(reply, bytes("00 80 0000 00000000 c0000201"));
    // Known now, without a question.
    assert_eq!(net.answered(OWN, &[0, 0]), reply);
    assert_eq!(net.proxy.held().count(), 0);
    // For as long as the mapping lasts.
    net.wait(120_000);
    net.asked(OWN, &[0, 0]);
}

#[test]
fn pp_03_a_pcp_request_is_asked_in_the_hosts_place() {
    let mut net = Net::new(hosts());
    let filter = "03000014 00800050 00000000000000000000ffffc6336407";
    let request = [pcp_map(OWN_HEX), bytes(filter)].concat();
    let asked = net.asked(OWN, &request);
    assert_eq!(asked[8..24], CLAT.octets());
    assert_eq!(asked[24..], request[24..]);
    let reply = replied(&net.response(CLAT, &granted(&asked, 80, 3600, 77)));
    let mut expected = granted(&request, 80, 3600, 0);
    assert_eq!(reply, expected);
    // With the epoch of the proxy, and the client's nonce.
    net.now = at(9000);
    let asked = net.asked(OWN, &request);
    let reply = replied(&net.response(CLAT, &granted(&asked, 80, 3600, 86)));
    expected[11] = 9;
    assert_eq!(reply, expected);
}

#[test]
fn pp_03_a_connection_is_kept_to_the_peer_behind_the_nat64() {
    let mut net = Net::new(hosts());
    let request = bytes(
        "02 02 0000  00000e10  00000000000000000000ffffc0000001 \
         0102030405060708090a0b0c  06 000000  0fa0 0000  00000000000000000000ffff00000000 \
         01bb 0000  00000000000000000000ffffc6336407",
    );
    let asked = net.asked(OWN, &request);
    assert_eq!(
        asked[60..],
        bytes("01bb 0000 0064ff9b0000000000000000c6336407")
    );
    let reply = replied(&net.response(CLAT, &granted(&asked, 4000, 3600, 0)));
    assert_eq!(reply, granted(&request, 4000, 3600, 0));
}

#[test]
fn pp_03_an_announce_is_answered_here() {
    let mut net = Net::new(hosts());
    net.now = at(5000);
    let request = bytes("02 00 0000 00000000 00000000000000000000ffffc0000001");
    let expected = bytes("02 80 00 00 00000000 00000005 000000000000000000000000");
    assert_eq!(net.answered(OWN, &request), expected);
}

#[test]
fn pp_04_what_the_server_refuses_has_its_code_in_both_protocols() {
    // PCP code of the server, NAT-PMP code to the host.
    for (code, natpmp) in [
        (1, 3),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 3),
        (6, 3),
        (7, 3),
        (8, 4),
        (9, 2),
        (10, 4),
        (11, 4),
        (12, 3),
        (13, 4),
        (200, 3),
    ] {
        let mut net = Net::new(hosts());
        let asked = net.asked(OWN, &natpmp_map());
        let reply = replied(&net.response(CLAT, &denied(&asked, code, 30)));
        let expected = bytes("00 81 0000 00000000 1ae1 0000 00000000");
        assert_eq!((reply[3], &reply[8..]), (natpmp, &expected[8..]), "{code}");
        let asked = net.asked(OWN, &pcp_map(OWN_HEX));
        let reply = replied(&net.response(CLAT, &denied(&asked, code, 30)));
        let expected = if code == 200 { 7 } else { code };
        assert_eq!((reply[3], &reply[4..8]), (expected, &[0, 0, 0, 30][..]));
        assert_eq!(net.proxy.mappings.len(), 0);
    }
}

#[test]
fn pp_04_what_cannot_be_read_is_answered_here() {
    let mut net = Net::new(hosts());
    // NAT-PMP: an opcode that does not exist; a response; half a request.
    assert_eq!(net.answered(OWN, &[0, 3]), bytes("00 83 0005 00000000"));
    for datagram in [&[][..], &[0], &[0, 0x81], &natpmp_map()[..11]] {
        assert_eq!(net.request(OWN, datagram), []);
    }
    // Another version (RFC 6887 section 9).
    let reply = net.answered(OWN, &[1, 0]);
    assert_eq!(reply[..4], [2, 0x80, 0, 1]);
    // PCP: another host's address, another host by option, an unknown option.
    let reply = net.answered(OWN, &pcp_map(LAN_HEX));
    assert_eq!(reply[3], 12);
    let third_party = bytes("01000010 00000000000000000000ffffc0a80105");
    let reply = net.answered(OWN, &[pcp_map(OWN_HEX), third_party].concat());
    assert_eq!(reply[3], 5);
    let reply = net.answered(OWN, &[pcp_map(OWN_HEX), bytes("04000000")].concat());
    assert_eq!(reply[3], 5);
    let mut request = pcp_map(OWN_HEX);
    request[36] = 132;
    assert_eq!(net.answered(OWN, &request)[3], 9);
    // Not one of ours.
    let stranger = Ipv4Addr::new(10, 0, 0, 1);
    assert_eq!(net.answered(stranger, &natpmp_map())[3], 2);
}

#[test]
fn pp_05_a_restart_of_the_server_leads_to_the_same_mappings() {
    let mut net = Net::new(hosts());
    let first = net.asked(OWN, &natpmp_map());
    net.response(CLAT, &granted(&first, 7000, 3600, 5000));
    // Anyone can announce; the server is asked.
    net.now = at(600_000);
    net.proxy.on_announcement(net.now);
    let outputs = net.wait(0);
    let announce = bytes("02 00 0000 00000000 20010db8000100000000000000000464");
    let expected = Output::Ask {
        from: CLAT,
        to: SERVER,
        message: announce,
    };
    assert_eq!(outputs, [expected]);
    net.response(
        CLAT,
        &bytes("02 80 0000 00000000 00000003 000000000000000000000000"),
    );
    let outputs = net.wait(2000);
    // Hosts are told, in both protocols: what they held began three seconds ago.
    let pcp = bytes("02 80 0000 00000000 00000005 000000000000000000000000");
    let natpmp = bytes("00 80 0000 00000005 c0000201");
    assert!(outputs.contains(&Output::Announce(pcp)), "{outputs:?}");
    assert!(outputs.contains(&Output::Announce(natpmp)));
    let asked = outputs.iter().find_map(|output| match output {
        Output::Ask { message, .. } => Some(message.clone()),
        _ => None,
    });
    let asked = asked.expect("the mapping is asked for");
    assert_eq!(asked[NONCE], first[NONCE]);
    // What it had, for the rest of the time.
    assert_eq!(asked[4..8], 3000u32.to_be_bytes());
    assert_eq!(asked[42..], bytes("1b58 00000000000000000000ffffc0000201"));
    net.response(CLAT, &granted(&asked, 7000, 3000, 5));
    assert_eq!(net.proxy.held().count(), 1);
    // Ten times, each after twice the time.
    let mut times = 1;
    for _ in 0..20 {
        net.now = net.proxy.next_due().unwrap();
        let outputs = net.wait(0);
        times += outputs.len() / 2;
        if times >= 10 {
            break;
        }
    }
    assert_eq!(times, 10);
    assert!(net.proxy.announcing.is_none());
}

#[test]
fn pp_05_a_mapping_that_is_not_given_again_is_gone() {
    let mut net = Net::new(hosts());
    let asked = net.asked(OWN, &natpmp_map());
    net.response(CLAT, &granted(&asked, 7000, 3600, 5000));
    let other = net.asked(OWN, &pcp_map(OWN_HEX));
    // The response to another request tells it as well.
    net.response(CLAT, &granted(&other, 80, 3600, 1));
    let outputs = net.wait(2000);
    let asked = outputs.iter().find_map(|output| match output {
        Output::Ask { message, .. } => Some(message.clone()),
        _ => None,
    });
    net.response(CLAT, &denied(&asked.unwrap(), 11, 30));
    let held: Vec<u16> = net.proxy.held().map(|held| held.host.port()).collect();
    assert_eq!(held, [80]);
}

#[test]
fn pp_06_hosts_that_share_an_address_get_a_port_of_it() {
    let mut net = Net::new(hosts());
    let asked = net.asked(LAN, &natpmp_map());
    assert_eq!(
        (&asked[8..24], &asked[40..42]),
        (&CLAT.octets()[..], &[0x1a, 0xe1][..])
    );
    // There before the server says yes.
    let forward = |host, port, outer| Forward {
        protocol: 17,
        host,
        port,
        outer,
    };
    assert_eq!(net.proxy.forwards(), [forward(LAN, 6881, 6881)]);
    let reply = replied(&net.response(CLAT, &granted(&asked, 7000, 3600, 0)));
    assert_eq!(reply, bytes("00 81 0000 00000000 1ae1 1b58 00000e10"));
    // A second host wants the same port, and a third one a port that this host uses.
    let second = Ipv4Addr::new(192, 168, 1, 6);
    let asked = net.asked(second, &natpmp_map());
    let outer = u16::from_be_bytes([asked[40], asked[41]]);
    assert!(outer >= 1024 && outer != 6881, "{outer}");
    net.used.push(6882);
    let asked = net.asked(second, &bytes("00 01 0000 1ae2 0000 00001c20"));
    assert_ne!(asked[40..42], [0x1a, 0xe2]);
    // Its own ports are not what others have.
    assert_eq!(net.answered(OWN, &natpmp_map())[3], 4);
    // Deleted: no forward remains.
    let asked = net.asked(LAN, &bytes("00 01 0000 1ae1 0000 00000000"));
    net.response(CLAT, &granted(&asked, 7000, 0, 0));
    assert!(net.proxy.forwards().iter().all(|one| one.host == second));
}

#[test]
fn pp_06_a_shared_address_has_few_ports() {
    let mut net = Net::new(shared());
    net.used.push(61001);
    let mut given = Vec::new();
    for port in ["1ae1", "1ae2", "1ae3"] {
        let asked = net.asked(OWN, &bytes(&format!("00 01 0000 {port} 0000 00001c20")));
        assert_eq!(asked[8..24], UPLINK.octets());
        given.push(u16::from_be_bytes([asked[40], asked[41]]));
    }
    given.sort_unstable();
    assert_eq!(given, [61000, 61002, 61003]);
    assert_eq!(net.proxy.forwards().len(), 3);
    assert_eq!(net.answered(LAN, &natpmp_map())[3], 4);
    // The same number for TCP is another port.
    let asked = net.asked(LAN, &bytes("00 02 0000 ee48 0000 00001c20"));
    assert_eq!(asked[40..42], [0xee, 0x48]);
    // What is not there is deleted already.
    let reply = net.answered(LAN, &bytes("00 02 0000 1ae1 0000 00000000"));
    assert_eq!(reply, bytes("00 82 0000 00000000 1ae1 0000 00000000"));
}

#[test]
fn pp_07_a_host_has_as_many_as_it_may_and_changes_only_its_own() {
    let mut net = Net::new(hosts());
    for port in 1..=3 {
        net.asked(OWN, &bytes(&format!("00 01 0000 000{port} 0000 00001c20")));
    }
    assert_eq!(net.answered(OWN, &natpmp_map())[3], 4);
    for port in 1..=2 {
        net.asked(LAN, &bytes(&format!("00 02 0000 100{port} 0000 00001c20")));
    }
    let third = Ipv4Addr::new(192, 168, 1, 7);
    assert_eq!(net.answered(third, &natpmp_map())[3], 4);
    // Another nonce, another protocol: not the holder.
    let mut net = Net::new(hosts());
    let asked = net.asked(OWN, &pcp_map(OWN_HEX));
    net.response(CLAT, &granted(&asked, 80, 3600, 0));
    let mut spoofed = pcp_map(OWN_HEX);
    spoofed[24] ^= 1;
    let reply = net.answered(OWN, &spoofed);
    assert_eq!((reply[3], &reply[4..8]), (2, &3600u32.to_be_bytes()[..]));
    let reply = net.answered(OWN, &bytes("00 02 0000 0050 0000 00000000"));
    assert_eq!(reply[3], 2);
    assert_eq!(net.proxy.held().count(), 1);
}

#[test]
fn pp_07_a_flood_of_one_host_is_cut_and_others_are_served() {
    let mut net = Net::new(hosts());
    let answers = (0..1000)
        .filter(|_| !net.request(OWN, &[0, 3]).is_empty())
        .count();
    assert_eq!(answers, 100);
    net.asked(LAN, &natpmp_map());
    net.now = at(1000);
    net.answered(OWN, &[0, 3]);
}

#[test]
fn pp_08_forged_responses_change_nothing() {
    let mut net = Net::new(hosts());
    let asked = net.asked(OWN, &natpmp_map());
    let good = granted(&asked, 7000, 3600, 0);
    let mut nonce = good.clone();
    nonce[24] ^= 1;
    let mut port = good.clone();
    port[41] ^= 1;
    let request = asked.clone();
    for forged in [&nonce[..], &port, &request, &good[..56], &good[..59], &[]] {
        assert_eq!(net.response(CLAT, forged), []);
    }
    // From another router, or to another address.
    net.proxy.on_response(OTHER, CLAT, &good, net.now);
    net.proxy.on_response(SERVER, UPLINK, &good, net.now);
    assert_eq!(net.outputs(), []);
    assert_eq!(net.proxy.held().count(), 0);
    replied(&net.response(CLAT, &good));
}

#[test]
fn pp_09_requests_are_repeated_and_hosts_told_that_no_server_answers() {
    let mut net = Net::new(hosts());
    let first = net.asked(OWN, &natpmp_map());
    // The host repeats it, as section 3.1 of RFC 6886 says; so does the proxy.
    net.now = at(100);
    assert_eq!(net.request(OWN, &natpmp_map()), []);
    net.now = at(250);
    assert_eq!(net.asked(OWN, &natpmp_map()), first);
    // RFC 6887 section 8.1.1: after three seconds, and six.
    let outputs = net.wait(3500);
    assert!(matches!(&outputs[..], [Output::Ask { message, .. }] if *message == first));
    let reply = replied(&net.wait(7000));
    assert_eq!((reply[3], reply[7]), (3, 10));
    // For a while nothing is asked, then it is tried again.
    net.now = at(30_000);
    assert_eq!(net.answered(OWN, &natpmp_map())[3], 3);
    net.now = at(41_000);
    net.asked(OWN, &natpmp_map());
    // Or at once when a server announces itself.
    net.wait(3500);
    replied(&net.wait(7000));
    net.proxy.on_announcement(net.now);
    net.asked(OWN, &natpmp_map());
}

#[test]
fn pp_09_the_next_server_is_asked_where_the_first_is_silent() {
    let mut net = Net::new(hosts());
    net.proxy.set_servers(vec![SERVER, OTHER], net.now);
    net.asked(OWN, &natpmp_map());
    net.wait(3500);
    let outputs = net.wait(7000);
    let [Output::Ask { to, message, .. }] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(*to, OTHER);
    let granted = granted(message, 7000, 3600, 0);
    net.proxy.on_response(OTHER, CLAT, &granted, net.now);
    replied(&net.outputs());
    // It stays with the one that answers.
    net.proxy.set_servers(vec![OTHER, SERVER], net.now);
    let outputs = net.request(OWN, &natpmp_map());
    assert!(matches!(&outputs[..], [Output::Ask { to, .. }] if *to == OTHER));
}

/// The host has moved, or its router has been replaced.
#[test]
fn pp_05_another_server_is_asked_for_what_hosts_hold() {
    let mut net = Net::new(hosts());
    let asked = net.asked(OWN, &natpmp_map());
    net.response(CLAT, &granted(&asked, 7000, 3600, 5000));
    net.proxy.set_servers(vec![OTHER], net.now);
    let outputs = net.wait(2000);
    let asked = outputs.iter().find_map(|output| match output {
        Output::Ask { to, message, .. } if *to == OTHER => Some(message.clone()),
        _ => None,
    });
    let asked = asked.expect("the mapping is asked for");
    assert_eq!(asked[42..44], 7000u16.to_be_bytes());
    assert!(outputs.iter().any(|it| matches!(it, Output::Announce(_))));
    // Its time has nothing to do with that of the one before.
    let granted = granted(&asked, 7001, 3598, 9_000_000);
    net.proxy.on_response(OTHER, CLAT, &granted, net.now);
    let held: Vec<Held> = net.proxy.held().collect();
    assert_eq!(held[0].external, "192.0.2.1:7001".parse().unwrap());
}

#[test]
fn pp_10_a_mapping_ends_in_time_unless_it_is_renewed() {
    let mut net = Net::new(hosts());
    let asked = net.asked(LAN, &natpmp_map());
    net.response(CLAT, &granted(&asked, 7000, 3600, 0));
    assert_eq!(net.proxy.next_due(), Some(at(3_600_000)));
    net.wait(3_599_000);
    assert_eq!(net.proxy.held().count(), 1);
    net.wait(1000);
    assert_eq!(net.proxy.held().count(), 0);
    assert_eq!(net.proxy.forwards(), []);
    assert_eq!(net.proxy.next_due(), None);
}

#[test]
fn pp_08_a_response_is_read_from_the_packet_it_comes_in() {
    let mut net = Net::new(hosts());
    let asked = net.asked(OWN, &natpmp_map());
    let payload = granted(&asked, 7000, 3600, 0);
    let mut udp = Vec::new();
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(40_000u16.to_be_bytes());
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(&payload);
    let mut packet = bytes("60000000 0000 11 40");
    packet[4..6].copy_from_slice(&(udp.len() as u16).to_be_bytes());
    packet.extend(SERVER.octets());
    packet.extend(CLAT.octets());
    packet.extend(&udp);
    let pseudo = [&packet[8..40], &[0, 17], &(udp.len() as u16).to_be_bytes()].concat();
    let sum = |bytes: &[u8]| {
        let words = bytes
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]));
        words.sum::<u64>() % 0xffff
    };
    let partial = sum(&pseudo) as u16;
    let whole = 0xffff - ((sum(&pseudo) + sum(&udp)) % 0xffff) as u16;
    for (checksum, is_right) in [(whole, true), (partial, true), (whole ^ 1, false)] {
        let mut packet = packet.clone();
        packet[46..48].copy_from_slice(&checksum.to_be_bytes());
        let parsed = Datagram::parse(&packet);
        assert_eq!(
            parsed.map(|it| it.payload),
            is_right.then_some(&payload[..])
        );
        for end in 0..packet.len() {
            assert_eq!(Datagram::parse(&packet[..end]), None);
        }
    }
    packet[46..48].copy_from_slice(&whole.to_be_bytes());
    net.proxy.on_packet(&packet, net.now);
    replied(&net.outputs());
}

proptest::proptest! {
    /// Whatever hosts and servers send: no panic, and no more than the limits.
    #[test]
    fn pp_08_hostile_datagrams(
        datagrams in proptest::collection::vec(
            (0..4usize, proptest::collection::vec((0..90usize, proptest::num::u8::ANY), 0..6)),
            1..60,
        )
    ) {
        let mut net = Net::new(shared());
        let mut last = Vec::new();
        for (kind, changes) in datagrams {
            let mut datagram = match kind {
                0 => natpmp_map(),
                1 => pcp_map(LAN_HEX),
                2 => pcp_map(OWN_HEX),
                _ => last.clone(),
            };
            for (at, value) in changes {
                if let Some(byte) = datagram.get_mut(at) {
                    *byte = value;
                }
            }
            let outputs = match kind {
                3 => net.response(UPLINK, &datagram),
                1 => net.request(LAN, &datagram),
                _ => net.request(OWN, &datagram),
            };
            for output in outputs {
                if let Output::Ask { message, .. } = output {
                    last = granted(&message, 7000, 300, 0);
                }
            }
            net.wait(1500);
            proptest::prop_assert!(net.proxy.mappings.len() <= 5);
            proptest::prop_assert!(net.proxy.jobs.len() <= net.proxy.mappings.len());
            if let Some(due) = net.proxy.next_due() {
                proptest::prop_assert!(due > net.now);
            }
        }
    }
}
