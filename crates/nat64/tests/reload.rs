//! Another configuration while sessions run.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use nat64::config::{Config, Destination, StaticBinding};
use nat64::{Protocol, ReloadError};
use xlat_core::DropReason;
use xlat_core::mapper::Unreachable;

mod world;
use world::{ACK, RST, SYN, World, answer, config, sock4, sock6};

const CLIENT: &str = "[2001:db8::7]:5000";
const SERVER: &str = "198.51.100.7:443";

fn forward(external_port: u16, client: &str) -> StaticBinding {
    StaticBinding {
        protocol: Protocol::Tcp,
        external: "192.0.2.1".parse().unwrap(),
        external_port,
        client: client.parse().unwrap(),
        client_port: 8443,
    }
}

fn with(shards: u32, bindings: &[StaticBinding]) -> Config {
    let mut config = config("192.0.2.0/28");
    config.shards = shards;
    config.bindings = bindings.to_vec();
    config
}

fn reload(world: &mut World, config: Config) -> Result<(), ReloadError> {
    let view = world.nat.reconfigure(config, world.now)?;
    world.worker.adopt(view);
    Ok(())
}

#[test]
fn the_table_shows_the_configuration_in_force_and_new_workers_go_by_it() {
    let mut world = World::new(with(1, &[]));
    let held = world.nat.clone();
    let forward = forward(443, "2001:db8::10");
    let refused = reload(&mut world, config("192.0.2.64/28"));
    assert_eq!(refused, Err(ReloadError::Fixed("pool")));
    assert_eq!(held.config().bindings, []);

    let outside = sock4("192.0.2.1:443");
    reload(&mut world, with(1, &[forward])).unwrap();
    assert_eq!(held.config().bindings, [forward]);
    world.worker = held.worker();
    let inside = Ok(sock6("[2001:db8::10]:8443"));
    assert_eq!(world.tcp_in(SYN, SERVER, outside), inside);
}

#[test]
fn port_forwards_come_move_and_go() {
    for shards in [1, 4] {
        let mut world = World::new(with(shards, &[]));
        let free = world.counts().free_ports;
        let (outside, one) = (sock4("192.0.2.1:443"), "2001:db8::10");
        assert!(world.tcp_in(SYN, SERVER, outside).is_err());
        let established = world.tcp_out(SYN, CLIENT, SERVER).unwrap();

        reload(&mut world, with(shards, &[forward(443, one)])).unwrap();
        let inside = Ok(sock6("[2001:db8::10]:8443"));
        assert_eq!(world.tcp_in(SYN, SERVER, outside), inside);

        let other = "2001:db8::11";
        reload(&mut world, with(shards, &[forward(443, other)])).unwrap();
        let inside = Ok(sock6("[2001:db8::11]:8443"));
        assert_eq!(world.tcp_in(SYN, SERVER, outside), inside);
        assert_eq!(world.tcp_in(ACK, SERVER, established), Ok(sock6(CLIENT)));

        reload(&mut world, with(shards, &[])).unwrap();
        assert!(world.tcp_in(SYN, SERVER, outside).is_err());
        assert_eq!(world.counts().sessions, [0, 1, 0]);
        assert_eq!(world.counts().bindings, 1);
        world.tcp_out(RST, CLIENT, SERVER).unwrap();
        world.wait(10_000);
        world.expire();
        assert_eq!(world.counts().free_ports, free, "{shards} shards");
    }
}

#[test]
fn a_port_that_somebody_has_is_not_taken_away_and_nothing_else_changes() {
    let mut world = World::new(with(1, &[]));
    let bound = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    let free = world.counts().free_ports;
    let taken = StaticBinding {
        external: *bound.ip(),
        ..forward(bound.port(), "2001:db8::10")
    };
    let wanted = [forward(443, "2001:db8::10"), taken];
    let mut config = with(
        1,
        &[
            wanted[0],
            StaticBinding {
                client_port: 1,
                ..taken
            },
        ],
    );
    config.timers.udp = Duration::from_secs(1000);
    let error = reload(&mut world, config).unwrap_err();
    assert!(matches!(error, ReloadError::Taken(_)), "{error}");
    assert_eq!(world.counts().free_ports, free);
    assert!(world.tcp_in(SYN, SERVER, sock4("192.0.2.1:443")).is_err());
    assert_eq!(world.tcp_in(SYN | ACK, SERVER, bound), Ok(sock6(CLIENT)));
    world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(301);
    world.expire();
    assert_eq!(world.counts().sessions[Protocol::Udp as usize], 0);
}

