//! Everything that is released, in one directory.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::binaries::{self, Target};
use crate::contents::{self, Layout};
use crate::output::{File, Staging};
use crate::sbom::Metadata;
use crate::source::{PROGRAMS, VERSION};
use crate::{deb, rpm, say, tarball};

pub(crate) fn run(target: Option<Target>, out: Option<PathBuf>) -> Result<()> {
    let target = target.map_or_else(Target::of_this_machine, Ok)?;
    let out = match out {
        Some(out) => std::path::absolute(out)?,
        None => binaries::target_directory()?.join("dist"),
    };
    // Before minutes of compilation.
    let mut staging = Staging::new(&out)?;
    let binaries = binaries::build(&target)?;
    let metadata = Metadata::read(&target)?;
    let mut local = Vec::new();
    for program in &PROGRAMS {
        let binary = binaries.read(program.name)?;
        staging.write(&format!("bin/{}", program.name), &binary, 0o755)?;
        let entries = contents::of(
            program.name,
            binary.clone(),
            &Layout::new(Path::new("/usr")),
        )?;
        let package = deb::package(program, &target, &entries)?;
        staging.write(&deb::file_name(program, &target), &package, 0o644)?;
        let package = rpm::package(program, &target, &entries)?;
        staging.write(&rpm::file_name(program, &target), &package, 0o644)?;
        let sbom = metadata.sbom(program.name)?;
        let name = format!("{}-{VERSION}.cdx.json", program.name);
        staging.write(&name, sbom.as_bytes(), 0o644)?;
        let layout = Layout::new(Path::new("/usr/local"));
        local.extend(contents::of(program.name, binary, &layout)?);
    }
    let archive = tarball::package(&target, &local)?;
    staging.write(&tarball::file_name(&target), &archive, 0o644)?;
    let files = staging.publish()?;
    say(&format!("{} for {}:", out.display(), target.name()));
    files.iter().for_each(|file| say(&line(file)));
    Ok(())
}

fn line(file: &File) -> String {
    format!("{:>9}  {}  {}", file.size, file.sha256, file.name)
}
