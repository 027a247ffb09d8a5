//! The peer: TAYGA, as its manual and clatd set it up.

use std::ffi::OsStr;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use lab::link::add_route;
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::topology::{PREF64, Topology};

/// Where distributions put it, which may be missing from `PATH`.
const SYSTEM_DIR: &str = "/usr/sbin";
/// The client's IPv6 address for the second TAYGA.
const TAYGA_CLAT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xc1a7);

/// Each that is installed, once: the distribution's first, then those in the directories of `path`,
/// then those that were `named`.
pub(crate) fn installed(path: Option<&OsStr>, named: &[PathBuf]) -> Vec<PathBuf> {
    let directories = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let directories = directories.unwrap_or_default();
    let usual = std::iter::once(PathBuf::from(SYSTEM_DIR)).chain(directories);
    let candidates = usual.map(|directory| directory.join("tayga"));
    let mut found = Vec::new();
    for candidate in candidates.chain(named.iter().cloned()) {
        if let Ok(program) = candidate.canonicalize()
            && program.is_file()
            && !found.contains(&program)
        {
            found.push(program);
        }
    }
    found
}

/// TAYGA on the edge, with the commands of its manual.
pub(crate) fn on_edge(tayga: &Path, topology: &Topology, directory: &Path) -> Result<Daemon> {
    let lines = format!(
        "tun-device nat64\nipv4-addr 192.168.64.1\nprefix {PREF64}\n\
         dynamic-pool 192.168.64.0/24\ndata-dir {}\n",
        directory.display()
    );
    let edge = &topology.edge;
    edge.set_sysctl("ipv4/ip_forward", "1")?;
    edge.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let configuration = configuration(tayga, edge, directory, "nat64", &lines)?;
    ip(edge, &["link", "set", "nat64", "up"])?;
    ip(edge, &["route", "add", "192.168.64.0/24", "dev", "nat64"])?;
    ip(
        edge,
        &["-6", "route", "add", &PREF64.to_string(), "dev", "nat64"],
    )?;
    Daemon::start(edge, tayga, &["--nodetach", "-c", &configuration])
}

/// A second TAYGA on the client, as clatd sets it up.
pub(crate) fn on_client(tayga: &Path, topology: &Topology, directory: &Path) -> Result<Daemon> {
    let lines = format!(
        "tun-device clat\nipv4-addr 192.0.0.2\nprefix {PREF64}\nmap 192.0.0.1 {TAYGA_CLAT}\n"
    );
    let client = topology.client();
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    client.set_sysctl("ipv4/ip_forward", "1")?;
    let configuration = configuration(tayga, client, directory, "clat", &lines)?;
    ip(client, &["link", "set", "clat", "up"])?;
    ip(client, &["address", "add", "192.0.0.1/32", "dev", "clat"])?;
    ip(
        client,
        &["route", "add", "default", "dev", "clat", "mtu", "1472"],
    )?;
    let host = format!("{TAYGA_CLAT}/128");
    ip(client, &["-6", "route", "add", &host, "dev", "clat"])?;
    let gateway = Topology::client_address(0);
    let to = IpNet::new_assert(TAYGA_CLAT.into(), 128);
    add_route(&topology.edge, to, gateway.into(), None)?;
    Daemon::start(client, tayga, &["--nodetach", "-c", &configuration])
}

/// Writes a file for TAYGA and makes its TUN.
fn configuration(
    tayga: &Path,
    namespace: &Namespace,
    directory: &Path,
    name: &str,
    lines: &str,
) -> Result<String> {
    let path = directory.join(format!("{name}.conf"));
    std::fs::write(&path, lines)?;
    let path = path.display().to_string();
    command(namespace, tayga, &["--mktun", "-c", &path])?;
    Ok(path)
}

fn ip(namespace: &Namespace, arguments: &[&str]) -> Result<()> {
    command(namespace, Path::new("ip"), arguments)
}

fn command(namespace: &Namespace, program: &Path, arguments: &[&str]) -> Result<()> {
    let mut process = Command::new(program);
    process.args(arguments);
    process.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {arguments:?}: {complaint}",
        program.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tayga_is_found_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, other] = ["one", "other"].map(|name| {
            let place = directory.path().join(name);
            std::fs::create_dir(&place).expect("made");
            let program = place.join("tayga");
            std::fs::write(&program, "").expect("written");
            program.canonicalize().expect("there")
        });
        let place = |program: &Path| program.parent().map(Path::to_path_buf).expect("a parent");
        let path = std::env::join_paths([place(&one), place(&one), directory.path().into()]);
        let named = [other.clone(), one.clone(), "/nowhere/tayga".into()];
        let found = installed(Some(&path.expect("a path")), &named);
        let found: Vec<_> = found
            .iter()
            .filter(|one| !one.starts_with(SYSTEM_DIR))
            .collect();
        assert_eq!(found, [&one, &other]);
    }
}
