//! Requests to a running daemon, over a Unix socket in its run directory.
//!
//! A client sends one line of JSON, the request, and receives text until the daemon closes the
//! connection: the output, already in the requested format. The first line of the reply is `ok` or
//! an error message. Only the user of the daemon and root can connect, and those in the group of
//! `--status-group`, who may ask for the status alone.

use std::future::Future;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, chmod, chown, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Gid, geteuid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::clients::{Clients, Limits};
use super::flags::StatusGroup;
use super::terminal::plain;
use crate::host::RUN_DIR_MODE;
use crate::private_dir::PrivateDir;

/// Number of the form of `status --json`: another one where a field goes or means something else. New
/// fields do not change it.
pub const SCHEMA: u32 = 1;

/// Longest request in bytes.
const REQUEST_MAX: u64 = 4096;
/// Most clients that have not sent their request yet.
const SILENT: Limits = Limits {
    each_source: 32,
    all: 64,
};
/// Most requests answered at the same time, of each class of clients; further ones wait.
const ANSWERS_MAX: usize = 8;
/// How long a client waits for each part of the reply: longer than any measurement takes.
const PATIENCE_WITH_DAEMON: Duration = Duration::from_secs(20);
/// What a refusal begins with where there is nothing of what the request is about.
const NOTHING: &str = "nothing found: ";
/// The line that a client waits for that has more to send.
const GO_ON: &str = "go on\n";
/// What it begins with where the request is none.
const NOT_A_REQUEST: &str = "not a request: ";
/// Time limit for a client to send its request, and to receive each part of the reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon's listening socket. Dropping it removes the socket from the file system.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why the control socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be created.
    #[error("cannot create the control socket {}: {source}; choose another --run-dir", path.display())]
    Bind {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No daemon listens on this path.
    #[error(
        "no daemon runs there: {} does not answer; the --tun and --run-dir of the running daemon \
        are needed",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// A daemon may run, but this user may not ask it.
    #[error(
        "{}: permission denied; only root, the daemon's user and the members of its --status-group \
        may ask",
        .0.display()
    )]
    Denied(PathBuf),
    /// The socket cannot be connected to for another reason.
    #[error("{}: {source}", path.display())]
    Connect {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A daemon listens, and says nothing.
    #[error(
        "the running daemon has not answered for {} s: it is stopped, or hangs; its log may say why",
        PATIENCE_WITH_DAEMON.as_secs()
    )]
    Silent,
    /// The connection broke.
    #[error("no answer from the running daemon: {0}")]
    Broken(#[from] io::Error),
    /// The daemon does not know what it is asked for.
    #[error(
        "the running daemon does not know this request, as it is of another version than this \
        program ({}): restart it",
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion,
    /// There is nothing of what the request is about.
    #[error("{0}")]
    Nothing(String),
    /// The daemon refused the request.
    #[error("{0}")]
    Refused(String),
}

impl Socket {
    /// Creates the socket of the instance `name` in `run_dir`, in place of one that a killed
    /// process left: the caller must hold the lock on that name. The group may ask for the status.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn bind(
        run_dir: &Path,
        name: &str,
        group: Option<&StatusGroup>,
    ) -> Result<Self, ControlError> {
        let path = socket_path(run_dir, name);
        let listener = listen(run_dir, name, &path);
        if let (Ok(_), Some(group)) = (&listener, group)
            && let Err(error) = open_to(&path, group.0)
        {
            warn!(
                "--status-group: only the daemon's user and root can ask for the status: {error}"
            );
        }
        listener
            .map(|listener| Self {
                listener,
                path: path.clone(),
            })
            .map_err(|source| ControlError::Bind { path, source })
    }

    /// Serves requests forever, each in a task of its own. `answer` gets the request and the reply
    /// to write to; its errors are only logged.
    pub async fn serve<R, F, A>(self, answer: A)
    where
        R: DeserializeOwned + Send,
        F: Future<Output = io::Result<()>> + Send,
        A: Fn(R, Answer) -> F + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        let permits = [(); 2].map(|()| Arc::new(Semaphore::new(ANSWERS_MAX)));
        let mut silent = Clients::new(SILENT);
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!("control socket: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let Ok(client) = stream.peer_cred() else {
                continue;
            };
            let is_trusted = client.uid() == 0 || client.uid() == geteuid().as_raw();
            let permits = Arc::clone(&permits[usize::from(is_trusted)]);
            let answer = Arc::clone(&answer);
            let reading = tokio::spawn(async move {
                let Ok((request, reply)) = read(stream).await else {
                    return;
                };
                // From here on no other client can take the place.
                tokio::spawn(async move {
                    let _permit = permits.acquire().await;
                    let done = respond(&request, is_trusted, reply, answer.as_ref()).await;
                    if let Err(error) = done {
                        debug!("control socket: {error}");
                    }
                });
            });
            silent.admit(client.uid(), reading.abort_handle());
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The reply to one request.
#[derive(Debug)]
pub struct Answer {
    stream: UnixStream,
    started: bool,
}

