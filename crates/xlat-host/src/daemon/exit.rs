//! How a daemon exits: one line on standard error, and an exit code that tells usage errors from
//! system errors.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::control::ControlError;
use super::file;
use super::terminal::plain;

/// Success.
pub const DONE: u8 = 0;
/// A request to the system failed, or a part of the daemon did.
pub const SYSTEM: u8 = 1;
/// The command line is invalid.
pub const USAGE: u8 = 2;

/// Nothing is there: no daemon runs, nothing was found, or the daemon would wait.
pub const NOTHING: u8 = 3;

/// The exit codes, for the help of a command.
pub const CODES: &str = "Exit codes: 0 done, 1 the system refused, 2 wrong usage, 3 nothing there: no \
daemon runs, nothing was found, or it would wait";

/// Those of `doctor`, which has a verdict.
pub const DOCTOR_CODES: &str =
    "Exit codes: 0 no fault, 1 warnings alone, 2 IPv4 does not work, or wrong usage";

/// There is nothing of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Nothing(pub String);

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

/// Prints why a program ends, and returns its exit code.
pub fn fail(name: &str, error: &(dyn Error + 'static)) -> ExitCode {
    complain(name, &message(error));
    ExitCode::from(code(error))
}

fn code(error: &(dyn Error + 'static)) -> u8 {
    for cause in causes(error) {
        if cause.is::<Usage>() {
            return USAGE;
        }
        let is_nothing = matches!(
            cause.downcast_ref(),
            Some(ControlError::NotRunning(_) | ControlError::Nothing(_))
        );
        if is_nothing || cause.is::<Nothing>() {
            return NOTHING;
        }
    }
    SYSTEM
}

/// The error and its causes on one line. A cause that is told already is not told again.
pub fn message(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    for cause in causes(error).skip(1) {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        (*error).source()
    })
}

/// Prints the output of a command.
///
/// # Errors
/// If standard output does not take it. That its reader has gone is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
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

    #[test]
    fn ui_05_a_cause_is_told_once_and_the_code_says_what_kind_it_is() {
        let refused = || io::Error::from_raw_os_error(13);
        let bind = ControlError::Bind {
            path: "/run/x.sock".into(),
            source: refused(),
        };
        let text = super::message(&bind);
        assert_eq!(text.matches("os error").count(), 1, "{text}");
        assert_eq!(code(&bind), SYSTEM);
        assert_eq!(code(&Usage("no".into())), USAGE);
        assert_eq!(code(&Nothing("none".into())), NOTHING);
        assert_eq!(code(&ControlError::NotRunning("x".into())), NOTHING);
        assert_eq!(code(&ControlError::Nothing("x".into())), NOTHING);
        assert_eq!(code(&ControlError::Denied("x".into())), SYSTEM);
        assert_eq!(code(&ControlError::Silent), SYSTEM);
        let outer = io::Error::other(bind);
        assert_eq!(super::message(&outer).matches("os error").count(), 1);
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
