use std::time::Duration;

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::Instant;
use xlat_core::mapper::Rewrite;

use super::*;

#[test]
fn what_came_early_is_given_back_when_the_first_fragment_has_come() {
    let mut fragments = fragments();
    assert_eq!(hold(&mut fragments, key(1, 7), 2, b"third"), Held::Kept);
    assert_eq!(hold(&mut fragments, key(1, 7), 1, b"second"), Held::Kept);
    assert_eq!(hold(&mut fragments, key(1, 8), 1, b"other"), Held::Kept);
    let (decision, held) = decide(&mut fragments, key(1, 7)).unwrap();
    assert_eq!(decision, DECISION);
    assert_eq!(
        held,
        [b"third".as_slice().into(), b"second".as_slice().into()]
    );
    let known = fragments.piece(&key(1, 7), piece(1), at(0));
    assert_eq!(known, Some(DECISION));
    assert_eq!(fragments.piece(&key(1, 8), piece(1), at(0)), None);
}

#[test]
fn a_datagram_gives_its_place_back_when_all_of_it_has_passed() {
    let mut fragments = fragments();
    for id in 0..100_000 {
        decide(&mut fragments, key(1, id)).unwrap();
        assert_eq!(fragments.piece(&key(1, id), last(2), at(0)), Some(DECISION));
        assert_eq!(
            fragments.piece(&key(1, id), piece(1), at(0)),
            Some(DECISION)
        );
        assert_eq!(fragments.piece(&key(1, id), piece(1), at(0)), None);
    }
    // In any order, what was held first counts when it passes.
    for id in 0..100_000 {
        hold_piece(&mut fragments, key(1, id), last(2), b"third");
        hold_piece(&mut fragments, key(1, id), piece(1), b"second");
        assert_eq!(decide(&mut fragments, key(1, id)).unwrap().1.len(), 2);
        for rest in [last(2), piece(1)] {
            assert_eq!(fragments.piece(&key(1, id), rest, at(0)), Some(DECISION));
        }
    }
    assert!(fragments.ends.len() < 100, "{}", fragments.ends.len());
    assert_empty(&mut fragments);
}

#[test]
fn a_first_fragment_that_is_all_of_it_takes_no_place() {
    let mut fragments = fragments();
    let whole = fragments.decide(key(1, 7), last(0), DECISION, at(0));
    assert_eq!(whole, Ok((DECISION, Vec::new())));
    assert!(fragments.datagrams.is_empty());
    assert_empty(&mut fragments);
}

#[test]
fn nf_05_a_message_is_whole_when_no_piece_is_missing() {
    let mut fragments = fragments();
    let mut gather = |piece, packet: &[u8]| {
        let held = fragments.hold(key(1, 7), piece, true, packet, at(0));
        (held, fragments.waiting[1].used().0)
    };
    assert_eq!(gather(last(2), b"last").0, Held::Kept);
    assert_eq!(gather(piece(0), b"first").0, Held::Kept);
    let before = gather(piece(0), b"again");
    assert_eq!(before.0, Held::Kept);
    let (Held::Whole(held), used) = gather(piece(1), b"middle") else {
        panic!("nothing is missing");
    };
    assert_eq!((held.len(), used), (3, 0));
    assert!(before.1 > 0);
    assert_empty(&mut fragments);
}

#[test]
fn nf_05_a_piece_behind_the_end_does_not_stand_for_a_missing_one() {
    let mut fragments = fragments();
    for (piece, expected) in [
        (piece(0), Held::Kept),
        (last(2), Held::Kept),
        (piece(3), Held::Refused(DropReason::FragmentRefused)),
        (piece(1), Held::Refused(DropReason::FragmentRefused)),
    ] {
        let held = fragments.hold(key(1, 7), piece, true, b"x", at(0));
        assert_eq!(held, expected, "{piece:?}");
    }
    assert_eq!(fragments.take_gone(at(0)).refused, 2);
}

#[test]
fn nf_02_a_datagram_has_its_time_and_no_more() {
    let mut fragments = fragments();
    decide(&mut fragments, key(1, 7)).unwrap();
    let known = fragments.piece(&key(1, 7), piece(1), at(2));
    assert_eq!(known, Some(DECISION));
    assert_eq!(fragments.piece(&key(1, 7), piece(2), at(3)), None);
    assert_empty(&mut fragments);
}

