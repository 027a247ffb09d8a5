//! What a program brings, and where it belongs on a machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::{Compression, GzBuilder};

use crate::pages;
use crate::source;

/// A file to install.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Absolute, on the machine where it is installed.
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
    /// The administrator's: an upgrade does not overwrite it.
    pub(crate) is_configuration: bool,
}

impl Entry {
    fn new(path: PathBuf, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path,
            mode,
            bytes: bytes.into(),
            is_configuration: false,
        }
    }
}

/// Where things belong.
#[derive(Debug)]
pub(crate) struct Layout {
    prefix: PathBuf,
}

impl Layout {
    pub(crate) fn new(prefix: &Path) -> Self {
        let prefix = prefix.to_owned();
        Self { prefix }
    }

    /// `/etc` for the prefixes of a distribution and of its administrator.
    fn configuration(&self) -> PathBuf {
        let is_usual = ["/usr", "/usr/local"].map(Path::new);
        match is_usual.contains(&self.prefix.as_path()) {
            true => "/etc".into(),
            false => self.prefix.join("etc"),
        }
    }
}

/// All files of a program.
pub(crate) fn of(program: &str, binary: Vec<u8>, layout: &Layout) -> Result<Vec<Entry>> {
    let prefix = &layout.prefix;
    let mut entries = vec![Entry::new(prefix.join("sbin").join(program), 0o755, binary)];
    for page in pages::manual(program)? {
        let folder = prefix.join(format!("share/man/man{}", page.section));
        let path = folder.join(format!("{}.{}.gz", page.name, page.section));
        entries.push(Entry::new(path, 0o644, compress(page.text.as_bytes())?));
    }
    for (path, text) in pages::completions(program) {
        entries.push(Entry::new(prefix.join("share").join(path), 0o644, text));
    }
    let unit = prefix.join(format!("lib/systemd/system/{program}.service"));
    entries.push(Entry::new(unit, 0o644, self::unit(program, layout)?));
    let configuration = layout.configuration().join(format!("{program}.toml"));
    entries.push(Entry {
        is_configuration: true,
        ..Entry::new(
            configuration,
            0o644,
            source::read(&format!("packaging/{program}.toml"))?,
        )
    });
    let documents = prefix.join("share/doc").join(program);
    for name in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        entries.push(Entry::new(documents.join(name), 0o644, source::read(name)?));
    }
    entries.push(Entry::new(
        documents.join("copyright"),
        0o644,
        source::read("packaging/copyright")?,
    ));
    Ok(entries)
}

/// The unit of `examples/systemd`, with the places of this layout.
fn unit(program: &str, layout: &Layout) -> Result<String> {
    let text = source::read(&format!("examples/systemd/{program}.service"))?;
    let sbin = format!("{}/", layout.prefix.join("sbin").display());
    let configuration = format!("{}/", layout.configuration().display());
    Ok(text
        .replace("/usr/local/sbin/", &sbin)
        .replace("/etc/", &configuration))
}

/// gzip without name and time, so that the same text makes the same bytes.
pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pk_02_units_and_files_follow_the_prefix() {
        let places = |prefix: &str| {
            let layout = Layout::new(Path::new(prefix));
            let unit = unit("plat", &layout).unwrap();
            let start = unit.lines().find(|line| line.starts_with("ExecStart="));
            start.unwrap().to_owned()
        };
        assert_eq!(
            places("/usr"),
            "ExecStart=/usr/sbin/plat --config /etc/plat.toml"
        );
        assert_eq!(
            places("/opt/x"),
            "ExecStart=/opt/x/sbin/plat --config /opt/x/etc/plat.toml"
        );
    }

    #[test]
    fn pk_02_a_program_brings_pages_completions_unit_and_configuration() {
        let layout = Layout::new(Path::new("/usr"));
        let entries = of("clat", b"binary".to_vec(), &layout).unwrap();
        let has = |path: &str| entries.iter().any(|entry| entry.path == Path::new(path));
        for path in [
            "/usr/sbin/clat",
            "/usr/share/man/man8/clat.8.gz",
            "/usr/share/man/man5/clat.toml.5.gz",
            "/usr/share/bash-completion/completions/clat",
            "/usr/share/zsh/site-functions/_clat",
            "/usr/share/fish/vendor_completions.d/clat.fish",
            "/usr/lib/systemd/system/clat.service",
            "/etc/clat.toml",
            "/usr/share/doc/clat/copyright",
        ] {
            assert!(has(path), "{path}");
        }
        let configuration = entries.iter().filter(|entry| entry.is_configuration);
        assert_eq!(configuration.count(), 1);
    }
}
