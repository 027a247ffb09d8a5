//! The restart soak: state files damaged at random. Every start succeeds, and nothing altered is
//! taken up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::Path;

use nat64::config::Config;
use nat64::dynamic::PoolConfig;
use nat64_host::{Keeper, Leases, SessionFilter, SessionList};
use tempfile::TempDir;
use xlat_core::addr::Pref64s;
use xlat_host::daemon::state_dir::StateDir;

const FILES: [&str; 3] = ["secret", "dynamic.map", "sessions"];
const ROUNDS: usize = 500;

/// What a start takes up.
#[derive(Debug, PartialEq, Eq)]
struct TakenUp {
    secret: [u64; 2],
    leases: Vec<String>,
    sessions: Vec<String>,
}

fn keeper(dir: &Path) -> Keeper {
    let pref64s = Pref64s::new(["2001:db8:64::/96".parse().unwrap()], true);
    let config = Config::new(vec!["192.0.2.1".parse().unwrap()]);
    Keeper::load(config, pref64s, StateDir::open(dir).unwrap(), None, None)
        .expect("a start succeeds")
}

fn leases(dir: &Path) -> Leases {
    let config = PoolConfig::new("192.168.64.0/24".parse().unwrap());
    Leases::load(config, StateDir::open(dir).unwrap()).expect("a start succeeds")
}

fn start(dir: &Path) -> TakenUp {
    let (keeper, leases) = (keeper(dir), leases(dir));
    let pool = leases.pool();
    let all = pool.lock().unwrap().snapshot(xlat_tun::now(), now());
    TakenUp {
        secret: StateDir::known_secret(dir).unwrap().expect("a secret"),
        leases: all
            .iter()
            .map(|one| format!("{} {}", one.v4, one.v6))
            .collect(),
        sessions: sessions(&keeper),
    }
}

/// Each session but for the time that is left of it.
fn sessions(keeper: &Keeper) -> Vec<String> {
    let mut list = SessionList::new(SessionFilter::default(), None, true);
    let mut text = String::new();
    while let Some(page) = list.next_page(keeper.nat()).unwrap() {
        text += &page;
    }
    let mut all: Vec<String> = text
        .lines()
        .map(|line| line.split("\"expires").next().unwrap_or(line).to_owned())
        .collect();
    all.sort();
    all
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A directory with a secret, leases and sessions, as a run that ended has left it.
fn state_of_a_run() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (expires, now) = (now() + 3600, now());
    let lines = |line: &dyn Fn(u16) -> String| (1..=9).map(line).collect::<String>();
    let map = lines(&|n| format!("192.168.64.{} 2001:db8::{n} {now}\n", n + 10));
    let sessions = lines(&|n| {
        let port = 2000 + n;
        format!(
            "udp 2001:db8::7 {port} 192.0.2.1 {port} 198.51.100.7 53 2001:db8:64::/96 - {expires}\n"
        )
    });
    // Of version 1: the daemon writes the new version.
    let map = format!("# IPv4 IPv6 last-use (seconds since 1970)\n{map}");
    std::fs::write(dir.path().join("dynamic.map"), map).unwrap();
    let sessions = format!("plat sessions 1\n{sessions}end 9\n");
    std::fs::write(dir.path().join("sessions"), sessions).unwrap();
    leases(dir.path()).save(true);
    keeper(dir.path()).save();
    dir
}

/// Random numbers that come again: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % limit.max(1)
    }

    /// What disks, crashes and editors do to a file.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let (at, value) = (self.below(bytes.len()), self.below(256) as u8);
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << (value % 8),
            1 if !bytes.is_empty() => bytes[at] = value,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, value),
            4 => bytes.extend_from_within(at..),
            5 => bytes[at..].fill(0),
            _ => {
                let end = (at + usize::from(value)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}

#[test]
fn fp_14_of_500_damaged_state_files_every_start_succeeds_and_takes_up_nothing_altered() {
    let whole = state_of_a_run();
    let files = FILES.map(|name| std::fs::read(whole.path().join(name)).unwrap());
    let expected = start(whole.path());
    assert_eq!((expected.leases.len(), expected.sessions.len()), (9, 9));
    let mut random = Random(0x4641_7453);
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = files.clone();
        let number = random.below(FILES.len());
        for _ in 0..=random.below(3) {
            random.damage(&mut damaged[number]);
        }
        for (name, bytes) in FILES.iter().zip(&damaged) {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let found = start(dir.path());
        let is_damaged = |at: usize| damaged[at] != files[at];
        let what = format!(
            "round {round}: {}",
            String::from_utf8_lossy(&damaged[number])
        );
        assert_eq!(found.secret != expected.secret, is_damaged(0), "{what}");
        for (at, found, expected) in [
            (1, &found.leases, &expected.leases),
            (2, &found.sessions, &expected.sessions),
        ] {
            if is_damaged(at) {
                assert!(found.is_empty(), "{what}");
            } else {
                assert_eq!(found, expected, "{what}");
            }
        }
        for (at, name) in FILES.iter().enumerate() {
            let aside = dir.path().join(format!("{name}.damaged"));
            assert_eq!(aside.exists(), is_damaged(at), "{what}");
        }
    }
}
