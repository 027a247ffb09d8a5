//! How a daemon exits: one line on standard error, and an exit code that tells usage errors from
//! system errors.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::file;
use super::terminal::plain;

/// Success.
pub const DONE: u8 = 0;
/// A request to the system failed, or a part of the daemon did.
pub const SYSTEM: u8 = 1;
/// The command line is invalid.
pub const USAGE: u8 = 2;

/// A command line that is found invalid only after parsing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Parses the command line of the program `name`, and the configuration file that it names.
///
/// # Errors
/// The exit code, after help, the version or an error message of one line was printed.
pub fn parse<C: Parser>(
    name: &str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<C, ExitCode> {
    let args = args.into_iter().collect();
    let args = file::expand(&C::command(), args, one_line).map_err(|error| {
        complain(name, &error.to_string());
        ExitCode::from(USAGE)
    })?;
    C::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // If this fails, the reader has closed its end.
            drop(error.print());
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
        _ => {
            complain(name, &one_line(&error));
            ExitCode::from(USAGE)
        }
    })
}

/// Prints one line on standard error.
#[expect(
    clippy::print_stderr,
    reason = "this is the place where errors are printed"
)]
pub fn complain(name: &str, line: &str) {
    eprintln!("{name}: {}", plain(line));
}

/// The message of a clap error on one line, without usage and tips but with a pointer to `--help`.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or_default();
    let message = message.split("\n\nFor more").next().unwrap_or_default();
    let message = message.trim_start_matches("error: ");
    let words: Vec<&str> = message.split_whitespace().collect();
    format!("{}; see --help", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        number: u8,
    }

    fn message(args: &[&str]) -> String {
        one_line(&Cli::try_parse_from([&["x"], args].concat()).unwrap_err())
    }

    #[test]
    fn a_complaint_is_one_line_that_names_the_flag() {
        let wrong = message(&["--number", "300"]);
        assert!(
            wrong.starts_with("invalid value '300' for '--number <NUMBER>'"),
            "{wrong}"
        );
        let missing = message(&[]);
        assert!(missing.contains("--number"), "{missing}");
        assert!(!wrong.contains('\n') && !missing.contains('\n'));
    }
}
