use super::*;
use crate::nft::Table;

fn entries(journal: &Journal) -> Vec<Undo> {
    journal.entries().cloned().collect()
}

fn sysctl(key: &str) -> Undo {
    Undo::Sysctl {
        key: match key {
            "a" | "b" | "c" | "d" | "x" => format!("net.{key}"),
            whole => whole.into(),
        },
        ours: "1".into(),
        was: "0".into(),
    }
}

#[test]
fn what_a_killed_process_recorded_is_there_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    journal.record(sysctl("a")).unwrap();
    journal.record(sysctl("b")).unwrap();
    assert!(matches!(
        Journal::open(dir.path(), "clat"),
        Err(Error::Running(_))
    ));
    drop(journal);

    let mut left = Journal::open(dir.path(), "clat").unwrap();
    assert_eq!(entries(&left), [sysctl("a"), sysctl("b")]);
    left.clear().unwrap();
    left.remove().unwrap();
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn what_was_taken_back_meanwhile_is_not_there_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    for key in ["a", "b", "c"] {
        journal.record(sysctl(key)).unwrap();
    }
    journal.forget(&sysctl("b")).unwrap();
    journal.record(sysctl("b")).unwrap();
    journal.forget(&sysctl("a")).unwrap();
    journal.forget(&sysctl("x")).unwrap();
    assert_eq!(entries(&journal), [sysctl("c"), sysctl("b")]);
    drop(journal);
    let left = Journal::open(dir.path(), "clat").unwrap();
    assert_eq!(entries(&left), [sysctl("c"), sysctl("b")]);
}

/// One of each; a new one does not compile until it is here.
fn each() -> Vec<Undo> {
    let (dev, address) = ("eth0".to_owned(), IpAddr::from([192, 0, 2, 1]));
    let first = sysctl("net.ipv4.ip_forward");
    let mut all = vec![first];
    while let Some(last) = all.last() {
        all.push(match last {
            Undo::Sysctl { .. } => Undo::Address(Address {
                dev: dev.clone(),
                address,
                len: 24,
            }),
            Undo::Address(_) => Undo::Route(Route::new(address, 32, &*dev).metric(7).mtu(1400)),
            Undo::Route(_) => Undo::Rule(PolicyRule {
                priority: 64,
                from: Some(address),
                to: address,
                len: 24,
                table: 464,
            }),
            Undo::Rule(_) => Undo::Proxy {
                dev: dev.clone(),
                address,
            },
            Undo::Proxy { .. } => {
                Undo::Table(Table::guard("xlat_clat_guard", "eth0", "clat").place())
            }
            Undo::Table(_) => break,
        });
    }
    all
}

#[test]
fn each_change_that_outlives_its_process_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    for undo in each() {
        journal.record(undo).unwrap();
    }
    assert_eq!(entries(&journal), each());
    drop(journal);
    let left = Journal::open(dir.path(), "clat").unwrap();
    let mut expected = each();
    expected.retain(|undo| !undo.ends_with_process());
    assert_eq!(entries(&left), expected);
    assert_eq!(expected.len(), 5);
}

#[test]
fn a_table_among_the_changes_does_not_shift_the_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    let table = Undo::Table(Table::guard("xlat_clat_guard", "eth0", "clat").place());
    for undo in [sysctl("a"), table.clone(), sysctl("b"), sysctl("c")] {
        journal.record(undo).unwrap();
    }
    journal.forget(&sysctl("b")).unwrap();
    journal.forget(&table).unwrap();
    drop(journal);
    let left = Journal::open(dir.path(), "clat").unwrap();
    assert_eq!(entries(&left), [sysctl("a"), sysctl("c")]);
}

#[test]
fn a_journal_of_an_older_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let lines = r#"{"Sysctl":{"key":"net.ipv4.ip_forward","ours":"1","was":"0"}}
{"Address":{"dev":"clat","address":"192.0.0.1","len":32}}
{"Route":{"to":"0.0.0.0","len":0,"dev":"clat","metric":2048,"mtu":1472,"src":"192.0.0.1"}}
{"Proxy":{"dev":"eth0","address":"192.0.2.1"}}
{"done":3}
"#;
    std::fs::write(dir.path().join("clat.journal"), lines).unwrap();
    let journal = Journal::open(dir.path(), "clat").unwrap();
    let route = Route::new([0, 0, 0, 0], 0, "clat").metric(2048).mtu(1472);
    let expected = [
        sysctl("net.ipv4.ip_forward"),
        Undo::Address(Address {
            dev: "clat".into(),
            address: [192, 0, 0, 1].into(),
            len: 32,
        }),
        Undo::Route(route.src([192, 0, 0, 1])),
    ];
    assert_eq!(entries(&journal), expected);
}

