//! The feed of changes: who gets what, what a slow subscriber loses, and how a removal is seen
//! without a queue.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod world;

use nat64::event::{Change, Event, EventKind, SessionEntry, SessionHandle};
use nat64::feed::Subscribe;
use nat64::{Subscription, TcpState};
use world::{ACK, FIN, SYN, World};
use xlat_core::Instant;

const CLIENT: &str = "[2001:db8::7]:5000";
const SERVER: &str = "198.51.100.7:53";
const OTHER: &str = "198.51.100.8:53";

const SESSIONS: Subscribe = Subscribe {
    sessions: true,
    ..Subscribe::NONE
};

fn drain(subscription: &Subscription) -> (Vec<EventKind>, u64) {
    let mut events: Vec<Event> = Vec::new();
    let lost = subscription.drain(&mut events);
    (events.into_iter().map(|event| event.kind).collect(), lost)
}

fn sessions(subscription: &Subscription) -> Vec<Change<SessionEntry>> {
    let (events, lost) = drain(subscription);
    assert_eq!(lost, 0);
    let session = |event| match event {
        EventKind::Session(change) => change,
        other => panic!("not a session: {other:?}"),
    };
    events.into_iter().map(session).collect()
}

fn only_handle(subscription: &Subscription) -> SessionHandle {
    let [change] = sessions(subscription)[..] else {
        panic!("not one change");
    };
    change.entry().handle
}

#[test]
fn a_subscriber_gets_the_kinds_that_it_asked_for_and_no_others() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bindings = world.nat.subscribe(Subscribe {
        bindings: true,
        ..Subscribe::NONE
    });
    let both = world.nat.subscribe(Subscribe {
        bindings: true,
        ..SESSIONS
    });
    let none = world.nat.subscribe(Subscribe::NONE);
    world.udp_out(CLIENT, SERVER).unwrap();
    world.udp_out(CLIENT, OTHER).unwrap();
    let kinds = |subscription| {
        let (events, _) = drain(subscription);
        let numbers = events.iter().filter_map(EventKind::nat_event);
        numbers.collect::<Vec<u8>>()
    };
    assert_eq!(kinds(&bindings), [10]);
    assert_eq!(kinds(&both), [10, 6, 6]);
    assert_eq!(kinds(&none), []);
    both.change(Subscribe::NONE);
    world.wait(302);
    world.expire();
    assert_eq!(kinds(&both), []);
    assert_eq!(kinds(&bindings), [11]);
}

#[test]
fn cg_13_a_full_queue_loses_events_and_counts_them() {
    let mut world = World::with_pool("192.0.2.0/28");
    let slow = world.nat.subscribe(Subscribe {
        capacity: 2,
        ..SESSIONS
    });
    let quick = world.nat.subscribe(SESSIONS);
    for port in 1..=5 {
        let server = format!("198.51.100.7:{port}");
        world.udp_out(CLIENT, &server).unwrap();
        assert_eq!(sessions(&quick).len(), 1);
    }
    let (events, lost) = drain(&slow);
    assert_eq!((events.len(), lost), (2, 3));
    assert_eq!(drain(&slow), (vec![], 0), "told once");
    world.udp_out(CLIENT, OTHER).unwrap();
    assert_eq!(sessions(&slow).len(), 1, "there is room again");
}

#[test]
fn a_subscription_ends_when_it_is_dropped() {
    let mut world = World::with_pool("192.0.2.0/28");
    let first = world.nat.subscribe(SESSIONS);
    let second = world.nat.subscribe(SESSIONS);
    drop(first);
    world.udp_out(CLIENT, SERVER).unwrap();
    assert_eq!(sessions(&second).len(), 1);
    drop(second);
    // With nothing to fetch the table has only the session's own end to wait for.
    world.udp_out(CLIENT, OTHER).unwrap();
    assert!(world.nat.rest(world.now).unwrap().as_secs() > 1);
}

