//! What every command prints: for people, compared with the files in `tests/output`; for programs,
//! checked against the schemas in `docs/schema`.
//!
//! [`WRITE`] in the environment writes the files anew; read what has changed before you commit it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use lab::binaries::Binaries;
use lab::installed::{Installed, PATIENCE, Setup};
use lab::namespace::Namespace;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::dns::Upstream;
use lab::traffic::ping::ping;
use lab::wait::wait_until;
use serde_json::{Value, json};

const TESTS: &[Test] = lab::tests![
    ui_11_every_json_output_has_the_form_of_its_schema,
    ui_12_every_command_prints_what_is_written_down,
    ui_15_programs_of_other_versions_are_told_apart_on_the_socket,
];

/// The environment variable with which the expected files are written.
const WRITE: &str = "LAB_WRITE_OUTPUT";

/// Where the pool's one address is.
const POOL: &str = "192.168.64.9";

fn main() {
    lab::suite::run(TESTS)
}

/// A client with a CLAT, and an edge with everything that `plat` does.
struct Net {
    installed: Installed,
    binaries: Binaries,
    /// The port of the pool that the client's session has.
    port: u16,
    _resolver: Upstream,
}

/// What a command printed, and how it ended.
struct Ended {
    code: Option<i32>,
    out: String,
    complaint: String,
}

impl Net {
    fn new() -> Result<Self> {
        let flags = [
            "--pool=192.168.64.9",
            "--client=2001:db8:1::/121",
            "--deterministic",
            "--lan=client0",
            "--dns64=2001:db8:1::1",
            "--dns64-upstream=198.51.100.2",
            "--fast-path=off",
        ];
        let setup = Setup {
            clat: vec![
                "--ipv6=2001:db8:1::64".into(),
                "--fast-path=off".into(),
                "--probe=198.51.100.2".into(),
            ],
            ..Setup::plat_alone(&flags).with_clats()
        };
        let binaries = Binaries::find()?;
        let topology = Topology::new(&Plan::default())?;
        let resolver = Upstream::start(&topology.server, SERVER, SERVER, 1)?;
        let installed = Installed::with(&binaries, topology, setup)?;
        let client = installed.topology.client();
        client.run(|| ping(SERVER, 56, PATIENCE))?;
        let socket = client.run(|| {
            let socket = UdpSocket::bind("192.0.0.1:5000")?;
            socket.connect((SERVER, 9))?;
            Ok(socket)
        })?;
        let mut net = Self {
            installed,
            binaries,
            port: 0,
            _resolver: resolver,
        };
        wait_until(|| {
            // The server's answer is that nobody listens.
            let _ = socket.send(b"output");
            let session = net.plat(&["sessions", "--json", "--protocol=udp"])?;
            let Some(session) = session.out.lines().next() else {
                return Ok(false);
            };
            let session: Value = serde_json::from_str(session)?;
            net.port = session["external_port"].as_u64().unwrap_or(0).try_into()?;
            Ok(true)
        })?;
        Ok(net)
    }

    /// Ends both daemons.
    fn stop(&mut self) -> Result<()> {
        self.installed.clats[0].stop(PATIENCE)?;
        self.installed.plat.stop(PATIENCE)
    }

    /// What is another one each time, and what stands for it.
    fn hide(&self) -> [(String, String); 3] {
        let place = self.installed.directory().display().to_string();
        [
            (place, "PLACE".into()),
            (
                concat!("lat ", env!("CARGO_PKG_VERSION")).into(),
                "lat VERSION".into(),
            ),
            (format!("{POOL}:{}", self.port), format!("{POOL}:PORT")),
        ]
    }

    /// A command about the running `plat`.
    fn plat(&self, args: &[&str]) -> Result<Ended> {
        let run_dir = self.installed.plat_run_dir();
        let all = [args, &["--run-dir", &run_dir]].concat();
        self.bare_plat(&all)
    }

    fn bare_plat(&self, args: &[&str]) -> Result<Ended> {
        run(&self.installed.topology.edge, &self.binaries.plat, args)
    }

    /// A command about the running `clat`.
    fn clat(&self, args: &[&str]) -> Result<Ended> {
        let run_dir = self.installed.directory().join("clat0/run");
        let run_dir = run_dir.display().to_string();
        self.bare_clat(&[args, &["--run-dir", &run_dir]].concat())
    }

    fn bare_clat(&self, args: &[&str]) -> Result<Ended> {
        run(self.installed.topology.client(), &self.binaries.clat, args)
    }

    /// A file of the test.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.installed.directory().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

fn run(namespace: &Namespace, program: &Path, args: &[&str]) -> Result<Ended> {
    let mut command = Command::new(program);
    command.args(args).env("COLUMNS", "100");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(command)?.wait_with_output()?;
    Ok(Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        complaint: String::from_utf8(output.stderr)?,
    })
}

