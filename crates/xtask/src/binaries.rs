//! The two programs: built with the profile `dist`, static, and looked at before they are packed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::source;

/// A target triple, `x86_64-unknown-linux-musl` for example.
#[derive(Clone, Debug)]
pub(crate) struct Target(String);

/// Rust's own linker, which rustc finds by this name.
const LLD: &str = "rust-lld";

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match text.contains("-linux-") && text.chars().all(is_name) {
            true => Ok(Self(text.to_owned())),
            false => Err("no target triple of Linux; x86_64-unknown-linux-gnu is one".to_owned()),
        }
    }
}

impl Target {
    /// musl where its standard library is installed, else the target of this compiler.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let version = rustc(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc -vV names no host")?;
        let musl = Self(host.replace("-gnu", "-musl"));
        match musl.has_standard_library()? {
            true => Ok(musl),
            false => Ok(Self(host.to_owned())),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The processor as Rust calls it.
    fn processor(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }

    /// As in `clat_0.2.0_amd64.deb`.
    pub(crate) fn debian(&self) -> &str {
        match self.processor() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "armv7" => "armhf",
            "i686" => "i386",
            "riscv64gc" => "riscv64",
            "powerpc64le" => "ppc64el",
            other => other,
        }
    }

    /// As in `clat-0.2.0-1.x86_64.rpm`.
    pub(crate) fn rpm(&self) -> &str {
        match self.processor() {
            "armv7" => "armv7hl",
            "riscv64gc" => "riscv64",
            "powerpc64le" => "ppc64le",
            other => other,
        }
    }

    fn variable_of_linker(&self) -> String {
        let name = self.0.to_uppercase().replace('-', "_");
        format!("CARGO_TARGET_{name}_LINKER")
    }

    fn variable_of_c_compiler(&self) -> String {
        format!("CC_{}", self.0.replace('-', "_"))
    }

    /// Whether the size limits hold: they are measured for this processor.
    fn has_size_limits(&self) -> bool {
        self.processor() == "x86_64"
    }

    fn has_standard_library(&self) -> Result<bool> {
        let sysroot = rustc(&["--print", "sysroot"])?;
        let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(&self.0);
        Ok(libraries.join("lib").is_dir())
    }

    /// Says what is missing before minutes of compilation end in a page of linker errors.
    fn check_tools(&self) -> Result<()> {
        let name = &self.0;
        ensure!(
            self.has_standard_library()?,
            "Rust's standard library for {name} is missing: rustup target add {name}"
        );
        let variable = self.variable_of_linker();
        let given = std::env::var(&variable).ok();
        let linker = given.or_else(|| self.linker());
        if let Some(linker) = linker.filter(|linker| linker != LLD) {
            ensure!(
                is_program(&linker),
                "the linker {linker} for {name} is missing: install it, or name another one in \
                 {variable}"
            );
        }
        let variable = self.variable_of_c_compiler();
        let given = std::env::var(&variable).ok();
        if let Some(compiler) = given.or_else(|| self.c_compiler()) {
            ensure!(
                is_program(&compiler),
                "the C compiler {compiler} for {name} is missing: install it, or name another one \
                 in {variable}"
            );
        }
        Ok(())
    }

    /// The C compiler, where the compiler of this machine does not do: Debian's names.
    fn c_compiler(&self) -> Option<String> {
        if self.is_of_this_machine() {
            return self.is_musl().then(|| "musl-gcc".to_owned());
        }
        Some(match self.processor() {
            "armv7" => "arm-linux-gnueabihf-gcc".to_owned(),
            "riscv64gc" => "riscv64-linux-gnu-gcc".to_owned(),
            processor => format!("{processor}-linux-gnu-gcc"),
        })
    }

    /// The linker, where Cargo's choice does not do. Rust brings musl and a linker for it.
    fn linker(&self) -> Option<String> {
        match self.is_musl() {
            true => Some(LLD.to_owned()),
            false => self.c_compiler(),
        }
    }

    fn is_musl(&self) -> bool {
        self.0.contains("-musl")
    }

    fn is_of_this_machine(&self) -> bool {
        self.processor() == std::env::consts::ARCH
    }
}

/// Both programs as files.
pub(crate) struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    pub(crate) fn read(&self, program: &str) -> Result<Vec<u8>> {
        let path = self.directory.join(program);
        std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
    }
}

/// Builds both programs for `target`, and checks that they are static and small enough.
pub(crate) fn build(target: &Target) -> Result<Binaries> {
    target.check_tools()?;
    let target_directory = target_directory()?;
    let mut cargo = Command::new(cargo());
    cargo.current_dir(source::root());
    cargo.args([
        "build",
        "--locked",
        "--profile",
        "dist",
        "--package",
        "clat",
    ]);
    cargo.args(["--package", "plat", "--target", target.name()]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(target)?);
    cargo.env("XLAT_COMMIT", source::commit().unwrap_or_default());
    let tools = [
        (target.variable_of_linker(), target.linker()),
        (target.variable_of_c_compiler(), target.c_compiler()),
    ];
    for (variable, tool) in tools {
        if let Some(tool) = tool.filter(|_| std::env::var_os(&variable).is_none()) {
            cargo.env(variable, tool);
        }
    }
    let status = cargo.status().context("cargo cannot be started")?;
    ensure!(
        status.success(),
        "the build for {} failed, see above; nothing was made",
        target.name()
    );
    let directory = target_directory.join(target.name()).join("dist");
    let binaries = Binaries { directory };
    for program in source::PROGRAMS {
        check(program.name, &binaries.read(program.name)?, target)?;
        if target.is_of_this_machine() {
            ensure_starts(&binaries.directory.join(program.name))?;
        }
    }
    Ok(binaries)
}

