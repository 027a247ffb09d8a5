//! The report on standard output.

use std::io::{self, IsTerminal, Write};

use doctor::{Look, Report};
use rustix::termios::tcgetwinsize;

use crate::daemon::terminal::plain;

/// Prints the report. A reader who has closed the pipe is no error.
///
/// # Errors
/// If standard output cannot be written.
pub fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let text = match json {
        true => report.to_json(),
        false => text(report, out.is_terminal()),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn text(report: &Report, is_terminal: bool) -> String {
    if !is_terminal {
        return plain(&report.to_text(Look::default())).into_owned();
    }
    let width = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    let wants_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let look = Look {
        width: if width == 0 { 80 } else { width },
        colours: false,
    };
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match wants_colours && !is_dumb {
        // What others have named is made plain first: colours are the only codes that are left.
        true => report.plain(|text| plain(text).into_owned()).to_text(Look {
            colours: true,
            ..look
        }),
        false => plain(&report.to_text(look)).into_owned(),
    }
}