const PLAT_FILE: &str = "prefix = \"64:ff9b::/96\"\npool = \"192.0.2.0/28\"\nmetrics = \"[::1]:9464\"\n\
[ra]\ninterval = 10\nmtu = 1400\n[dns64]\nexclude = [\"2001:db8:bad::/48\"]\n";
const CLAT_FILE: &str = "uplink = \"eth0\"\nmtu = 1400\nverbose = 1\n";

const PLAT_DRY: [&str; 10] = [
    "--dry-run",
    "--prefix=64:ff9b::/96",
    "--pool=192.0.2.0/28",
    "--lan=client0",
    "--ra-search=lan.example",
    "--ra-mtu=1400",
    "--dns64=2001:db8:1::1",
    "--dns64-upstream=198.51.100.2",
    "--tun=second",
    "--quiet",
];
const CLAT_DRY: [&str; 7] = [
    "--dry-run",
    "--prefix=64:ff9b::/96",
    "--ipv6=2001:db8:1::65",
    "--forwarding=host",
    "--always",
    "--tun=second",
    "--quiet",
];

fn ui_11_every_json_output_has_the_form_of_its_schema() -> Result<()> {
    let mut net = Net::new()?;
    let (good, bad) = (
        net.file("plat.toml", PLAT_FILE)?,
        net.file("bad.toml", "pol = 1\n")?,
    );
    let clat_file = net.file("clat.toml", CLAT_FILE)?;
    let nobody = net
        .installed
        .directory()
        .join("nobody")
        .display()
        .to_string();
    let (state, place) = (
        format!("--state-dir={nobody}"),
        format!("--run-dir={nobody}"),
    );
    let nowhere = [&*state, &*place];
    let as_plat: [(&str, &[i32], Result<Ended>); 7] = [
        ("plat-status", &[0], net.plat(&["status", "--json"])),
        ("sessions", &[0], net.plat(&["sessions", "--json"])),
        (
            "doctor",
            &[0, 1, 2],
            net.plat(&["doctor", "--json", &state]),
        ),
        (
            "check",
            &[0],
            net.bare_plat(&[&["check", "--json"][..], &[&good]].concat()),
        ),
        (
            "check",
            &[0, 1, 3],
            net.bare_plat(&[&["check", "--json", "--here"][..], &[&good]].concat()),
        ),
        (
            "check",
            &[2],
            net.bare_plat(&[&["check", "--json"][..], &[&bad]].concat()),
        ),
        (
            "recover",
            &[0],
            net.bare_plat(&[&["recover", "--json"][..], &[&place]].concat()),
        ),
    ];
    for (schema, codes, ended) in as_plat {
        conforms(schema, codes, &ended?)?;
    }
    let detect = ["detect", "--json", "--prefix=2001:db8:64::/96"];
    let as_clat: [(&str, &[i32], Result<Ended>); 5] = [
        ("clat-status", &[0], net.clat(&["status", "--json"])),
        (
            "doctor",
            &[0, 1, 2],
            net.clat(&["doctor", "--json", &state]),
        ),
        (
            "detect",
            &[0, 3],
            net.bare_clat(&[&detect[..], &[&*state]].concat()),
        ),
        (
            "check",
            &[0, 1, 3],
            net.bare_clat(&["check", "--json", "--here", &clat_file]),
        ),
        (
            "recover",
            &[0],
            net.bare_clat(&["recover", "--json", &place]),
        ),
    ];
    for (schema, codes, ended) in as_clat {
        conforms(schema, codes, &ended?)?;
    }
    // Where a daemon is the router already, another one does not start.
    net.stop()?;
    let own = ["--json", "--dry-run", "--quiet", "--tun=second"];
    for flags in [[&["--json"], &PLAT_DRY[..]].concat(), own.to_vec()] {
        let ended = net.bare_plat(&[&flags[..], &nowhere].concat())?;
        conforms("plat-dry-run", &[0], &ended)?;
    }
    let ended = net.bare_clat(&[&CLAT_DRY[..], &["--json"], &nowhere].concat())?;
    conforms("clat-dry-run", &[0], &ended)?;
    // The document says what a check found wrong, and where.
    let told = net.bare_plat(&[&["check", "--json"][..], &[&bad]].concat())?;
    let told: Value = serde_json::from_str(&told.out)?;
    let error = (
        &told["valid"],
        &told["error"]["line"],
        &told["error"]["key"],
    );
    ensure!(error == (&json!(false), &json!(1), &json!("pol")), "{told}");
    Ok(())
}

