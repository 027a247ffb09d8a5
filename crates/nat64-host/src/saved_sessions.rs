//! Saves sessions to disk and restores them after a restart.
//!
//! They are written when the daemon ends and read when it starts: once a start has succeeded the
//! file is removed, so that a later crash does not restore sessions of long ago. A damaged file is
//! set aside and not restored.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use nat64::snapshot::{Cursor, SavedSession};
use nat64::{Nat64, OuterAddress, Protocol};
use tracing::{info, warn};
use xlat_host::daemon::saved_file::Saved;
use xlat_host::daemon::state_dir::{StateDir, StateError};
use xlat_host::daemon::wall_clock::epoch;
use xlat_tun::now;

const FILE: &str = "sessions";
/// First line of a file of version 1, which has the number of sessions in its last line.
const HEADER_1: &str = "plat sessions 1";
/// What follows from a damaged file.
const CONSEQUENCE: &str = "no session is restored";
/// Sessions read from a shard while it is locked.
const PAGE: usize = 4096;
/// Begins the line that says by which address the IPv4 side saw an address of the pool.
const OUTER: &str = "outer ";

/// Writes all sessions and returns how many.
pub(crate) fn save(nat: &Nat64, dir: &StateDir) -> Result<u64, StateError> {
    let mut count = 0;
    dir.save(FILE, |file| {
        if let Some(OuterAddress { inner, outer }) = nat.outer() {
            writeln!(file, "{OUTER}{inner} {outer}")?;
        }
        let mut cursor = Some(Cursor::default());
        while let Some(here) = cursor {
            let (sessions, next) = nat.sessions(here, PAGE, now(), epoch());
            for session in &sessions {
                writeln!(file, "{session}")?;
            }
            count += sessions.len() as u64;
            cursor = next;
        }
        Ok(())
    })?;
    Ok(count)
}

/// Restores the sessions of the file, if there is one. Errors are logged; the daemon then starts
/// without sessions.
pub(crate) fn restore(nat: &Nat64, dir: &StateDir) {
    let Some(saved) = dir.open_saved(FILE, CONSEQUENCE) else {
        return;
    };
    if saved.is_old
        && let Err(damage) = check(saved.body)
    {
        return dir.set_aside(FILE, &damage, CONSEQUENCE);
    }
    let Some(saved) = dir.open_saved(FILE, CONSEQUENCE) else {
        return;
    };
    let (restored, skipped) = restore_from(nat, saved);
    info!("{restored} sessions restored");
    for (reason, count) in skipped {
        info!("{count} sessions not restored: {reason}");
    }
}

/// Removes the file, if there is one.
pub(crate) fn discard(dir: &StateDir) {
    if let Err(error) = dir.remove(FILE) {
        warn!("{error}");
    }
}

fn restore_from(nat: &Nat64, saved: Saved) -> (u64, BTreeMap<String, u64>) {
    let (mut restored, mut skipped) = (0, BTreeMap::new());
    let (now, epoch) = (now(), epoch());
    let frame = usize::from(saved.is_old);
    let lines = saved.body.lines().skip(frame);
    let is_end = |line: &io::Result<String>| line.as_ref().is_ok_and(|line| is_end(line));
    let now_seen = nat.outer();
    let mut before = None;
    for line in lines.take_while(|line| frame == 0 || !is_end(line)) {
        if let Some(outer) = line.as_ref().ok().and_then(|line| parse_outer(line)) {
            before = now_seen.filter(|seen| seen.inner == outer.inner && *seen != outer);
            if before.is_some() {
                nat.set_outer(outer, now);
            }
            continue;
        }
        let outcome = line
            .map_err(|error| error.to_string())
            .and_then(|line| {
                line.parse::<SavedSession>()
                    .map_err(|error| error.to_string())
            })
            .and_then(|session| {
                nat.restore(&session, now, epoch)
                    .map_err(|error| error.to_string())
            });
        match outcome {
            Ok(()) => restored += 1,
            Err(reason) => *skipped.entry(reason).or_default() += 1,
        }
    }
    if let Some(outer) = before {
        restored -= move_to(nat, outer);
    }
    (restored, skipped)
}

/// The IPv4 side saw the sessions by another address until the restart: connections end, and are
/// logged by that one. Returns how many.
fn move_to(nat: &Nat64, outer: OuterAddress) -> u64 {
    let connections = || u64::from(nat.counts().sessions[Protocol::Tcp as usize]);
    let all = connections();
    nat.set_outer(outer, now());
    let ended = all - connections();
    info!(
        "this host has another address than before, {}: bindings keep their ports, {ended} TCP \
         connections have ended",
        outer.outer
    );
    ended
}

fn parse_outer(line: &str) -> Option<OuterAddress> {
    let (inner, outer) = line.strip_prefix(OUTER)?.split_once(' ')?;
    Some(OuterAddress {
        inner: inner.parse().ok()?,
        outer: outer.parse().ok()?,
    })
}

fn is_end(line: &str) -> bool {
    line.starts_with("end ")
}