impl Answer {
    /// Writes a part of the reply.
    ///
    /// # Errors
    /// The client has closed the connection, or does not read.
    pub async fn text(&mut self, text: &str) -> io::Result<()> {
        if !self.started {
            self.started = true;
            self.send("ok\n").await?;
        }
        self.send(text).await
    }

    /// Writes a value as one line of JSON.
    ///
    /// # Errors
    /// The client has closed the connection, or does not read.
    pub async fn json(&mut self, value: &(impl Serialize + Sync)) -> io::Result<()> {
        let mut line = serde_json::to_string(value)?;
        line.push('\n');
        self.text(&line).await
    }

    /// Replies with an error message instead.
    ///
    /// # Errors
    /// The client has closed the connection, or does not read.
    pub async fn refuse(mut self, reason: &str) -> io::Result<()> {
        let line = reason.replace('\n', " ");
        self.send(&format!("{line}\n")).await
    }

    /// Replies that there is nothing of what the request is about.
    ///
    /// # Errors
    /// The client has closed the connection, or does not read.
    pub async fn nothing(self, reason: &str) -> io::Result<()> {
        self.refuse(&format!("{NOTHING}{reason}")).await
    }

    /// Tells a client that waits for it ([`send`]) to send the rest, and returns where that comes from.
    ///
    /// # Errors
    /// The client has closed the connection, or does not read.
    pub async fn ask_for_body(&mut self) -> io::Result<AsyncReader<&mut UnixStream>> {
        self.text(GO_ON).await?;
        Ok(AsyncReader::new(&mut self.stream))
    }

    /// Waits until the client closes the connection.
    pub async fn closed(&mut self) {
        let mut buffer = [0; 64];
        while matches!(self.stream.read(&mut buffer).await, Ok(length) if length > 0) {}
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(text.as_bytes())).await?
    }
}

/// Sends a request to the running instance `name` and hands each line of its reply to `print`.
///
/// # Errors
/// No daemon runs, it refused the request, or `print` failed.
pub fn ask(
    run_dir: &Path,
    name: &str,
    request: &impl Serialize,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), ControlError> {
    let patience = PATIENCE_WITH_DAEMON;
    talk(
        run_dir,
        name,
        request,
        (patience, Some(patience)),
        &mut print,
    )
}

/// The same for a reply that goes on as long as there is news.
///
/// # Errors
/// Those of [`ask`].
pub fn follow(
    run_dir: &Path,
    name: &str,
    request: &impl Serialize,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), ControlError> {
    talk(
        run_dir,
        name,
        request,
        (PATIENCE_WITH_DAEMON, None),
        &mut print,
    )
}

/// Sends a request and, when the daemon asks for it, all that can be read from `body`, and hands each
/// line of the reply to `print`.
///
/// # Errors
/// Those of [`ask`], and those of `body`.
pub fn send(
    run_dir: &Path,
    name: &str,
    request: &impl Serialize,
    mut body: impl io::Read,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), ControlError> {
    let mut stream = connect(socket_path(run_dir, name), PATIENCE_WITH_DAEMON)?;
    let mut to = stream.try_clone()?;
    let mut sent = false;
    let mut begin = serde_json::to_string(request).map_err(io::Error::from)?;
    begin.push('\n');
    stream.write_all(begin.as_bytes()).map_err(silent)?;
    read_reply(stream, Some(PATIENCE_WITH_DAEMON), &mut |line| {
        if sent || line != GO_ON {
            return print(line);
        }
        sent = true;
        io::copy(&mut body, &mut to)?;
        to.shutdown(std::net::Shutdown::Write)
    })
}

/// Asks, and waits so long for the first line of the reply, and for each further part.
fn talk(
    run_dir: &Path,
    name: &str,
    request: &impl Serialize,
    (first, further): (Duration, Option<Duration>),
    print: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), ControlError> {
    let mut stream = connect(socket_path(run_dir, name), first)?;
    let mut line = serde_json::to_string(request).map_err(io::Error::from)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(silent)?;
    read_reply(stream, further, print)
}

fn read_reply(
    stream: BlockingStream,
    further: Option<Duration>,
    print: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), ControlError> {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).map_err(silent)?;
    match line.trim_end() {
        "ok" => {}
        "" => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
        refusal => return Err(refused(refusal)),
    }
    lines.get_ref().set_read_timeout(further)?;
    loop {
        line.clear();
        if lines.read_line(&mut line).map_err(silent)? == 0 {
            return Ok(());
        }
        print(&line)?;
    }
}