/// Takes it that each line that was printed is JSON of this schema, with no field that it does not name.
fn conforms(name: &str, codes: &[i32], ended: &Ended) -> Result<()> {
    let Ended {
        code,
        out,
        complaint,
    } = ended;
    let is_code = code.is_some_and(|code| codes.contains(&code));
    ensure!(is_code, "{name}: {code:?}: {complaint}");
    ensure!(!out.is_empty(), "{name} printed nothing: {complaint}");
    let path = root().join(format!("docs/schema/{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut schema: Value = serde_json::from_str(&text)?;
    ensure!(jsonschema::meta::is_valid(&schema), "{name} is no schema");
    close(&mut schema);
    let validator = jsonschema::validator_for(&schema)?;
    for line in out.lines() {
        let document: Value = serde_json::from_str(line)?;
        let errors = validator.iter_errors(&document);
        let errors: Vec<String> = errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        ensure!(errors.is_empty(), "{name}: {}: {line}", errors.join("; "));
    }
    Ok(())
}

/// Lets no object have a field that its schema does not name. The schemas are open, as a later version
/// may add fields; the program at hand must not have any that are written down nowhere.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.get("properties").is_some_and(Value::is_object)
                && !fields.contains_key("additionalProperties")
            {
                fields.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(all) => all.iter_mut().for_each(close),
        _ => {}
    }
}

fn ui_12_every_command_prints_what_is_written_down() -> Result<()> {
    let mut net = Net::new()?;
    wait_until(|| Ok(net.plat(&["status"])?.out.contains("health    ok")))?;
    wait_until(|| Ok(net.clat(&["status"])?.out.contains("health    ok")))?;
    let (plat_file, clat_file) = (
        net.file("plat.toml", PLAT_FILE)?,
        net.file("clat.toml", CLAT_FILE)?,
    );
    let nobody = net
        .installed
        .directory()
        .join("nobody")
        .display()
        .to_string();
    let (state, place) = (
        format!("--state-dir={nobody}"),
        format!("--run-dir={nobody}"),
    );
    let port = format!("{POOL}:{}", net.port);
    let udp = ["sessions", "--protocol=udp"];
    let mut wrong = Vec::new();
    let hide = net.hide();
    let mut compare = |name: &str, ended: Result<Ended>| -> Result<()> {
        let ended = ended?;
        let code = ended.code.unwrap_or(-1);
        let mut text = normal(&hide, &ended.out);
        if code != 0 {
            text += &format!("[{code}] {}", normal(&hide, &ended.complaint));
        }
        if !is_as_written(name, &text)? {
            wrong.push(format!("{name}:\n{text}"));
        }
        Ok(())
    };
    compare("plat-status", net.plat(&["status"]))?;
    compare("plat-sessions", net.plat(&udp))?;
    compare(
        "plat-sessions-none",
        net.plat(&["sessions", "--remote=192.0.2.77"]),
    )?;
    compare("plat-whose", net.plat(&["whose", &port]))?;
    compare("plat-whose-nobody", net.plat(&["whose", "192.0.2.1:4096"]))?;
    compare("plat-reload", net.plat(&["reload"]))?;
    compare(
        "plat-explain",
        net.bare_plat(&["status", "--explain=pool-exhausted"]),
    )?;
    compare("plat-check", net.bare_plat(&["check", &plat_file]))?;
    compare("clat-status", net.clat(&["status"]))?;
    compare("clat-check", net.bare_clat(&["check", &clat_file]))?;
    compare("clat-explain", net.bare_clat(&["status", "--explain=igmp"]))?;
    compare("clat-nobody", net.bare_clat(&["status", &place]))?;
    let commands = "whose recover check import reload drain resume doctor status sessions";
    for command in commands.split(' ') {
        compare(
            &format!("plat-{command}-help"),
            net.bare_plat(&[command, "-h"]),
        )?;
    }
    for command in "detect doctor status check import recover".split(' ') {
        compare(
            &format!("clat-{command}-help"),
            net.bare_clat(&[command, "-h"]),
        )?;
    }
    // Where a daemon is the router already, another one does not start.
    net.stop()?;
    let dry = [&PLAT_DRY[..], &[&*state, &*place]].concat();
    compare("plat-dry-run", net.bare_plat(&dry))?;
    let dry = [&CLAT_DRY[..], &[&*state, &*place]].concat();
    compare("clat-dry-run", net.bare_clat(&dry))?;
    let detect = ["detect", "--prefix=2001:db8:64::/96", &*state];
    compare("clat-detect", net.bare_clat(&detect))?;
    ensure!(
        wrong.is_empty(),
        "not as in tests/output ({WRITE}=1 writes them): {}",
        wrong.join("\n")
    );
    Ok(())
}

/// True if the file says the same; with [`WRITE`] it does from now on.
fn is_as_written(name: &str, text: &str) -> Result<bool> {
    let path = root().join(format!("crates/lab/tests/output/{name}.txt"));
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, text)?;
    }
    let written = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(written == text)
}

