//! RPM packages, by the crate `rpm`.

use anyhow::Result;
use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

use crate::binaries::Target;
use crate::contents::Entry;
use crate::source::{self, Program, VERSION};

const RELEASE: &str = "1";

/// The name of the file.
pub(crate) fn file_name(program: &Program, target: &Target) -> String {
    format!("{}-{VERSION}-{RELEASE}.{}.rpm", program.name, target.rpm())
}

/// The whole package.
pub(crate) fn package(program: &Program, target: &Target, entries: &[Entry]) -> Result<Vec<u8>> {
    let license = "MIT OR Apache-2.0";
    let mut builder = PackageBuilder::new(
        program.name,
        VERSION,
        license,
        target.rpm(),
        program.summary,
    );
    let config = BuildConfig::v4()
        .source_date(source::epoch())
        .compression(CompressionType::Gzip);
    builder.using_config(config);
    builder.release(RELEASE).description(program.description);
    builder.build_host("localhost");
    for entry in entries {
        let options = FileOptions::new(entry.path.display().to_string());
        let options = options.permissions(entry.mode as u16);
        let options = match entry.is_configuration {
            true => options.config().noreplace(),
            false => options,
        };
        builder.with_file_contents(entry.bytes.clone(), options)?;
    }
    let script = |name: &str| -> Result<String> {
        let text = source::read(&format!("packaging/rpm/{name}"))?;
        Ok(text.replace("@NAME@", program.name))
    };
    builder.post_install_script(script("post")?);
    builder.pre_uninstall_script(script("preun")?);
    builder.post_uninstall_script(script("postun")?);
    let mut bytes = Vec::new();
    builder.build()?.write(&mut bytes)?;
    Ok(bytes)
}
