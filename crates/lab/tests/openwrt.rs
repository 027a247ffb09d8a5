//! OpenWrt's scripts in `packaging/openwrt`, run by the shell that OpenWrt has, with netifd, UCI and
//! procd played by functions that write down how they are called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::suite::Test;
use tempfile::TempDir;

const TESTS: &[Test] = lab::tests![
    pk_06_netifd_starts_clat_with_the_options_of_the_interface,
    pk_06_netifd_learns_of_a_name_that_is_too_long,
    pk_06_netifd_stops_clat,
    pk_06_procd_starts_plat_with_its_configuration,
    pk_06_procd_keeps_the_file_of_before_if_plat_refuses_the_new_one,
];

const BUSYBOX: &str = "/usr/bin/busybox";

fn main() {
    let names = TESTS.iter().map(|(name, _)| (*name, BUSYBOX));
    let needed: Vec<(&str, &str)> = names.collect();
    lab::suite::run_with_programs(TESTS, needed.leak())
}

/// What netifd offers to a protocol handler. The configuration is in shell variables: `v_NAME`, and
/// `l_NAME` with a value a line.
const NETIFD: &str = r#"
INCLUDE_ONLY=1
json_get_var() { eval "$1=\$v_$2"; }
json_get_vars() { for one; do eval "$one=\$v_$one"; done; }
json_for_each_item() { eval "values=\$l_$2"; for value in $values; do "$1" "$value"; done; }
json_add_string() { echo "data $1=$2"; }
network_get_device() { [ "$2" = wan6 ] && eval "$1=eth0.7"; }
for name in add_host_dependency init_update add_data close_data send_update run_command \
    kill_command notify_error block_restart; do
    eval "proto_$name() { echo $name \"\$@\"; }"
done
"#;

fn packaging(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("packaging/openwrt/files").join(path)
}

/// Runs a script by `busybox ash`; its output.
fn ash(directory: &TempDir, script: &str) -> Result<String> {
    let file = directory.path().join("script");
    fs::write(&file, script)?;
    let output = Command::new(BUSYBOX)
        .args(["ash", "-e"])
        .arg(&file)
        .env("CLAT_DIRECTORY", directory.path())
        .env("PLAT_DIRECTORY", directory.path())
        .output()?;
    let complaint = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{}: {complaint}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn clat(directory: &TempDir, lines: &str) -> Result<String> {
    let handler = packaging("clat.sh");
    ash(
        directory,
        &format!("{NETIFD}\n. {}\n{lines}\n", handler.display()),
    )
}

fn pk_06_netifd_starts_clat_with_the_options_of_the_interface() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let output = clat(
        &directory,
        "v_prefix='64:ff9b::/96' v_shared_ports=61000-62000 v_always=1 v_require_secure=0
        v_tunlink=wan6 v_zone=wan l_lan='192.168.1.0/24 192.168.2.0/24'
        proto_clat_setup v4",
    )?;
    let file = directory.path().join("clat-v4.toml");
    let expected = "prefix = \"64:ff9b::/96\"\nshared-ports = \"61000-62000\"\n\
        lan = [\"192.168.1.0/24\", \"192.168.2.0/24\"]\nalways = true\nuplink = \"eth0.7\"\n";
    let text = fs::read_to_string(&file)?;
    ensure!(text == expected, "{text}");
    let expected = format!(
        "add_host_dependency v4  wan6\ninit_update clat-v4 1 1\nadd_data\ndata zone=wan\nclose_data\n\
        send_update v4\nrun_command v4 /usr/sbin/clat --config {} --tun clat-v4 \
        --run-dir /var/run/clat-v4 --state-dir /etc/clat/v4\n",
        file.display()
    );
    ensure!(output == expected, "{output}");
    Ok(())
}

fn pk_06_netifd_learns_of_a_name_that_is_too_long() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let output = clat(&directory, "proto_clat_setup elevenchars || echo refused")?;
    let expected = "notify_error elevenchars NAME_TOO_LONG\nblock_restart elevenchars\nrefused\n";
    ensure!(output == expected, "{output}");
    Ok(())
}

fn pk_06_netifd_stops_clat() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("clat-v4.toml");
    fs::write(&file, "")?;
    let output = clat(&directory, "proto_clat_teardown v4")?;
    ensure!(output == "kill_command v4\n", "{output}");
    ensure!(!file.exists());
    Ok(())
}

/// `/lib/functions.sh` and procd, as far as the service uses them. A configuration is a list of calls,
/// as `config_load` makes of the file; `/usr/sbin/plat check` is the function `plat_check`.
const PROCD: &str = r#"
reset_cb() { config_cb() { :; }; option_cb() { :; }; list_cb() { :; }; }
reset_cb
config_load() {
    config_cb plat plat
    option_cb enabled 1
    option_cb expose_host 1
    option_cb pin 0
    option_cb metrics '[::1]:9465'
    list_cb prefix 64:ff9b::/96
    list_cb prefix 2001:db8:64::/96
    list_cb client 'a "quoted" word'
    config_cb
}
config_get_bool() { eval "$1=1"; }
for name in open_instance set_param close_instance add_reload_trigger; do
    eval "procd_$name() { echo $name \"\$@\"; }"
done
"#;

/// The service, with `plat` replaced by a script that checks as `verdict` says.
fn plat(directory: &TempDir, verdict: &str, lines: &str) -> Result<String> {
    let plat = directory.path().join("plat");
    fs::write(&plat, format!("#!/bin/sh\necho \"$@\" >&2\n{verdict}\n"))?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&plat, executable)?;
    let service = fs::read_to_string(packaging("plat.init"))?;
    let service = service.replace("/usr/sbin/plat", &plat.display().to_string());
    ash(
        directory,
        &format!("extra_command() {{ :; }}\n{service}\n{PROCD}\n{lines}\n"),
    )
}

fn pk_06_procd_starts_plat_with_its_configuration() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let output = plat(&directory, "exit 0", "start_service")?;
    let file = directory.path().join("plat.toml");
    let text = fs::read_to_string(&file).context("no plat.toml")?;
    let expected = "expose-host = true\nmetrics = \"[::1]:9465\"\n\
        prefix = [\"64:ff9b::/96\", \"2001:db8:64::/96\"]\nclient = [\"a \\\"quoted\\\" word\"]\n";
    ensure!(text == expected, "{text}");
    let command = format!(
        "{} --config {}",
        directory.path().join("plat").display(),
        file.display()
    );
    let first = output.lines().nth(1).unwrap_or_default();
    ensure!(
        first == format!("set_param command {command} --state-dir /etc/plat"),
        "{output}"
    );
    Ok(())
}

fn pk_06_procd_keeps_the_file_of_before_if_plat_refuses_the_new_one() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("plat.toml");
    fs::write(&file, "before")?;
    let output = plat(&directory, "exit 2", "start_service || echo refused")?;
    ensure!(output == "refused\n", "{output}");
    ensure!(fs::read_to_string(&file)? == "before");
    Ok(())
}
