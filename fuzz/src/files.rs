//! Files that a daemon has left, damaged or forged.

use nat64::snapshot::SavedSession;
use xlat_host::host::believed_lines;

/// A file, read as each that there is: what is believed reads back the same when it is written, and no
/// journal undoes a parameter that is not the network's.
///
/// # Panics
/// If it does.
pub fn files(data: &[u8]) {
    let lines = believed_lines(data);
    let again = believed_lines(lines.concat().as_bytes());
    assert_eq!(lines, again);
    for line in &lines {
        for key in line.split("\"key\":\"").skip(1) {
            assert!(key.starts_with("net."), "{line}");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for line in text.lines() {
        if let Ok(session) = line.parse::<SavedSession>() {
            assert_eq!(session.to_string().parse(), Ok(session), "{line}");
        }
    }
}