#[test]
fn an_update_is_another_tcp_state_and_not_another_packet() {
    let mut world = World::with_pool("192.0.2.0/28");
    let updates = world.nat.subscribe(Subscribe {
        updates: true,
        ..SESSIONS
    });
    let outside = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    world.tcp_in(SYN | ACK, SERVER, outside).unwrap();
    for _ in 0..3 {
        world.wait(1);
        world.tcp_out(ACK, CLIENT, SERVER).unwrap();
    }
    world.tcp_out(FIN | ACK, CLIENT, SERVER).unwrap();
    world.tcp_in(FIN | ACK, SERVER, outside).unwrap();
    let changes = sessions(&updates);
    let states: Vec<_> = changes.iter().map(|change| change.entry().tcp).collect();
    let expected = [
        TcpState::V6Init,
        TcpState::Established,
        TcpState::V6Fin,
        TcpState::V4V6Fin,
    ];
    assert_eq!(states, expected.map(Some));
    assert!(matches!(changes[0], Change::Created(_)));
    assert!(
        changes[1..]
            .iter()
            .all(|change| matches!(change, Change::Updated(_)))
    );
    let handles = changes.iter().map(|change| change.entry().handle);
    assert!(
        handles
            .into_iter()
            .all(|handle| handle == changes[0].entry().handle)
    );
}

#[test]
fn a_session_says_where_it_is_translated_to_and_until_when() {
    let mut world = World::with_pool("192.0.2.0/28");
    let feed = world.nat.subscribe(SESSIONS);
    let outside = world.udp_out(CLIENT, SERVER).unwrap();
    let [Change::Created(entry)] = sessions(&feed)[..] else {
        panic!("not one new session");
    };
    let binding = entry.record.binding;
    assert_eq!(
        (binding.external, binding.external_port),
        (*outside.ip(), outside.port())
    );
    assert_eq!(entry.record.remote.to_string(), "198.51.100.7");
    assert_eq!(
        (entry.record.remote_port, entry.pref64, entry.tcp),
        (53, 0, None)
    );
    let life = entry.expires.as_nanos() - world.now.as_nanos();
    assert!((300_000_000_000..301_000_000_000).contains(&life), "{life}");
}

#[test]
fn a_handle_is_stale_as_soon_as_its_session_is_gone_and_stays_so() {
    let mut world = World::with_pool("192.0.2.0/28");
    let feed = world.nat.subscribe(SESSIONS);
    assert!(!world.nat.is_current(SessionHandle::default()));
    world.udp_out(CLIENT, SERVER).unwrap();
    let old = only_handle(&feed);
    assert!(world.nat.is_current(old));
    world.wait(302);
    world.expire();
    assert!(
        !world.nat.is_current(old),
        "removed, and no queue was drained"
    );
    assert_eq!(only_handle(&feed), old);

    // The same tuple in the same slot is another session.
    world.udp_out(CLIENT, SERVER).unwrap();
    let new = only_handle(&feed);
    assert!(world.nat.is_current(new));
    assert!(!world.nat.is_current(old));
    assert_ne!(old, new);
}

#[test]
fn handles_are_right_in_any_order_of_life_and_death() {
    // A model beside the table: which handles were created and not removed.
    let mut world = World::with_pool("192.0.2.0/28");
    let feed = world.nat.subscribe(SESSIONS);
    let (mut live, mut gone) = (Vec::new(), Vec::new());
    for round in 0_u16..300 {
        let client = format!("[2001:db8::{:x}]:{}", round % 7, 1000 + round % 13);
        world.udp_out(&client, SERVER).unwrap();
        world.wait(u64::from(round * 31 % 90));
        world.expire();
        for change in sessions(&feed) {
            match change {
                Change::Created(entry) => live.push(entry.handle),
                Change::Removed(entry) => {
                    live.retain(|handle| *handle != entry.handle);
                    gone.push(entry.handle);
                }
                Change::Updated(_) => unreachable!("UDP has no states"),
            }
        }
        assert!(live.iter().all(|handle| world.nat.is_current(*handle)));
        assert!(!gone.iter().any(|handle| world.nat.is_current(*handle)));
    }
    assert!(gone.len() > 100, "{}", gone.len());
    assert!(world.now > Instant::from_secs(1000));
}
