//! What a thread may do: capabilities, system calls, files.
//!
//! The control thread of a daemon changes the host, and needs capabilities for it. The threads that
//! read what strangers send ([`Kind`]) have none, and make the system calls of a short list
//! (`calls.rs`): the kernel ends a thread that makes another one, and the rest of the process learns
//! of it and says so ([`spawn`]). Nothing below the run, state and log directories is written to
//! ([`files`]).
//!
//! Where the kernel cannot do that, the log has one line, and the daemon runs on without.

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod calls;
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
#[path = "no_calls.rs"]
mod calls;
pub mod files;
mod kind;
mod thread;

use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tracing::warn;

pub use kind::Kind;
pub use thread::{Killed, Thread, end_within, spawn};

/// Whether threads are confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are not.
    Off,
    /// They have no capabilities, and the kernel's log names the system calls that would have been
    /// refused.
    Log,
    /// They are.
    Enforce,
}

static MODE: AtomicU8 = AtomicU8::new(Mode::Off as u8);

/// Sets what holds for the threads that start from now on, in the whole process.
pub fn set_mode(mode: Mode) {
    MODE.store(mode as u8, Ordering::Relaxed);
}

/// What holds for threads that start now.
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        mode if mode == Mode::Enforce as u8 => Mode::Enforce,
        mode if mode == Mode::Log as u8 => Mode::Log,
        _ => Mode::Off,
    }
}

/// Confines the calling thread for good. [`spawn`] does so for a thread of its own.
pub fn enter(kind: Kind) {
    let mode = mode();
    if mode == Mode::Off {
        return;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if let Err(error) = set_capabilities(None, none) {
        warn!("a thread keeps its capabilities: {error}");
    }
    report_once(calls::confine(kind, mode));
}

/// Refuses the control thread, and the threads that it will start, what no part of a daemon does:
/// to run programs, to trace processes, to mount.
pub fn enter_control() {
    let mode = mode();
    if mode != Mode::Off {
        report_once(calls::confine_control(mode));
    }
}

fn report_once(confined: Result<(), String>) {
    static REPORTED: Once = Once::new();
    if let Err(error) = confined {
        REPORTED.call_once(|| warn!("threads may make any system call here: {error}"));
    }
}