#[test]
fn fc_08_a_change_of_an_interface_has_its_number_and_follows_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    journal
        .record(sysctl("net.ipv6.conf.lo.forwarding"))
        .unwrap();
    journal.record(sysctl("net.ipv4.ip_forward")).unwrap();
    drop(journal);
    let path = dir.path().join("clat.journal");
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, second) = text.split_once('\n').unwrap();
    // The loopback interface is number 1 in every network namespace.
    assert!(first.contains(r#""link":1"#), "{first}");
    assert!(!second.contains("link"), "{second}");

    // It had other names when these changes were made.
    let text = r#"{"Sysctl":{"key":"net.ipv6.conf.eth0/5.forwarding","ours":"1","was":"0"},"link":1}
{"Sysctl":{"key":"net.ipv4.ip_forward","ours":"1","was":"0"}}
{"Route":{"to":"::","len":0,"dev":"lan","metric":null,"mtu":null,"src":null},"link":1}
{"Proxy":{"dev":"wan","address":"192.0.2.1"},"link":4000000}
"#;
    std::fs::write(&path, text).unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    let renamed = journal.follow_renames();
    let to_lo = |old: &str| Renamed {
        old: old.into(),
        new: "lo".into(),
    };
    assert_eq!(renamed, [to_lo("eth0.5"), to_lo("lan")]);
    let expected = [
        sysctl("net.ipv6.conf.lo.forwarding"),
        sysctl("net.ipv4.ip_forward"),
        Undo::Route(Route::new(std::net::Ipv6Addr::UNSPECIFIED, 0, "lo")),
        Undo::Proxy {
            dev: "wan".into(),
            address: [192, 0, 2, 1].into(),
        },
    ];
    assert_eq!(entries(&journal), expected);
    assert!(journal.follow_renames().is_empty());
}

#[test]
fn a_line_cut_off_by_a_crash_is_no_entry_and_the_next_line_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let line = serde_json::to_string(&sysctl("a")).unwrap();
    std::fs::write(dir.path().join("clat.journal"), format!("{line}\n{{\"Sysc")).unwrap();
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    assert_eq!(entries(&journal), [sysctl("a")]);
    assert_eq!(journal.damaged().len(), 1);
    journal.record(sysctl("b")).unwrap();
    journal.forget(&sysctl("a")).unwrap();
    drop(journal);
    let left = Journal::open(dir.path(), "clat").unwrap();
    assert_eq!(entries(&left), [sysctl("b")]);
}

#[test]
fn fp_14_lines_that_are_whole_are_believed_and_the_others_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clat.journal");
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    for key in ["a", "b", "c"] {
        journal.record(sysctl(key)).unwrap();
    }
    journal.forget(&sysctl("c")).unwrap();
    drop(journal);
    // Still valid JSON with another key: only the checksum tells. And bytes that are no text.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|six| six == b"net.b\"").unwrap();
    bytes[at + 4] = b'x';
    bytes.extend([0xff, 0xfe, b'\n']);
    std::fs::write(&path, &bytes).unwrap();
    let left = Journal::open(dir.path(), "clat").unwrap();
    assert_eq!(entries(&left), [sysctl("a")]);
    let [first, second] = left.damaged() else {
        panic!("{:?}", left.damaged());
    };
    assert!(first.starts_with("line 2: ") && second.starts_with("line 5: "));
    let copy = std::fs::read(dir.path().join("clat.journal.damaged"));
    assert_eq!(copy.unwrap(), bytes);
}

/// A journal that another program has written: its lines are whole, and what they say is not.
#[test]
fn se_28_a_forged_line_is_not_believed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (there, true_one) = (IpAddr::from([192, 0, 2, 1]), sysctl("net.ipv4.ip_forward"));
    let route = |len, dev: &str| Undo::Route(Route::new(there, len, dev));
    let forged = [
        sysctl("//.//.tmp.x"),
        sysctl("net.//.kernel.core_pattern"),
        sysctl("kernel.modprobe"),
        sysctl("net.ipv6.conf.eth0\u{1b}[2J.forwarding"),
        Undo::Sysctl {
            key: "net.ipv4.ip_forward".into(),
            ours: "1".into(),
            was: "0\n1".into(),
        },
        route(33, "eth0"),
        route(32, "../eth0"),
        Undo::Proxy {
            dev: "a name that is too long".into(),
            address: there,
        },
    ];
    let all = forged.iter().chain([&true_one]).cloned();
    let change = |undo| Line::Change { undo, link: None };
    let old: Vec<String> = all
        .clone()
        .map(|undo| serde_json::to_string(&change(undo)).unwrap())
        .collect();
    let new = all
        .enumerate()
        .map(|(number, undo)| line::format(number, &change(undo)).unwrap());
    for text in [old.join("\n"), new.collect()] {
        std::fs::write(dir.path().join("clat.journal"), &text).unwrap();
        let journal = Journal::open(dir.path(), "clat").unwrap();
        assert_eq!(entries(&journal), std::slice::from_ref(&true_one), "{text}");
        assert_eq!(journal.damaged().len(), forged.len(), "{text}");
    }
}

#[test]
fn se_28_a_journal_that_others_could_have_put_there_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("clat.journal"), dir.path().join("other"));
    std::fs::write(&other, "").unwrap();
    let refused = || Journal::open(dir.path(), "clat").unwrap_err().to_string();
    symlink(&other, &path).unwrap();
    assert!(refused().contains("it is a symbolic link"), "{}", refused());
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&other, &path).unwrap();
    assert!(refused().contains("hard link"), "{}", refused());
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    assert!(refused().contains("no regular file"), "{}", refused());
    std::fs::remove_file(&path).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert!(refused().contains("chmod go-w"), "{}", refused());
    assert_eq!(std::fs::read(&other).unwrap(), b"");
}

/// Random numbers enough to damage files: xorshift.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[test]
fn fp_14_of_two_thousand_damaged_journals_nothing_altered_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clat.journal");
    let keys = ["a", "b", "c", "d"];
    let mut journal = Journal::open(dir.path(), "clat").unwrap();
    for key in keys {
        journal.record(sysctl(key)).unwrap();
    }
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    let mut state = 0x5eed;
    for round in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(&mut state) % 4 {
            let (at, value) = (random(&mut state) % bytes.len(), random(&mut state) as u8);
            match random(&mut state) % 5 {
                0 => bytes[at] ^= 1 << (value % 8),
                1 => bytes[at] = value,
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, value),
                _ => bytes.extend_from_within(at..),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let journal = Journal::open(dir.path(), "clat").unwrap();
        let mut keys = keys.iter();
        for entry in journal.entries() {
            // Each is one of the real ones, in their order and none twice.
            assert!(keys.any(|key| sysctl(key) == *entry), "{round}: {entry}");
        }
    }
}
