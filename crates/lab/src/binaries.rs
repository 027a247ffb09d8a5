//! Where the real `clat` and `plat` are, and how they get there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The two binaries under test.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The client's side.
    pub clat: PathBuf,
    /// The provider's side.
    pub plat: PathBuf,
}

impl Binaries {
    /// Takes `LAB_CLAT` and `LAB_PLAT` from the environment, and otherwise what was built beside
    /// this executable.
    ///
    /// # Errors
    /// When there is nothing; the message says what to build.
    pub fn find() -> Result<Self> {
        let directory = profile_directory()?;
        let find = |variable: &str, name: &str| {
            let path = match env::var_os(variable) {
                Some(path) => PathBuf::from(path),
                None => directory.join(name),
            };
            if path.is_file() {
                return Ok(path);
            }
            bail!(
                "there is no {}: cargo build {}-p clat -p plat",
                path.display(),
                release_flag(&directory).map_or(String::new(), |flag| format!("{flag} ")),
            )
        };
        Ok(Self {
            clat: find("LAB_CLAT", "clat")?,
            plat: find("LAB_PLAT", "plat")?,
        })
    }

    /// Run by Cargo, builds both binaries into the directory of this executable, as `cargo run`
    /// did for this one; then finds them.
    ///
    /// # Errors
    /// When the build fails, or without Cargo those of [`Binaries::find`].
    pub fn build_and_find() -> Result<Self> {
        let (Some(cargo), Some(package)) =
            (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
        else {
            return Self::find();
        };
        let directory = profile_directory()?;
        let target = directory.parent().context("no target directory")?;
        let workspace = Path::new(&package).join("../../Cargo.toml");
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "clat", "--package", "plat"])
            .args(release_flag(&directory))
            .arg("--manifest-path")
            .arg(workspace)
            .arg("--target-dir")
            .arg(target)
            .status()
            .context("cargo cannot be started")?;
        ensure!(status.success(), "clat and plat could not be built");
        Self::find()
    }
}

/// `target/debug` or `target/release`; test executables are one level below.
fn profile_directory() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let directory = own.parent().context("an executable without directory")?;
    let directory = match directory.ends_with("deps") {
        true => directory.parent().context("no profile directory")?,
        false => directory,
    };
    Ok(directory.to_owned())
}

fn release_flag(directory: &Path) -> Option<&'static str> {
    directory.ends_with("release").then_some("--release")
}
