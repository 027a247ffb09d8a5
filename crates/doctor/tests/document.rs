//! The document is what the list of checks says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::disallowed_methods, reason = "this test reads the tree")]

#[test]
fn dr_04_troubleshooting_is_made_of_the_list_of_checks() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/troubleshooting.md");
    let made = doctor::document::troubleshooting();
    if std::env::var_os("WRITE_DOCUMENTS").is_some() {
        std::fs::write(page, &made).unwrap();
    }
    let written = std::fs::read_to_string(page).unwrap();
    assert!(
        written == made,
        "docs/troubleshooting.md differs from the list; WRITE_DOCUMENTS=1 cargo test -p doctor writes it"
    );
}
