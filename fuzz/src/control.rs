//! Requests to the control socket.

use serde::Deserialize;
use xlat_host::daemon::control::admit;

/// Requests as the daemons have them.
#[derive(Debug, Deserialize)]
enum Request {
    Reload,
    Status {
        #[serde(rename = "json")]
        _json: bool,
    },
    Sessions {
        #[serde(rename = "json")]
        _json: bool,
        #[serde(rename = "client")]
        _client: Option<String>,
    },
}

/// A line: the members of `--status-group` get the status and nothing else, and nobody is
/// refused without a reason.
///
/// # Panics
/// If they get more.
pub fn control(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else {
        return;
    };
    match admit::<Request>(line, false) {
        Ok(Request::Status { .. }) => assert!(admit::<Request>(line, true).is_ok()),
        Ok(Request::Reload | Request::Sessions { .. }) => panic!("more than the status: {line}"),
        Err(reason) => assert!(!reason.is_empty()),
    }
}
