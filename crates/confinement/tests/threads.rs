//! Threads that do what they may, and what they may not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use confinement::{Killed, Kind, Mode, end_within, set_mode, spawn};

const PATIENCE: Duration = Duration::from_secs(10);

fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn se_30_a_thread_that_makes_a_forbidden_call_dies_alone_and_is_reported() {
    set_mode(Mode::Enforce);
    for kind in Kind::ALL {
        let (dying, killed) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let work = move || {
            begun.send(()).unwrap();
            // A call of no list.
            let _ = rustix::process::chdir("/");
            begun.send(()).unwrap();
        };
        let thread = spawn(
            kind,
            "attacked",
            || {},
            work,
            move || {
                dying.send(()).unwrap();
            },
        );
        begins.recv_timeout(PATIENCE).unwrap();
        assert_eq!(thread.unwrap().join(), Err(Killed), "{kind:?}");
        assert!(begins.try_recv().is_err(), "{kind:?} went on");
        killed.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn se_30_a_thread_that_ends_or_panics_is_not_reported() {
    set_mode(Mode::Enforce);
    for panics in [false, true] {
        let (dying, killed) = mpsc::channel::<()>();
        let work = move || assert!(!panics, "this is the panic of the test");
        let thread = spawn(
            Kind::Worker,
            "ends",
            || {},
            work,
            move || {
                dying.send(()).unwrap();
            },
        );
        assert_eq!(thread.unwrap().join(), Ok(()));
        // The watcher lets go of the callback without calling it.
        let gone = killed.recv_timeout(PATIENCE);
        assert_eq!(gone, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}

#[test]
fn se_30_a_confined_thread_has_no_capabilities_and_opens_no_file() {
    set_mode(Mode::Enforce);
    for kind in Kind::ALL {
        let (sender, results) = mpsc::channel();
        let work = move || {
            let opened = std::fs::File::open("/proc/thread-self/status").map(drop);
            sender.send(opened.map_err(|error| error.kind())).unwrap();
        };
        let thread = spawn(kind, "reads", || {}, work, || {});
        let opened = results.recv_timeout(PATIENCE).unwrap();
        let expected = match kind {
            Kind::SessionLog => Ok(()),
            _ => Err(std::io::ErrorKind::PermissionDenied),
        };
        assert_eq!(opened, expected, "{kind:?}");
        assert_eq!(thread.unwrap().join(), Ok(()));
    }
    let (sender, results) = mpsc::channel();
    let work = move || {
        let fields = ["CapEff", "CapPrm", "CapInh", "Seccomp"].map(status);
        sender.send(fields).unwrap();
    };
    spawn(Kind::SessionLog, "looks", || {}, work, || {}).unwrap();
    let [effective, permitted, inheritable, seccomp] = results.recv_timeout(PATIENCE).unwrap();
    for set in [effective, permitted, inheritable] {
        assert_eq!(set.trim_matches('0'), "");
    }
    assert_eq!(seccomp, "2");
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
fn se_30_nothing_is_written_outside_of_the_directories_that_are_named() {
    set_mode(Mode::Enforce);
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mine, other) = (inside.path().to_owned(), outside.path().to_owned());
    std::fs::write(other.join("there"), "before").unwrap();
    std::thread::spawn(move || {
        confinement::enter_control();
        let has_landlock = confinement::files::write_only_below(&[&mine]);
        std::fs::write(mine.join("new"), "").unwrap();
        std::fs::rename(mine.join("new"), mine.join("newer")).unwrap();
        if has_landlock {
            for name in ["new", "there"] {
                let refused = std::fs::write(other.join(name), "after").unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
            }
            assert_eq!(std::fs::read(other.join("there")).unwrap(), b"before");
        } else {
            eprintln!("this kernel has no Landlock: not looked at");
        }
        // Programs are not run, and the thread lives.
        let refused = std::process::Command::new("/bin/true").spawn();
        assert!(refused.is_err());
    })
    .join()
    .unwrap();
}

/// A worker that is killed may hold a lock of the tables, which those who save them wait for.
#[test]
fn se_30_a_process_that_hangs_after_a_worker_was_killed_is_ended() {
    const NAME: &str = "se_30_a_process_that_hangs_after_a_worker_was_killed_is_ended";
    const AS_CHILD: &str = "CONFINEMENT_TEST_CHILD";
    if std::env::var_os(AS_CHILD).is_some() {
        return hang_behind_a_killed_worker();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(AS_CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + 6 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > patience {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // Neither a test that passed (0) nor one that failed (101).
    assert_eq!(status.code(), Some(1));
}

fn hang_behind_a_killed_worker() {
    set_mode(Mode::Enforce);
    end_within(Duration::from_millis(300));
    let lock = Arc::new(Mutex::new(()));
    let (theirs, (holding, holds)) = (Arc::clone(&lock), mpsc::channel());
    let work = move || {
        let _held = theirs.lock().unwrap();
        holding.send(()).unwrap();
        let _ = rustix::process::chdir("/");
    };
    let thread = spawn(Kind::Worker, "attacked", || {}, work, || {}).unwrap();
    holds.recv().unwrap();
    assert_eq!(thread.join(), Err(Killed));
    // Nobody will release it.
    drop(lock.lock());
}