fn connect(path: PathBuf, patience: Duration) -> Result<BlockingStream, ControlError> {
    let stream = match BlockingStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) => return Err(unconnected(path, error)),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

fn unconnected(path: PathBuf, error: io::Error) -> ControlError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => {
            ControlError::NotRunning(path)
        }
        ErrorKind::PermissionDenied => ControlError::Denied(path),
        _ => ControlError::Connect {
            path,
            source: error,
        },
    }
}

fn refused(reason: &str) -> ControlError {
    if let Some(what) = reason.strip_prefix(NOTHING) {
        return ControlError::Nothing(what.to_owned());
    }
    match reason.starts_with(NOT_A_REQUEST) {
        true => ControlError::OtherVersion,
        false => ControlError::Refused(reason.to_owned()),
    }
}

fn silent(error: io::Error) -> ControlError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ControlError::Silent,
        _ => error.into(),
    }
}

/// Sends a request to the running instance `name` and prints its reply on standard output.
///
/// # Errors
/// Those of [`ask`]. A closed pipe on standard output is no error.
pub fn ask_and_print(
    run_dir: &Path,
    name: &str,
    request: &impl Serialize,
) -> Result<(), ControlError> {
    until_closed(|print| ask(run_dir, name, request, print))
}

/// Sends a request for news to the running instance `name` and prints it on standard output as it
/// comes.
///
/// # Errors
/// Those of [`ask`]. A closed pipe on standard output is no error.
pub fn follow_and_print(
    run_dir: &Path,
    name: &str,
    request: &impl Serialize,
) -> Result<(), ControlError> {
    until_closed(|print| follow(run_dir, name, request, print))
}