#[test]
fn se_13_what_waits_in_vain_is_counted_and_first_fragments_are_given_back() {
    let mut fragments = fragments();
    hold_piece(&mut fragments, key(1, 7), piece(1), b"of nobody");
    let first = fragments.hold(key(1, 8), piece(0), true, b"first", at(0));
    assert_eq!(first, Held::Kept);
    assert!(fragments.next_end().unwrap() <= at(3));
    assert_eq!(fragments.take_gone(at(1)).late, 0);
    let gone = fragments.take_gone(at(3));
    assert_eq!(gone.firsts, [b"first".as_slice().into()]);
    assert_eq!((gone.late, gone.refused), (1, 0));
    assert_eq!(fragments.next_end(), None);
    assert_empty(&mut fragments);
}

#[test]
fn nf_02_se_14_a_flood_stays_within_its_share() {
    let mut fragments = fragments();
    let packet = [0; 1400];
    let flood = |fragments: &mut Fragments, source: u32| {
        let kept = |id: &u32| hold(fragments, key(source, *id), 1, &packet) == Held::Kept;
        (0..100_000).take_while(kept).count()
    };
    let cost = 1400 + DATAGRAM + PIECE + PACKET;
    let share = MEMORY / BUDGETS / budget::SHARE;
    let held = flood(&mut fragments, 1);
    assert!((held + 1) * cost > share && held * cost <= share, "{held}");
    assert!(flood(&mut fragments, 2) > 0);
    // Sources without end fill what waits, and nothing else.
    for source in 3..10_000 {
        hold(&mut fragments, key(source, 1), 1, &packet);
    }
    assert!(fragments.waiting[1].used().0 <= MEMORY / BUDGETS);
    let decided = (0..100_000).filter(|&id| decide(&mut fragments, key(3, id)).is_ok());
    let decided = decided.count();
    assert_eq!(decided, share / (DATAGRAM + PIECE));
    decide(&mut fragments, key(4, 1)).unwrap();
    let v6 = |id| DatagramKey::v6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, id, UDP);
    assert_eq!(hold(&mut fragments, v6(1), 1, &packet), Held::Kept);
    decide(&mut fragments, v6(2)).unwrap();
    fragments.expire(at(3));
    assert_empty(&mut fragments);
}

#[test]
fn se_14_addresses_of_one_subscriber_share() {
    let mut fragments = fragments_by(64);
    let kept = (0..10_000).filter(|&low| hold_v6(&mut fragments, low, 7));
    assert!(kept.count() * 1400 <= MEMORY / BUDGETS / budget::SHARE);
    fragments.expire(at(3));
    assert_empty(&mut fragments);
}

/// A link is one /64, and one of its hosts does not use up what all of them have.
#[test]
fn fp_05_se_14_addresses_of_one_64_have_their_own_share_and_half_together() {
    let budget = MEMORY / BUDGETS;
    let mut fragments = fragments();
    let own = (0..10_000)
        .filter(|&id| hold_v6(&mut fragments, 1, id))
        .count();
    assert!(own > 0 && own * 1400 <= budget / budget::SHARE);
    assert!(hold_v6(&mut fragments, 2, 1));
    let others = (3..10_000)
        .filter(|&low| hold_v6(&mut fragments, low, 7))
        .count();
    let all = (own + 1 + others) * (1400 + DATAGRAM + PIECE + PACKET);
    assert!(
        all <= budget / 2 && all > budget / 2 - budget / 10,
        "{all} of {budget}"
    );
    // Another network has room beside them.
    assert!(hold_v6(&mut fragments, 1 << 64, 1));
    fragments.expire(at(3));
    assert_empty(&mut fragments);
}

/// True if there is room for a piece from 2001:db8:: and this offset.
fn hold_v6(fragments: &mut Fragments, low: u128, id: u32) -> bool {
    let src = Ipv6Addr::from_bits((0x2001_0db8 << 96) + low);
    let key = DatagramKey::v6(src, Ipv6Addr::LOCALHOST, id, UDP);
    hold(fragments, key, 1, &[0; 1400]) == Held::Kept
}

#[test]
fn a_first_fragment_without_room_takes_the_others_along() {
    let mut fragments = fragments();
    let full = (0..).find(|&id| decide(&mut fragments, key(1, id)).is_err());
    let full = full.unwrap();
    let known = fragments.piece(&key(1, full), piece(1), at(0));
    assert_eq!(known, Some(Decision::Refused));
}

