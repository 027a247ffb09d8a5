//! A daemon that runs in a namespace: its log, its signals, its end.
//!
//! It dies with the laboratory in every case: [`Drop`] kills and reaps it, and for a laboratory
//! that is itself killed the kernel does it (`PR_SET_PDEATHSIG`). That setting must be made in the
//! child, so that the child is first this executable again, which sets it and then becomes the
//! daemon ([`become_daemon_if_asked`]).

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, set_parent_process_death_signal,
};

use crate::namespace::Namespace;

/// Set for the short time in which a child is still this executable.
const BECOME: &str = "LAB_BECOME_DAEMON";

/// A running daemon, or one that has ended and whose log can still be read.
pub struct Daemon {
    name: String,
    command: String,
    child: Child,
    log: Arc<Log>,
}

/// The lines of standard error so far.
#[derive(Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Daemon {
    /// Starts `program` with `arguments` in the namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        namespace: &Namespace,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .env(BECOME, "1")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = namespace.spawn(command)?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || log.read(stderr));
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
        Ok(Self {
            name: format!("{name} in {}", namespace.name()),
            command: words.fold(name.to_string(), |line, word| format!("{line} {word}")),
            child,
            log,
        })
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Errors
    /// When the daemon ends without it, or `patience` is over. The whole log is in the message.
    pub fn wait_for_line(&self, text: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut state = self.log.lock();
        while !state.lines.iter().any(|line| line.contains(text)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                drop(state);
                let why = if left.is_zero() {
                    "in time"
                } else {
                    "before it ended"
                };
                bail!(
                    "{} did not say \"{text}\" {why}; it said:{}",
                    self.name,
                    self.log()
                );
            }
            let waited = self.log.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// The command line, without the directory of the program.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The log so far, each line indented on a line of its own.
    #[must_use]
    pub fn log(&self) -> String {
        let state = self.log.lock();
        state.lines.iter().fold(String::new(), |mut text, line| {
            let _ = write!(text, "\n    {line}");
            text
        })
    }

    /// Numbers of the eBPF links that the process has.
    ///
    /// # Errors
    /// When it has ended.
    pub fn bpf_links(&self) -> Result<Vec<u32>> {
        let mut links = Vec::new();
        for file in std::fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            // A descriptor may have been closed meanwhile.
            let info = std::fs::read_to_string(file?.path()).unwrap_or_default();
            let mut lines = info
                .lines()
                .filter_map(|line| line.strip_prefix("link_id:"));
            links.extend(
                lines
                    .next()
                    .and_then(|number| number.trim().parse::<u32>().ok()),
            );
        }
        Ok(links)
    }

    /// Memory of the process that is resident, in KiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resident(&self) -> Result<u64> {
        let figure = self.status("VmRSS")?;
        let figure = figure.split_whitespace().next().unwrap_or_default();
        Ok(figure.parse()?)
    }

    /// Processor time that the threads which run now have used, user and system.
    ///
    /// The scheduler counts it in nanoseconds (`/proc/PID/task/TID/schedstat`). The ticks of
    /// `/proc/PID/stat` are 10 ms, more than a fast path takes for a GiB. A thread that ends takes
    /// its time with it, so a later figure may be smaller.
    ///
    /// # Errors
    /// When the process has ended, or the kernel was built without CONFIG_SCHED_INFO.
    pub fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let Ok(figures) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue; // the thread has ended
            };
            let on_processor = figures
                .split_whitespace()
                .next()
                .context("empty schedstat")?;
            nanoseconds += on_processor.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// A line of `/proc/PID/status`, without its name.
    ///
    /// # Errors
    /// When the process has ended, or there is no such line.
    pub fn status(&self, name: &str) -> Result<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(field, _)| *field == name);
        let (_, value) = found.with_context(|| format!("no {name}: the process has ended"))?;
        Ok(value.trim().to_owned())
    }

    /// The names of the process's threads, and the processors that each may run on.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn threads(&self) -> Result<Vec<(String, String)>> {
        let mut threads = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = std::fs::read_to_string(task?.path().join("status"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            threads.push((field("Name:"), field("Cpus_allowed_list:")));
        }
        Ok(threads)
    }

    /// Lines of the threads' `/proc/PID/task/TID/status`: the name of each thread, and its value.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn thread_status(&self, name: &str) -> Result<Vec<(String, String)>> {
        let mut threads = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = std::fs::read_to_string(task?.path().join("status"))?;
            let lines = || status.lines().filter_map(|line| line.split_once(':'));
            let field = |name: &str| {
                let line = lines().find(|(field, _)| *field == name);
                line.map_or("", |(_, value)| value.trim()).to_owned()
            };
            threads.push((field("Name"), field(name)));
        }
        Ok(threads)
    }

    /// How often the process's threads have slept and been woken.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn wakeups(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = std::fs::read_to_string(task?.path().join("status"))?;
            let figure = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += figure.map_or(Ok(0), |figure| figure.trim().parse::<u64>())?;
        }
        Ok(sum)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended and been waited for.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = kill_process(self.pid()?, signal);
        sent.with_context(|| format!("no signal to {}", self.name))
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let process = pidfd_open(self.pid()?, PidfdFlags::empty())?;
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        let patience = Timespec::try_from(patience)?;
        let count = poll(&mut ended, Some(&patience))?;
        ensure!(
            count == 1,
            "{} still runs; it said:{}",
            self.name,
            self.log()
        );
        let status = self.child.wait()?;
        self.log.wait_for_end();
        Ok(status)
    }

    /// Ends the daemon with SIGTERM and wants it to exit with 0.
    ///
    /// # Errors
    /// When it does not end within `patience`, or ends otherwise.
    pub fn stop(&mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait(patience)?;
        ensure!(
            status.success(),
            "{} ended with {status}; it said:{}",
            self.name,
            self.log()
        );
        Ok(())
    }

    /// Ends the daemon with SIGKILL: no clean-up of its own.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill(&mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(patience).map(drop)
    }

    fn pid(&self) -> Result<Pid> {
        let id = i32::try_from(self.child.id())?;
        Pid::from_raw(id).context("a process without a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what an ended process said last has been read. Not for long: a process started
    /// by the daemon may hold standard error open.
    fn wait_for_end(&self) {
        let state = self.lock();
        let soon = Duration::from_secs(1);
        let going_on = |state: &mut Lines| !state.ended;
        drop(self.changed.wait_timeout_while(state, soon, going_on));
    }

    fn read(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            self.lock().lines.push(line);
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// In a child started by [`Daemon::start`] this becomes the daemon and does not return; elsewhere
/// it does nothing. The first thing that `main` does in everything that starts daemons.
pub fn become_daemon_if_asked() {
    if std::env::var_os(BECOME).is_none() {
        return;
    }
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        return;
    };
    let error = match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => Command::new(&program)
            .args(arguments)
            .env_remove(BECOME)
            .exec(),
        Err(error) => error.into(),
    };
    // The log of the daemon is the only one who listens.
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{}: {error}\n", program.display()),
    );
    std::process::exit(127);
}
