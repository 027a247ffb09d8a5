//! Why nothing is translated inside the kernel, and what would help.

use std::io;

use thiserror::Error;

impl Unavailable {
    /// Its name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OldKernel(_) => "old-kernel",
            Self::Permission => "no-permission",
            Self::NoSystemCall => "no-system-call",
            Self::Refused(_) => "refused",
            Self::Memory => "no-memory",
            Self::Attach { .. } => "not-attached",
            Self::Tables(_) => "no-tables",
        }
    }
}

/// Why the program does not run.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// The kernel is older than the program needs.
    #[error("Linux {0} is too old: 5.19 or newer is needed")]
    OldKernel(String),
    /// The process may not load a program.
    #[error(
        "no permission to load an eBPF program: run as root, or with CAP_BPF, CAP_PERFMON and \
         CAP_NET_ADMIN, outside of user namespaces"
    )]
    Permission,
    /// The kernel was built without eBPF, or a security module forbids it.
    #[error("this kernel has no bpf() system call, or a filter forbids it (seccomp)")]
    NoSystemCall,
    /// The kernel's verifier does not accept the program.
    #[error("the kernel refused the program: {0}")]
    Refused(String),
    /// There is no memory for the maps, or locked memory is limited (before Linux 5.11).
    #[error(
        "no memory for its tables: raise the limit of locked memory (ulimit -l) or of the cgroup"
    )]
    Memory,
    /// The program could not be attached to the interface.
    #[error("it cannot be attached to {interface}: {reason}")]
    Attach {
        /// Name of the TUN.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// A map could not be written.
    #[error("its tables cannot be written: {0}")]
    Tables(#[source] io::Error),
}