#[test]
fn what_sessions_hang_on_takes_a_restart() {
    let changes: [fn(&mut Config); 5] = [
        |config| config.pool.push("192.0.2.64/28".parse().unwrap()),
        |config| config.shards = 2,
        |config| config.limits.sessions += 1,
        |config| config.limits.subscriber_prefix = 64,
        |config| config.timers.fragment = Duration::from_secs(3),
    ];
    let mut world = World::new(with(1, &[]));
    for change in changes {
        let mut config = with(1, &[]);
        change(&mut config);
        let error = reload(&mut world, config).unwrap_err();
        assert!(matches!(error, ReloadError::Fixed(_)), "{error}");
    }
    let mut senseless = with(1, &[]);
    senseless.timers.udp = Duration::from_secs(1);
    let error = reload(&mut world, senseless).unwrap_err();
    assert!(matches!(error, ReloadError::Config(_)), "{error}");
}

#[test]
fn limits_times_clients_and_denials_hold_from_now_on() {
    let mut world = World::new(with(1, &[]));
    let first = world.udp_out(CLIENT, SERVER).unwrap();
    let mut config = with(1, &[]);
    config.timers.udp = Duration::from_secs(1000);
    config.limits.subscriber_ports = 1;
    config.clients = vec!["2001:db8::/64".parse().unwrap()];
    config.denied = vec![Destination {
        prefix: "203.0.113.0/24".parse().unwrap(),
        ports: None,
    }];
    reload(&mut world, config).unwrap();
    assert_eq!(world.udp_out(CLIENT, SERVER), Ok(first));
    assert!(world.udp_out("[2001:db8::7]:5001", SERVER).is_err());
    assert!(world.udp_out("[2001:db8:1::7]:5000", SERVER).is_err());
    let denied = world.udp_out(CLIENT, "203.0.113.1:53");
    assert_eq!(denied, answer(DropReason::Denied, Unreachable::Prohibited));
    world.wait(900);
    world.expire();
    assert_eq!(world.udp_in(SERVER, first), Ok(sock6(CLIENT)));
}

#[test]
fn a_busy_port_forward_goes_with_all_its_sessions_and_its_place_is_taken_at_once() {
    let one = forward(443, "2001:db8::10");
    let mut world = World::new(with(1, &[one]));
    let free = world.counts().free_ports;
    let outside = sock4("192.0.2.1:443");
    // More than a worker waits for at a time, among sessions of others.
    for port in 1..=10_000 {
        let stranger = format!("198.51.100.7:{port}");
        assert!(world.tcp_in(SYN, &stranger, outside).is_ok());
    }
    let own = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    // Another external port for the same server, and another server for the same port.
    let (same_inside, same_outside) = (forward(444, "2001:db8::10"), forward(443, "2001:db8::11"));
    reload(&mut world, with(1, &[same_inside, same_outside])).unwrap();
    assert_eq!(world.counts().sessions, [0, 1, 0]);
    assert_eq!(world.counts().bindings, 3);
    let inside = |client: &str| Ok(sock6(&format!("[{client}]:8443")));
    assert_eq!(world.tcp_in(SYN, SERVER, outside), inside("2001:db8::11"));
    let moved = sock4("192.0.2.1:444");
    assert_eq!(world.tcp_in(SYN, SERVER, moved), inside("2001:db8::10"));
    assert_eq!(world.tcp_in(ACK, SERVER, own), Ok(sock6(CLIENT)));

    reload(&mut world, with(1, &[])).unwrap();
    assert_eq!(
        (world.counts().sessions, world.counts().bindings),
        ([0, 1, 0], 1)
    );
    assert!(world.tcp_in(SYN, SERVER, outside).is_err());
    world.wait(10_000);
    world.expire();
    // Port 443 was set aside when the pool was made, and is the pool's own now.
    assert_eq!(world.counts().free_ports[1], free[1] + 1);
}

#[test]
fn a_client_in_the_way_of_a_port_forward_keeps_its_binding() {
    let mut world = World::new(with(1, &[]));
    let free = world.counts().free_ports;
    let own = world.tcp_out(SYN, "[2001:db8::10]:8443", SERVER).unwrap();
    let wanted = [forward(444, "2001:db8::12"), forward(443, "2001:db8::10")];
    let error = reload(&mut world, with(1, &wanted)).unwrap_err();
    assert_eq!(error, ReloadError::Taken(wanted[1]));
    assert_eq!(world.counts().bindings, 1);
    assert!(world.tcp_in(SYN, SERVER, sock4("192.0.2.1:444")).is_err());
    assert_eq!(
        world.tcp_in(SYN | ACK, SERVER, own),
        Ok(sock6("[2001:db8::10]:8443"))
    );
    world.wait(10_000);
    world.expire();
    assert_eq!(world.counts().free_ports, free);
}