#[test]
fn se_14_a_refused_datagram_holds_nothing_and_keeps_its_place() {
    let mut fragments = fragments();
    let places = (0..100_000).filter(|&id| {
        let held = hold(&mut fragments, key(1, id), 1, b"second");
        fragments.refuse(&key(1, id), at(0));
        held == Held::Kept
    });
    let places = places.count();
    let most = MEMORY / BUDGETS / budget::SHARE / DATAGRAM;
    assert!((most - 2..=most).contains(&places), "{places} of {most}");
    let known = fragments.piece(&key(1, 0), piece(1), at(0));
    assert_eq!(known, Some(Decision::Refused));
    assert_eq!(fragments.take_gone(at(0)).refused, places as u64);
    fragments.expire(at(10));
    assert_empty(&mut fragments);
}

#[test]
fn se_11_pieces_that_overlap_end_the_datagram_and_repetitions_do_not() {
    let piece = |start, end| Piece {
        start,
        end,
        is_last: false,
    };
    for (other, is_fine) in [
        (piece(16, 32), true),
        (piece(32, 48), true),
        (piece(0, 16), true),
        (piece(8, 24), false),
        (piece(24, 32), false),
        (piece(16, 24), false),
        (piece(16, 40), false),
        (piece(0, 48), false),
        (piece(31, 33), false),
    ] {
        let mut fragments = fragments();
        decide(&mut fragments, key(1, 7)).unwrap();
        let known = fragments.piece(&key(1, 7), piece(16, 32), at(0));
        assert_eq!(known, Some(DECISION));
        let then = fragments.piece(&key(1, 7), other, at(0));
        let expected = if is_fine { DECISION } else { Decision::Refused };
        assert_eq!(then, Some(expected), "{other:?}");
        let later = fragments.piece(&key(1, 7), piece(48, 64), at(0));
        assert_eq!(later, Some(expected), "{other:?}");
    }
}

#[test]
fn another_worker_may_have_decided_a_moment_ago() {
    let mut fragments = fragments();
    decide(&mut fragments, key(1, 7)).unwrap();
    let later = Decision::ToV4(Rewrite {
        fragment_id: Some(78),
        ..REWRITE
    });
    let (decision, held) = fragments.decide(key(1, 7), piece(0), later, at(0)).unwrap();
    assert_eq!((decision, held.len()), (DECISION, 0));
    assert_eq!(hold(&mut fragments, key(1, 7), 1, b"x"), Held::Ready);
}

const UDP: IpNextHeaderProtocol = IpNextHeaderProtocols::Udp;

const MEMORY: usize = 4 << 20;

const REWRITE: Rewrite<Ipv4Addr> = Rewrite {
    fragment_id: Some(77),
    ..Rewrite::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7))
};

const DECISION: Decision = Decision::ToV4(REWRITE);

/// The piece with this number; all have 16 bytes.
fn piece(number: u32) -> Piece {
    Piece {
        start: 16 * number,
        end: 16 * (number + 1),
        is_last: false,
    }
}

fn last(number: u32) -> Piece {
    Piece {
        is_last: true,
        ..piece(number)
    }
}

fn decide(fragments: &mut Fragments, key: DatagramKey) -> Result<(Decision, Packets), DropReason> {
    fragments.decide(key, piece(0), DECISION, at(0))
}

fn hold(fragments: &mut Fragments, key: DatagramKey, number: u32, packet: &[u8]) -> Held {
    fragments.hold(key, piece(number), false, packet, at(0))
}

fn hold_piece(fragments: &mut Fragments, key: DatagramKey, piece: Piece, packet: &[u8]) {
    assert_eq!(fragments.hold(key, piece, false, packet, at(0)), Held::Kept);
}

fn assert_empty(fragments: &mut Fragments) {
    fragments.expire(at(10_000));
    assert!(fragments.datagrams.is_empty() && fragments.ends.is_empty());
    let budgets = fragments.waiting.iter().chain(&fragments.decided);
    assert!(budgets.map(Budget::used).all(|used| used == (0, 0)));
}

fn fragments() -> Fragments {
    fragments_by(128)
}

/// With sources of so many bits.
fn fragments_by(source_prefix: u8) -> Fragments {
    let bounds = Bounds {
        life: Ticks::covering(Duration::from_secs(2)),
        memory: MEMORY,
        source_prefix,
    };
    Fragments::new(bounds, SipKey::new([1, 2]))
}

fn key(source: u32, id: u32) -> DatagramKey {
    let (src, dst) = (Ipv4Addr::from_bits(source), Ipv4Addr::LOCALHOST);
    DatagramKey::v4(src, dst, id, UDP)
}

fn at(secs: u64) -> Tick {
    Tick::at(Instant::from_secs(secs))
}
