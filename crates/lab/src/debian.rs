//! A Debian with systemd as its first process, in a container of systemd-nspawn: its files are those of a
//! directory that debootstrap made, and nothing that is changed in it stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::wait::wait_until;

const NSPAWN: &str = "/usr/bin/systemd-nspawn";

/// What a container is made of, or the reason that there can be none.
#[derive(Debug)]
pub struct Materials {
    root: PathBuf,
    /// The packages of `cargo xtask dist`.
    packages: PathBuf,
}

impl Materials {
    /// Looks for what `.ci/run` prepares: a Debian in `target/debian`, packages in `target/dist`.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a container with systemd takes root"
        );
        ensure!(
            Path::new(NSPAWN).is_file(),
            "{NSPAWN} is not installed: apt install systemd-container"
        );
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(3).context("no target directory")?;
        let (root, packages) = (target.join("debian"), target.join("dist"));
        ensure!(
            root.join("usr/lib/systemd/systemd").is_file(),
            "there is no Debian in target/debian: debootstrap --variant=minbase \
             --include=systemd,systemd-sysv,dbus,man-db,iproute2,nftables,procps stable target/debian"
        );
        ensure!(
            packages.join("SHA256SUMS").is_file(),
            "there are no packages in target/dist: cargo xtask dist"
        );
        Ok(Self { root, packages })
    }
}

/// A booted Debian with a network of its own. It is killed when this is dropped.
#[derive(Debug)]
pub struct Debian {
    nspawn: Child,
    first: u32,
}

impl Debian {
    /// Boots it; the packages are in `/packages`.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn boot(materials: &Materials) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let packages = format!("--bind-ro={}:/packages", materials.packages.display());
        let nspawn = Command::new(NSPAWN)
            .args([
                "--boot",
                "--private-network",
                "--register=no",
                "--keep-unit",
            ])
            .args(["--volatile=overlay", "--console=pipe", "--quiet"])
            // As a machine has it, for the fast path's program.
            .args([
                "--capability=CAP_BPF,CAP_PERFMON",
                "--system-call-filter=bpf",
            ])
            .arg(&packages)
            .arg(format!("--machine=lab-{}-{count}", std::process::id()))
            .arg("--directory")
            .arg(&materials.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut debian = Self { nspawn, first: 0 };
        let thread = debian.nspawn.id();
        let children = format!("/proc/{thread}/task/{thread}/children");
        wait_until(|| {
            let ended = debian.nspawn.try_wait()?;
            ensure!(ended.is_none(), "systemd-nspawn ended: {ended:?}");
            let text = fs::read_to_string(&children).unwrap_or_default();
            let first = text.split_whitespace().next();
            debian.first = first.and_then(|first| first.parse().ok()).unwrap_or(0);
            Ok(debian.first != 0 && debian.is_running())
        })
        .context("Debian does not boot")?;
        // As udev makes it; the machine's own may be root's alone.
        debian
            .run("mkdir -p /dev/net && rm -f /dev/net/tun && mknod -m 666 /dev/net/tun c 10 200")?;
        Ok(debian)
    }

    fn is_running(&self) -> bool {
        let state = self.command("systemctl is-system-running").output();
        state.is_ok_and(|state| {
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            ["running", "degraded"].contains(&state.as_str())
        })
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string(), "--all"])
            .args(["--", "/bin/sh", "-c", script])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script in it; its standard output.
    ///
    /// # Errors
    /// If it fails, with all that it said.
    pub fn run(&self, script: &str) -> Result<String> {
        let output = self.command(script).output()?;
        let (said, complaint) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        ensure!(
            output.status.success(),
            "{script}: {}: {said}{complaint}",
            output.status
        );
        Ok(said)
    }

    /// Runs it until it succeeds.
    ///
    /// # Errors
    /// If it never does.
    pub fn run_until_it_succeeds(&self, script: &str) -> Result<()> {
        wait_until(|| Ok(self.run(script).is_ok())).with_context(|| match self.run(script) {
            Ok(_) => script.to_owned(),
            Err(error) => error.to_string(),
        })
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Without its first process nothing of it is left, and systemd-nspawn ends.
        if self.first != 0 {
            let _ = Command::new("kill")
                .args(["-KILL", &self.first.to_string()])
                .status();
        } else {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
    }
}