/// Static linkage, and no paths of this machine in panic messages. LLD also merges functions of the
/// same code, and packs relocations where the C library reads them so.
fn flags(target: &Target) -> Result<String> {
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
    flags.push("-Ctarget-feature=+crt-static".to_owned());
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let cargo_home = home.unwrap_or_else(|| PathBuf::from("/nonexistent"));
    for (from, to) in [(source::root(), "/464xlat"), (cargo_home, "/cargo")] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    let minor = minor_version()?;
    let linked: &[&str] = match target.name() {
        // Rust links it with its LLD by itself.
        "x86_64-unknown-linux-gnu" if minor >= 90 => {
            &["-Wl,--icf=all", "-Wl,-z,pack-relative-relocs"]
        }
        // musl 1.2.5.
        _ if target.is_musl() && minor >= 93 => &["--icf=all", "-z", "pack-relative-relocs"],
        _ if target.is_musl() => &["--icf=all"],
        _ => &[],
    };
    flags.extend(
        linked
            .iter()
            .map(|argument| format!("-Clink-arg={argument}")),
    );
    Ok(flags.join("\u{1f}"))
}

/// Cargo's target directory.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.current_dir(source::root());
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let output = command.output().context("cargo cannot be started")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata cannot be understood")?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory
        .context("cargo metadata names no target directory")?
        .into())
}

pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// 95 for Rust 1.95.
fn minor_version() -> Result<u32> {
    let version = rustc(&["--version"])?;
    let minor = version.split('.').nth(1).map(str::parse);
    minor
        .transpose()?
        .with_context(|| format!("{version} is no version of rustc"))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).output();
    let output = output.context("rustc cannot be started: install Rust from https://rustup.rs")?;
    Ok(String::from_utf8(output.stdout)?)
}

fn is_program(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    Path::new(name).is_file()
        || std::env::split_paths(&paths).any(|directory| directory.join(name).is_file())
}

/// Bytes that a program may have.
fn limit(program: &str, target: &Target) -> usize {
    match (program, target.is_musl()) {
        ("clat", true) => 4_700_000,
        ("clat", false) => 5_600_000,
        (_, true) => 7_500_000,
        (_, false) => 8_400_000,
    }
}

fn check(program: &str, bytes: &[u8], target: &Target) -> Result<()> {
    let Some(interpreter) = has_interpreter(bytes) else {
        bail!("{program} for {} is no ELF file", target.name());
    };
    ensure!(
        !interpreter,
        "{program} for {} is linked dynamically: the target has no static C library",
        target.name()
    );
    let (size, limit) = (bytes.len(), limit(program, target));
    ensure!(
        !target.has_size_limits() || size <= limit,
        "{program} has {size} bytes, more than the {limit} that it may have"
    );
    Ok(())
}

/// A static program relocates itself: one that the C library cannot relocate ends before `main`.
fn ensure_starts(program: &Path) -> Result<()> {
    let output = Command::new(program).arg("--version").output();
    let started = output.is_ok_and(|output| output.status.success());
    ensure!(started, "{} does not start", program.display());
    Ok(())
}

/// Whether an ELF file asks for a dynamic linker (a segment PT_INTERP); nothing if it is none.
pub(crate) fn has_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;
    let is_64 = match elf.get(..5)? {
        b"\x7fELF\x02" => true,
        b"\x7fELF\x01" => false,
        _ => return None,
    };
    let is_little = *elf.get(5)? == 1;
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at + length)?;
        let fold = |sum, byte: &u8| sum << 8 | u64::from(*byte);
        Some(match is_little {
            true => bytes.iter().rev().fold(0, fold),
            false => bytes.iter().fold(0, fold),
        })
    };
    let (table, size, count) = match is_64 {
        true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
        false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
    };
    let mut interpreter = false;
    for index in 0..count {
        interpreter |= number((table + index * size) as usize, 4)? == PT_INTERP;
    }
    Some(interpreter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pk_01_a_program_with_a_dynamic_linker_is_told_from_others() {
        // The test itself is linked dynamically, where Rust links so by default.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let is_static = cfg!(target_feature = "crt-static");
        assert_eq!(has_interpreter(&own), Some(!is_static));
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(has_interpreter(&own[..40]), None);
    }

    #[test]
    fn pk_01_each_package_format_has_its_own_names_of_processors() {
        let names = |triple: &str| {
            let target: Target = triple.parse().unwrap();
            (target.debian().to_owned(), target.rpm().to_owned())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(names("x86_64-unknown-linux-musl"), pair("amd64", "x86_64"));
        assert_eq!(names("aarch64-unknown-linux-gnu"), pair("arm64", "aarch64"));
        assert_eq!(
            names("armv7-unknown-linux-gnueabihf"),
            pair("armhf", "armv7hl")
        );
        assert!("windows".parse::<Target>().is_err());
    }
}
