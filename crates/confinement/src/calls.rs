//! The system calls of each kind of thread, as lists of names.
//!
//! A new kind is a variant of [`Kind`] and its lists in `Kind::lists`; a call that a thread needs
//! is a word in the list that says what for. `--confine log` finds it: the kernel logs calls that
//! are not listed as `type=1326 ... syscall=N`.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::{Kind, Mode};

impl Kind {
    fn lists(self) -> &'static [&'static [c_long]] {
        match self {
            Self::Worker => &[MEMORY, TIME, THREAD, READ_WRITE, EVENTS],
            Self::Dns64 => &[MEMORY, TIME, THREAD, READ_WRITE, EVENTS, SOCKETS, LIMITS],
            Self::Metrics => &[
                MEMORY,
                TIME,
                THREAD,
                READ_WRITE,
                EVENTS,
                SOCKETS,
                FLOW_TABLES,
            ],
            Self::SessionLog => &[
                MEMORY, TIME, THREAD, READ_WRITE, EVENTS, SOCKETS, OPEN, FILES,
            ],
            Self::Watch => &[MEMORY, TIME, THREAD, READ_WRITE, EVENTS],
        }
    }

    fn opens_files(self) -> bool {
        self == Self::SessionLog
    }
}

/// Memory: the allocator's, and that of the stack.
const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
];

/// Clocks and sleep.
const TIME: &[c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
];

/// The thread itself: locks, its end, a panic with its backtrace.
const THREAD: &[c_long] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_prctl,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Descriptors that are open.
const READ_WRITE: &[c_long] = &[
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Waiting for descriptors, and waking other threads.
#[cfg(not(target_arch = "x86_64"))]
const EVENTS: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
];
/// Waiting for descriptors, and waking other threads.
#[cfg(target_arch = "x86_64")]
const EVENTS: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_poll,
    libc::SYS_ppoll,
];

/// Sockets. Without capabilities that is UDP, TCP and Unix, from ports that anybody may have.
const SOCKETS: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
    libc::SYS_socketpair,
];

/// Limits of the process: the DNS64 asks how many sockets it may have.
const LIMITS: &[c_long] = &[libc::SYS_prlimit64];

/// The counters of the fast path in the kernel.
const FLOW_TABLES: &[c_long] = &[libc::SYS_bpf];

/// Opening files. Every other thread is told that it may not (EACCES), and lives: libraries that
/// look for a file can do without it.
#[cfg(not(target_arch = "x86_64"))]
const OPEN: &[c_long] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_statx,
];
/// Opening files. Every other thread is told that it may not (EACCES), and lives: libraries that
/// look for a file can do without it.
#[cfg(target_arch = "x86_64")]
const OPEN: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_stat,
    libc::SYS_statx,
];

/// Writing files.
const FILES: &[c_long] = &[libc::SYS_fdatasync, libc::SYS_fsync, libc::SYS_geteuid];

/// What no part of a daemon does, its control thread included.
const NEVER: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Confines the calling thread to the calls of its kind.
pub(crate) fn confine(kind: Kind, mode: Mode) -> Result<(), String> {
    let (other, refused) = match mode {
        Mode::Off => return Ok(()),
        Mode::Log => (SeccompAction::Log, SeccompAction::Log),
        Mode::Enforce => (
            SeccompAction::KillThread,
            SeccompAction::Errno(libc::EACCES as u32),
        ),
    };
    let mut listed = kind.lists().to_vec();
    if !kind.opens_files() {
        listed.push(OPEN);
        install(&[OPEN], SeccompAction::Allow, refused)?;
    }
    install(&listed, other, SeccompAction::Allow)
}

/// Refuses the calling thread, and those that it will start, what none of them does.
pub(crate) fn confine_control(mode: Mode) -> Result<(), String> {
    let refused = match mode {
        Mode::Off => return Ok(()),
        Mode::Log => SeccompAction::Log,
        Mode::Enforce => SeccompAction::Errno(libc::EPERM as u32),
    };
    install(&[NEVER], SeccompAction::Allow, refused)
}

/// Installs a filter on the calling thread: `listed` for the calls of these lists, `other` for all
/// others. Of several filters the strictest decides.
fn install(lists: &[&[c_long]], other: SeccompAction, listed: SeccompAction) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let calls = lists.iter().flat_map(|list| list.iter().copied());
    let rules: BTreeMap<i64, _> = calls.map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, other, listed, arch);
    let program = filter.and_then(BpfProgram::try_from);
    let program = program.map_err(|error| error.to_string())?;
    apply_filter(&program).map_err(|error| error.to_string())
}