/// The text without what is another one each time: times, figures, ports, places, this kernel's fast
/// path.
fn normal(hide: &[(String, String)], text: &str) -> String {
    let mut text = text.to_owned();
    for (what, by) in hide {
        text = text.replace(what, by);
    }
    let lines = text
        .lines()
        .filter(|line| !is_incidental(line))
        .map(|line| {
            let changed = normal_line(line);
            if changed == line {
                return line.to_owned();
            }
            // Columns have the width of what was there.
            changed.split_whitespace().collect::<Vec<_>>().join(" ")
        });
    lines.map(|line| line + "\n").collect()
}

/// Lines that a packet more or less makes come and go.
fn is_incidental(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let incidental = [
        "dropped", "answered", "held", "joined", "not", "changed", "queries",
    ];
    incidental.contains(&first) || line.starts_with("  icmp ")
}

fn normal_line(line: &str) -> String {
    if line.starts_with("fast path ") && line.contains("no: ") || line.ends_with(" possible") {
        return "fast path DEPENDS".into();
    }
    let is_table = [
        "IPv4 ",
        "IPv6 ",
        "sessions ",
        "bindings ",
        "ports ",
        "routers ",
        "DNS64 ",
        "  lookups ",
        "pcp ",
        "  2001:",
    ];
    let has_figures =
        is_table.iter().any(|start| line.starts_with(start)) || line.ends_with(" sessions");
    let has_times = [" for ", " running ", "[", "tcp  ", "udp  "]
        .iter()
        .any(|word| line.contains(word))
        && !line.starts_with('#');
    let mut words: Vec<String> = Vec::new();
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches([' ', ',', ':', ';', ')']);
        let rest = &word[bare.len()..];
        if has_times && is_time(bare) {
            if words.last().is_some_and(|last| last.trim_end() == "TIME") {
                words.pop();
            }
            words.push(format!("TIME{rest}"));
        } else if has_figures && !bare.is_empty() && bare.bytes().all(|one| one.is_ascii_digit()) {
            words.push(format!("N{rest}"));
        } else {
            words.push(word.to_owned());
        }
    }
    words.concat()
}

/// True for `4m` or `59s`.
fn is_time(word: &str) -> bool {
    let unit = word.trim_start_matches(|one: char| one.is_ascii_digit());
    unit.len() < word.len() && ["s", "m", "h", "ms", "day", "days"].contains(&unit)
}

fn ui_15_programs_of_other_versions_are_told_apart_on_the_socket() -> Result<()> {
    let net = Net::new()?;
    let socket = PathBuf::from(net.installed.plat_run_dir()).join("nat64.sock");
    // A program of an older version, and one of a later version.
    let old = ask(&socket, "{\"Sessions\":{\"json\":true,\"client\":null}}")?;
    ensure!(old.starts_with("ok\n{\"schema\":1,\"protocol\":"), "{old}");
    let old = ask(&socket, "{\"Status\":{\"json\":true}}")?;
    ensure!(old.starts_with("ok\n{\"schema\":1,"), "{old}");
    let new = ask(&socket, "{\"Tomorrow\":{\"json\":true}}")?;
    ensure!(new.starts_with("not a request: "), "{new}");
    let new = ask(&socket, "{\"Status\":{\"json\":true,\"more\":7}}")?;
    ensure!(new.starts_with("ok\n{\"schema\":1,"), "{new}");
    let none = ask(&socket, "\u{1b}[2J")?;
    ensure!(
        none.starts_with("not a request: ") && none.lines().count() == 1,
        "{none}"
    );

    // The program is asked for sessions, and who reads them has gone.
    let mut command = Command::new(&net.binaries.plat);
    let run_dir = net.installed.plat_run_dir();
    command.args(["sessions", "--run-dir", &run_dir]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = net.installed.topology.edge.spawn(command)?;
    let Some(out) = process.stdout.take() else {
        bail!("no standard output");
    };
    let mut first = String::new();
    BufReader::new(out).read_line(&mut first)?;
    ensure!(first.starts_with("PROTOCOL "), "{first}");
    let ended = process.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.success() && complaint.is_empty(),
        "{complaint}"
    );

    // A terminal of 40 columns.
    for args in [
        &["--help"][..],
        &["-h"],
        &["sessions", "--help"],
        &["doctor", "--state-dir=/x"],
    ] {
        let mut command = Command::new(&net.binaries.plat);
        command.args(args).env("COLUMNS", "40");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = net
            .installed
            .topology
            .edge
            .spawn(command)?
            .wait_with_output()?;
        let text = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            !text.contains("panicked") && !ended.stdout.is_empty(),
            "{args:?}: {text}"
        );
    }
    Ok(())
}

/// Sends a line to the socket. Returns what comes back.
fn ask(socket: &Path, line: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{line}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