/// Checks that a file of version 1 is complete.
fn check(file: impl BufRead) -> Result<(), String> {
    let mut lines = file.lines();
    let first = lines.next().and_then(Result::ok);
    if first.as_deref() != Some(HEADER_1) {
        return Err("line 1: not a file of sessions, or of another version".into());
    }
    for (count, line) in (0_u64..).zip(lines) {
        let number = count + 2;
        let line = line.map_err(|error| format!("line {number}: {error}"))?;
        if let Some(written) = line.strip_prefix("end ") {
            return match written.parse::<u64>() {
                Ok(written) if written == count => Ok(()),
                _ => Err(format!(
                    "line {number}: {written} sessions were written, {count} are there"
                )),
            };
        }
        let session = line.parse::<SavedSession>();
        session.map_err(|error| format!("line {number}: {error}"))?;
    }
    Err("its end is missing".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nat64::config::Config;
    use xlat_core::addr::Pref64s;

    fn nat() -> Nat64 {
        let pref64s = Pref64s::new(["2001:db8:64::/96".parse().unwrap()], true);
        let config = Config::new(vec!["192.0.2.1".parse().unwrap()]);
        Nat64::new(config, pref64s, [1, 2]).unwrap()
    }

    fn session(port: u16) -> SavedSession {
        let expires = epoch() + 100;
        format!(
            "udp 2001:db8::7 {port} 192.0.2.1 {port} 198.51.100.7 53 2001:db8:64::/96 - {expires}"
        )
        .parse()
        .unwrap()
    }

    fn sessions(nat: &Nat64) -> u32 {
        nat.counts().sessions.iter().sum()
    }

    #[test]
    fn nb_06_what_is_saved_is_taken_up_until_a_start_has_succeeded() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let before = nat();
        for port in 2000..2010 {
            before.restore(&session(port), now(), epoch()).unwrap();
        }
        assert_eq!(save(&before, &dir).unwrap(), 10);
        let after = nat();
        restore(&after, &dir);
        assert_eq!(sessions(&after), 10);
        // A start that fails now has lost nothing.
        let again = nat();
        restore(&again, &dir);
        assert_eq!(sessions(&again), 10);
        discard(&dir);
        let late = nat();
        restore(&late, &dir);
        assert_eq!(sessions(&late), 0);
        discard(&dir);
    }

    #[test]
    fn oa_08_after_a_restart_at_another_address_bindings_are_there_and_connections_end() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let seen_as = |outer: &str| OuterAddress {
            inner: "192.0.2.1".parse().unwrap(),
            outer: outer.parse().unwrap(),
        };
        let before = nat();
        before.set_outer(seen_as("203.0.113.1"), now());
        let tcp = session(2001).to_string().replace("udp", "tcp");
        let tcp = tcp.replace(" - ", " established ").parse().unwrap();
        for one in [session(2000), tcp] {
            before.restore(&one, now(), epoch()).unwrap();
        }
        save(&before, &dir).unwrap();
        for (address, left) in [("203.0.113.1", 2), ("203.0.113.77", 1)] {
            let after = nat();
            after.set_outer(seen_as(address), now());
            restore(&after, &dir);
            assert_eq!(sessions(&after), left, "{address}");
            assert_eq!(after.counts().bindings, left, "{address}");
            assert_eq!(after.outer(), Some(seen_as(address)));
        }
        // A pool that no interface's address stands for has all of them.
        let plain = nat();
        restore(&plain, &dir);
        assert_eq!((sessions(&plain), plain.outer()), (2, None));
    }

    #[test]
    fn se_01_a_damaged_file_is_set_aside_and_nothing_of_it_is_taken_up() {
        let line = session(2000);
        for text in [
            String::new(),
            "nonsense\n".into(),
            format!("{HEADER_1}\n{line}\n"),
            format!("{HEADER_1}\n{line}\nend 2\n"),
            format!("{HEADER_1}\n{line}\nend x\n"),
            format!(
                "{HEADER_1}\n{}\nend 1\n",
                line.to_string().replace("udp", "xdp")
            ),
            format!("plat sessions 2\n{line}\nend 1\n"),
            format!("464xlat sessions 2\n{line}\nend 1\n"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let dir = StateDir::open(root.path()).unwrap();
            std::fs::write(root.path().join(FILE), &text).unwrap();
            let nat = nat();
            restore(&nat, &dir);
            assert_eq!(sessions(&nat), 0, "{text}");
            assert!(root.path().join("sessions.damaged").exists(), "{text}");
            assert!(!root.path().join("sessions").exists(), "{text}");
        }
    }

    #[test]
    fn fp_43_a_host_whose_clock_is_not_set_yet_stretches_no_session() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        // A host without a battery clock begins in 1970: the file comes from decades later.
        let mut late = session(2000);
        late.expires = epoch() + (50 << 25);
        dir.save(FILE, |file| writeln!(file, "{late}")).unwrap();
        let nat = nat();
        restore(&nat, &dir);
        let (all, _) = nat.sessions(Cursor::default(), PAGE, now(), epoch());
        assert_eq!(all.len(), 1);
        assert!(all[0].expires <= epoch() + 301, "longer than --udp-timeout");
    }

    #[test]
    fn fp_14_a_file_of_version_1_is_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let lines: String = (2000..2003)
            .map(|port| format!("{}\n", session(port)))
            .collect();
        let text = format!("{HEADER_1}\n{lines}end 3\n");
        std::fs::write(root.path().join(FILE), text).unwrap();
        let nat = nat();
        restore(&nat, &dir);
        assert_eq!(sessions(&nat), 3);
    }
}
