//! Configurations of other programs.

use import::{File, Format, Includes, Options, Program};

/// Each file includes itself.
struct Itself<'a>(&'a [u8]);

impl Includes for Itself<'_> {
    fn find(&self, pattern: &str, _: &str) -> Result<Vec<File>, String> {
        let short = self.0.get(..self.0.len().min(200)).unwrap_or_default();
        Ok(vec![File {
            name: pattern.into(),
            bytes: short.into(),
        }])
    }
}

/// Any bytes are refused with a place in them, or become a file that reads as TOML.
///
/// # Panics
/// If they do not.
fn import(data: &[u8], formats: &[Format]) {
    let options = formats.iter().map(|format| Some(*format)).chain([None]);
    for (format, program) in
        options.flat_map(|format| [Program::Clat, Program::Plat].map(|program| (format, program)))
    {
        let file = File {
            name: "file".into(),
            bytes: data.into(),
        };
        let options = Options {
            format,
            ..Options::default()
        };
        match import::import(program, &[file], &options, &Itself(data)) {
            Ok(imported) => {
                let read = imported.toml.parse::<toml::Table>();
                assert!(read.is_ok(), "{read:?} in {}", imported.toml);
            }
            Err(errors) => assert!(
                !errors.is_empty() && errors.iter().all(|error| error.at.line > 0),
                "{errors:?}"
            ),
        }
    }
}

/// `tayga.conf`.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_tayga(data: &[u8]) {
    import(data, &[Format::Tayga]);
}

/// Jool's JSON.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_jool(data: &[u8]) {
    import(data, &[Format::Jool, Format::JoolSiit]);
}

/// Lists of Jool's commands.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_jool_commands(data: &[u8]) {
    import(data, &[Format::JoolCommands]);
}

/// Jool's binding table.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_jool_bib(data: &[u8]) {
    import(data, &[Format::JoolBib]);
}

/// TAYGA's leases.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_dynamic_map(data: &[u8]) {
    import(data, &[Format::DynamicMap]);
}

/// Tundra's configuration.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_tundra(data: &[u8]) {
    import(data, &[Format::Tundra]);
}

/// `radvd.conf`.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_radvd(data: &[u8]) {
    import(data, &[Format::Radvd]);
}

/// `unbound.conf`.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_unbound(data: &[u8]) {
    import(data, &[Format::Unbound]);
}

/// `named.conf`.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_named(data: &[u8]) {
    import(data, &[Format::Named]);
}

/// `clatd.conf`.
///
/// # Panics
/// If what is accepted is no TOML.
pub fn import_clatd(data: &[u8]) {
    import(data, &[Format::Clatd]);
}
