//! What all formats have in common.

use super::*;

/// One file that can be included.
struct One;

impl Includes for One {
    fn find(&self, pattern: &str, _: &str) -> Result<Vec<File>, String> {
        match pattern {
            "more.map" => Ok(vec![file(
                "more.map",
                "# maps\nmap 198.51.100.99 2001:db8::99\n",
            )]),
            "conf.d/*.conf" => Ok(vec![file(
                "conf.d/a.conf",
                "server:\n  access-control: 2001:db8:1::/48 allow\n",
            )]),
            "acls" => Ok(vec![file("acls", "acl ours { 2001:db8:1::/48; 10/8; };\n")]),
            other => Err(format!("there is no {other}")),
        }
    }
}

fn file(name: &str, text: &str) -> File {
    File {
        name: name.into(),
        bytes: text.into(),
    }
}

fn run(program: Program, files: &[(&str, &str)]) -> Result<Imported, Vec<String>> {
    let files: Vec<File> = files.iter().map(|(name, text)| file(name, text)).collect();
    let imported = super::import(program, &files, &Options::default(), &One);
    imported.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The configuration of `plat` that these files become.
#[track_caller]
pub(crate) fn import(files: &[(&str, &str)]) -> (String, Vec<Lease>) {
    let imported = run(Program::Plat, files).unwrap();
    (imported.toml, imported.leases)
}

/// The configuration of `clat` that these files become.
#[track_caller]
pub(crate) fn import_clat(files: &[(&str, &str)]) -> String {
    run(Program::Clat, files).unwrap().toml
}

/// What is wrong with these files.
#[track_caller]
pub(crate) fn errors(files: &[(&str, &str)]) -> Vec<String> {
    run(Program::Plat, files).unwrap_err()
}

/// The same for `clat`.
#[track_caller]
pub(crate) fn clat_errors(files: &[(&str, &str)]) -> Vec<String> {
    run(Program::Clat, files).unwrap_err()
}

#[test]
fn im_05_a_file_that_is_of_no_format_or_of_the_other_program_is_refused() {
    let unknown = errors(&[("x", "hello world\n")]);
    assert!(
        unknown[0].starts_with("x:1:1: the contents do not tell which program this is for"),
        "{unknown:?}"
    );
    let other = errors(&[("clatd.conf", "plat-dev=wan0\n")]);
    assert_eq!(
        other,
        ["clatd.conf:1:1: this is in the format of clatd: `clat import` reads it, not plat"]
    );
}

#[test]
fn im_06_a_long_file_takes_no_longer_than_its_length() {
    let maps: String = (0..20_000_u32)
        .map(|number| {
            let v4 = std::net::Ipv4Addr::from_bits(0xc633_0000 + number);
            format!("map {v4} 2001:db8::{number:x}:1\n",)
        })
        .collect();
    let text = format!("tun-device nat64\nipv4-addr 192.0.2.1\nprefix 2001:db8:64::/96\n{maps}");
    let imported = run(Program::Plat, &[("tayga.conf", &text)]).unwrap();
    assert_eq!(imported.values, 20_003);
    let forwarders = "192.0.2.1; ".repeat(100_000);
    let text = format!(
        "options {{ dns64 64:ff9b::/96 {{ }}; listen-on-v6 {{ 2001:db8::53; }};\n\
         forwarders {{\n{forwarders}}}; }};\n// the end\n"
    );
    let imported = run(Program::Plat, &[("named.conf", &text)]).unwrap();
    assert_eq!(imported.values, 3);
    let one_line = "x".repeat(10 << 20);
    let errors = clat_errors(&[("clatd.conf", &format!("plat-dev=wan0\n{one_line}"))]);
    assert_eq!(
        errors,
        ["clatd.conf:2:1: a line of clatd.conf has the form `key=value`"]
    );
}

#[test]
fn im_07_no_text_of_a_file_gets_out_of_a_comment() {
    let text = "clat-dev=a\"b\\c\nscript-up=x\u{b}y\rplat-dev = \"evil\"\n";
    let toml = import_clat(&[("a\nb.conf", text)]);
    assert!(
        toml.contains("tun = \"a\\\"b\\\\c\"  # a b.conf:1: "),
        "{toml}"
    );
    assert!(
        toml.contains("# not carried over: a b.conf:2: script-up=x y plat-dev"),
        "{toml}"
    );
    assert!(!toml.contains("\nplat-dev"), "{toml}");
}