fn until_closed(
    ask: impl FnOnce(&mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), ControlError>,
) -> Result<(), ControlError> {
    let mut out = io::stdout().lock();
    let mut print = |line: &str| out.write_all(plain(line).as_bytes());
    match ask(&mut print) {
        Err(ControlError::Broken(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

pub(crate) fn socket_path(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(format!("{name}.sock"))
}

/// The socket is for this user alone from its first moment: it gets the mode of its descriptor.
fn listen(run_dir: &Path, name: &str, path: &Path) -> io::Result<UnixListener> {
    PrivateDir::create(run_dir, RUN_DIR_MODE)?.remove(&format!("{name}.sock"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Lets a group connect.
fn open_to(path: &Path, group: u32) -> io::Result<()> {
    chown(path, None, Some(Gid::from_raw(group)))?;
    Ok(chmod(path, Mode::from_raw_mode(0o660))?)
}

async fn read(mut stream: UnixStream) -> io::Result<(String, Answer)> {
    let mut line = String::new();
    let mut lines = AsyncReader::new((&mut stream).take(REQUEST_MAX));
    timeout(PATIENCE, lines.read_line(&mut line)).await??;
    let reply = Answer {
        stream,
        started: false,
    };
    Ok((line, reply))
}

async fn respond<R, F>(
    request: &str,
    is_trusted: bool,
    reply: Answer,
    answer: &(impl Fn(R, Answer) -> F + Sync),
) -> io::Result<()>
where
    R: DeserializeOwned,
    F: Future<Output = io::Result<()>>,
{
    match admit(request, is_trusted) {
        Ok(request) => answer(request, reply).await,
        Err(reason) => reply.refuse(&reason).await,
    }
}

/// The request in a line, if it is one and whoever sent it may ask it. Total: any text will do.
///
/// # Errors
/// Why it is not answered.
pub fn admit<R: DeserializeOwned>(line: &str, is_trusted: bool) -> Result<R, String> {
    let parsed = serde_json::from_str::<Value>(line);
    let is_status = |request: &Value| request.get("Status").is_some();
    if !is_trusted && !parsed.as_ref().is_ok_and(is_status) {
        return Err("only the daemon's user and root may ask for more than the status".into());
    }
    let request = parsed.and_then(serde_json::from_value);
    request.map_err(|error| format!("{NOT_A_REQUEST}{error}"))
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Instant;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime")
    }

    async fn repeat(count: usize, mut answer: Answer) -> io::Result<()> {
        if count == 7 {
            return answer.nothing("no such line").await;
        }
        if count > 5 {
            return answer.refuse("too\noften").await;
        }
        for number in 0..count {
            answer.text(&format!("line {number}\n")).await?;
        }
        answer.json(&count).await
    }

    fn lines(dir: &Path, request: &impl Serialize) -> Result<Vec<String>, ControlError> {
        let mut lines = Vec::new();
        ask(dir, "nat64", request, |line| {
            lines.push(line.to_owned());
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn a_request_is_answered_line_by_line_and_a_refusal_is_an_error() {
        let dir = tempfile::tempdir().expect("directory");
        let runtime = runtime();
        let guard = runtime.enter();
        let socket = Socket::bind(dir.path(), "nat64", None).expect("bound");
        drop(guard);
        runtime.spawn(socket.serve(repeat));
        let answer = lines(dir.path(), &2_usize).expect("answer");
        assert_eq!(answer, ["line 0\n", "line 1\n", "2\n"]);
        let refused = lines(dir.path(), &6_usize).expect_err("refused");
        assert_eq!(refused.to_string(), "too often");
        let nonsense = lines(dir.path(), &"many").expect_err("refused");
        assert!(matches!(nonsense, ControlError::OtherVersion), "{nonsense}");
        let nothing = lines(dir.path(), &7_usize).expect_err("nothing");
        assert!(matches!(nothing, ControlError::Nothing(_)), "{nothing}");
        assert_eq!(nothing.to_string(), "no such line");
    }

    #[test]
    fn ui_04_why_nobody_can_be_asked_is_told_apart() {
        let of = |kind: ErrorKind| unconnected("x.sock".into(), kind.into());
        assert!(matches!(
            of(ErrorKind::NotFound),
            ControlError::NotRunning(_)
        ));
        assert!(matches!(
            of(ErrorKind::ConnectionRefused),
            ControlError::NotRunning(_)
        ));
        let denied = of(ErrorKind::PermissionDenied);
        assert!(matches!(denied, ControlError::Denied(_)), "{denied}");
        assert!(denied.to_string().contains("--status-group"), "{denied}");
        let dir = tempfile::tempdir().expect("directory");
        let runtime = runtime();
        let _guard = runtime.enter();
        // Nobody accepts, as where the daemon is stopped.
        let _socket = Socket::bind(dir.path(), "nat64", None).expect("bound");
        let patience = (Duration::from_millis(50), None);
        let asked = talk(dir.path(), "nat64", &1, patience, &mut |_| Ok(()));
        assert!(matches!(asked, Err(ControlError::Silent)), "{asked:?}");
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_dropped_one_is_gone() {
        let dir = tempfile::tempdir().expect("directory");
        let missing = lines(dir.path(), &1_usize).expect_err("nobody");
        assert!(matches!(missing, ControlError::NotRunning(_)), "{missing}");
        let runtime = runtime();
        let _guard = runtime.enter();
        let left = Socket::bind(dir.path(), "nat64", None).expect("bound");
        std::mem::forget(left);
        let socket = Socket::bind(dir.path(), "nat64", None).expect("bound again");
        let path = dir.path().join("nat64.sock");
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);

        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn se_29_silent_clients_do_not_keep_others_from_their_answer() {
        let dir = tempfile::tempdir().expect("directory");
        let runtime = runtime();
        let guard = runtime.enter();
        let socket = Socket::bind(dir.path(), "nat64", None).expect("bound");
        drop(guard);
        runtime.spawn(socket.serve(repeat));
        let path = dir.path().join("nat64.sock");
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(BlockingStream::connect(&path).expect("connected"));
            let start = Instant::now();
            assert_eq!(lines(dir.path(), &1_usize).expect("answer").len(), 2);
            assert!(start.elapsed() < PATIENCE / 2);
        }
    }

    #[test]
    fn se_29_a_group_may_ask_for_the_status_and_for_nothing_else() {
        let dir = tempfile::tempdir().expect("directory");
        let runtime = runtime();
        let _guard = runtime.enter();
        let own = rustix::process::getegid().as_raw();
        let group = StatusGroup(own);
        let _socket = Socket::bind(dir.path(), "nat64", Some(&group)).expect("bound");
        let found = std::fs::metadata(dir.path().join("nat64.sock")).expect("there");
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, own));
        for (request, expected) in [
            (r#"{"Status":{"json":true}}"#, "ok\nyes"),
            (r#"{"Reload":{}}"#, "only the daemon's user and root"),
            (r#""Reload""#, "only the daemon's user and root"),
            ("nonsense", "only the daemon's user and root"),
        ] {
            let (ours, mut theirs) = BlockingStream::pair().expect("sockets");
            ours.set_nonblocking(true).expect("not blocking");
            let stream = UnixStream::from_std(ours).expect("stream");
            let reply = Answer {
                stream,
                started: false,
            };
            let answer = async |_: Value, mut answer: Answer| answer.text("yes").await;
            let answer = |request, reply| answer(request, reply);
            runtime
                .block_on(respond(request, false, reply, &answer))
                .expect("answered");
            let mut text = String::new();
            io::Read::read_to_string(&mut theirs, &mut text).expect("read");
            assert!(text.starts_with(expected), "{request}: {text}");
        }
    }
}
