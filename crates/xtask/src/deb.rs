//! Debian packages: an `ar` archive of `debian-binary`, `control.tar.gz` and `data.tar.gz`.

use std::fmt::Write;

use anyhow::Result;

use crate::binaries::Target;
use crate::contents::{Entry, compress};
use crate::source::{self, Program, VERSION};
use crate::tarball;

/// The name of the file.
pub(crate) fn file_name(program: &Program, target: &Target) -> String {
    format!("{}_{VERSION}_{}.deb", program.name, target.debian())
}

/// The whole package.
pub(crate) fn package(program: &Program, target: &Target, entries: &[Entry]) -> Result<Vec<u8>> {
    let control = tarball::archive(&control_files(program, target, entries)?)?;
    let files = entries.iter().map(|entry| tarball::File {
        path: format!(
            "./{}",
            entry.path.display().to_string().trim_start_matches('/')
        ),
        mode: entry.mode,
        bytes: entry.bytes.clone(),
    });
    let data = tarball::archive(&files.collect::<Vec<_>>())?;
    let mut archive = ar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", compress(&control)?),
        ("data.tar.gz", compress(&data)?),
    ] {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(source::epoch().into());
        archive.append(&header, bytes.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

fn control_files(
    program: &Program,
    target: &Target,
    entries: &[Entry],
) -> Result<Vec<tarball::File>> {
    let mut files = vec![
        tarball::File::text("./control", control(program, target, entries)),
        tarball::File::text("./conffiles", conffiles(entries)),
    ];
    for script in ["postinst", "prerm", "postrm"] {
        let text = source::read(&format!("packaging/debian/{script}"))?;
        files.push(tarball::File {
            path: format!("./{script}"),
            mode: 0o755,
            bytes: text.replace("@NAME@", program.name).into_bytes(),
        });
    }
    Ok(files)
}

fn control(program: &Program, target: &Target, entries: &[Entry]) -> String {
    let kibibytes = entries.iter().map(|entry| entry.bytes.len().div_ceil(1024));
    let description = program
        .description
        .lines()
        .fold(String::new(), |text, line| {
            format!("{text} {}\n", line.trim())
        });
    format!(
        "Package: {}\nVersion: {VERSION}\nSection: net\nPriority: optional\nArchitecture: {}\n\
        Maintainer: The 464XLAT developers <464xlat@localhost>\nInstalled-Size: {}\n\
        Description: {}\n{description}",
        program.name,
        target.debian(),
        kibibytes.sum::<usize>(),
        program.summary,
    )
}

fn conffiles(entries: &[Entry]) -> String {
    let files = entries.iter().filter(|entry| entry.is_configuration);
    files.fold(String::new(), |mut text, entry| {
        let _ = writeln!(text, "{}", entry.path.display());
        text
    })
}
