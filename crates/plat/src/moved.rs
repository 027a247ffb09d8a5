//! Sessions carried to another gateway: `plat export | ssh OTHER plat import-sessions`.
//!
//! The stream has the form of a state file (`daemon/saved_file.rs`): kind and version, the sessions, a
//! checksum of all. It is read to its end before anything in it is believed.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use anyhow::{Result, anyhow};
use xlat_host::daemon::control::{ControlError, ask, send};
use xlat_host::daemon::{exit, saved_file};

use crate::cli;
use crate::control::Request;

const KIND: &str = "export";
/// Begins the line of the time at which the sessions left, in seconds since 1970.
pub(crate) const AT: &str = "at ";
/// Begins the line that says which gateways can take them up with their ports.
pub(crate) const LAYOUT: &str = "layout ";
/// Begins the line with the number of sessions, the last one.
pub(crate) const TOTAL: &str = "total ";

/// Writes the sessions of the running daemon to standard output.
pub(crate) fn export(flags: cli::Export) -> Result<()> {
    let place = flags.place;
    let request = Request::Export {
        client: flags.client,
        external: flags.external,
    };
    let mut unanswered = None;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = saved_file::write(&mut out, KIND, |out| {
        let mut whole = Whole::default();
        let asked = ask(&place.run_dir, &place.tun, &request, |line| {
            whole.see(line);
            out.write_all(line.as_bytes())
        });
        match asked {
            Err(ControlError::Broken(error)) => Err(error),
            Err(error) => {
                unanswered = Some(error);
                Err(io::ErrorKind::Other.into())
            }
            Ok(()) if !whole.is_it() => Err(io::Error::other("the daemon has ended meanwhile")),
            Ok(()) => Ok(()),
        }
    });
    if let Some(error) = unanswered {
        return Err(error.into());
    }
    written.and_then(|()| out.flush())?;
    Ok(())
}

/// Whether all lines have come that the last one speaks of.
#[derive(Default)]
struct Whole {
    sessions: u64,
    total: Option<u64>,
}

impl Whole {
    fn see(&mut self, line: &str) {
        if let Some(total) = line.strip_prefix(TOTAL) {
            self.total = total.trim_end().parse().ok();
        } else if !line.starts_with(AT) && !line.starts_with(LAYOUT) {
            self.sessions += 1;
        }
    }

    fn is_it(&self) -> bool {
        self.total == Some(self.sessions)
    }
}

/// Gives the sessions on standard input to the running daemon.
pub(crate) fn import(flags: &cli::ImportSessions) -> Result<()> {
    let spooled = saved_file::spool(io::stdin().lock())?;
    let stream = Stream::open(spooled)?;
    let (at, layout) = (stream.at, stream.layout);
    let request = Request::ImportSessions { at, layout };
    let place = &flags.place;
    send(
        &place.run_dir,
        &place.tun,
        &request,
        stream.sessions,
        exit::print,
    )?;
    Ok(())
}

/// A stream whose checksum is right.
struct Stream<R> {
    at: u64,
    layout: String,
    /// The lines of the sessions, and the last one.
    sessions: R,
}

impl Stream<()> {
    fn open(file: File) -> Result<Stream<impl Read>> {
        let refuse = |why: &str| {
            anyhow!(
                "standard input is no whole `plat export`, and nothing is taken up ({why}): \
                 export the sessions again"
            )
        };
        let saved = saved_file::open(file, KIND).map_err(|why| refuse(&why))?;
        if saved.is_old {
            return Err(refuse("its first line is another"));
        }
        let mut sessions = saved.body;
        let mut field = |name: &str| -> Result<String> {
            let mut line = String::new();
            sessions.read_line(&mut line)?;
            let value = line.trim_end().strip_prefix(name);
            value.map(str::to_owned).ok_or_else(|| refuse(name.trim()))
        };
        let at = field(AT)?.parse().map_err(|_| refuse(AT.trim()))?;
        let layout = field(LAYOUT)?;
        Ok(Stream {
            at,
            layout,
            sessions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        saved_file::write(&mut bytes, KIND, |out| {
            writeln!(out, "{AT}1790000000\n{LAYOUT}0123456789abcdef")?;
            for port in 2000..2003 {
                writeln!(
                    out,
                    "udp 2001:db8::7 {port} 192.0.2.1 {port} 198.51.100.7 53 64:ff9b::/96 - 1790000100"
                )?;
            }
            writeln!(out, "{TOTAL}3")
        })
        .unwrap();
        bytes
    }

    fn open(bytes: &[u8]) -> Result<(u64, String, String)> {
        let mut stream = Stream::open(saved_file::spool(bytes)?)?;
        let mut sessions = String::new();
        stream.sessions.read_to_string(&mut sessions)?;
        Ok((stream.at, stream.layout, sessions))
    }

    #[test]
    fn sc_05_a_stream_that_is_damaged_anywhere_is_refused_as_a_whole() {
        let whole = stream();
        let (at, layout, sessions) = open(&whole).unwrap();
        assert_eq!((at, layout.as_str()), (1_790_000_000, "0123456789abcdef"));
        assert_eq!(sessions.lines().count(), 4);
        for place in 0..whole.len() {
            assert!(open(&whole[..place]).is_err(), "cut at {place}");
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[place] ^= 1 << bit;
                assert!(open(&damaged).is_err(), "bit {bit} of byte {place}");
            }
            let mut longer = whole.clone();
            longer.insert(place, b'7');
            assert!(open(&longer).is_err(), "one more at {place}");
        }
        let twice = [&*whole, &*whole].concat();
        assert!(open(&twice).is_err());
        let other = String::from_utf8(whole)
            .unwrap()
            .replace("export 2", "export 3");
        assert!(open(other.as_bytes()).is_err());
    }

    #[test]
    fn sc_05_an_answer_that_ends_early_is_no_export() {
        let lines = ["at 1\n", "layout 0\n", "udp a\n", "udp b\n", "total 2\n"];
        for count in 0..=lines.len() {
            let mut whole = Whole::default();
            lines[..count].iter().for_each(|line| whole.see(line));
            assert_eq!(whole.is_it(), count == lines.len());
        }
    }
}
