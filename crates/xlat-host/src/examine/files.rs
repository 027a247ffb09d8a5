//! The daemon's files, and the clock, of which they tell something.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doctor::{Finding, checks};

use crate::daemon::wall_clock::epoch;
use crate::private_dir::PrivateDir;

/// Seconds since 1970 at the start of March 2025: no version of this program is as old.
const NO_EARLIER: u64 = 1_740_787_200;
/// How far clocks of file systems may be ahead.
const AHEAD: u64 = 60;

/// Whether the daemon can keep its files in these directories.
pub fn state_files(directories: &[&Path]) -> Vec<Finding> {
    directories.iter().map(|path| of_directory(path)).collect()
}

fn of_directory(path: &Path) -> Finding {
    let check = &checks::STATE_FILES;
    let shown = path.display();
    match PrivateDir::open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return check.ok(format!("the start makes {shown}"));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !is_refused(&error) => {
            return check.skipped(format!("{shown}: {error}"));
        }
        Err(error) => return check.fail(format!("{shown}: {error}")),
    }
    let names = fs::read_dir(path).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut damaged: Vec<String> = names.filter(|name| name.contains(".damaged")).collect();
    damaged.sort();
    match &damaged[..] {
        [] => check.ok(format!("{shown} is private")),
        names => check.warn(format!(
            "damaged and set aside in {shown}: {}",
            names.join(", ")
        )),
    }
}

/// True for the refusal of a directory by this program, not by the kernel.
fn is_refused(error: &std::io::Error) -> bool {
    error.raw_os_error().is_none()
}

/// Whether the clock can be right.
pub fn clock(directories: &[&Path]) -> Finding {
    match clock_doubt(directories, epoch()) {
        Some(doubt) => checks::CLOCK.warn(doubt),
        None => checks::CLOCK.ok("it is not behind this program and its files"),
    }
}

/// Why a clock that says `now`, in seconds since 1970, cannot be right; `None` if it can. The files are
/// those that the daemon wrote into these directories.
pub fn clock_doubt(directories: &[&Path], now: u64) -> Option<String> {
    if now < NO_EARLIER {
        return Some("the clock says a time before this program was made".into());
    }
    let files = directories
        .iter()
        .flat_map(|path| fs::read_dir(path).into_iter().flatten());
    let newest = files
        .flatten()
        .filter_map(|file| {
            Some((
                epoch_of(file.metadata().ok()?.modified().ok()?),
                file.path(),
            ))
        })
        .max()?;
    let (written, path) = newest;
    let ahead = written.checked_sub(now).filter(|ahead| *ahead > AHEAD)?;
    let ahead = humane(ahead);
    Some(format!(
        "{} was written {ahead} after now: the clock was set back",
        path.display()
    ))
}

fn epoch_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since: Duration| since.as_secs())
}

fn humane(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    use doctor::Outcome;

    use super::*;

    #[test]
    fn dr_08_a_clock_behind_the_daemons_own_files_was_set_back() {
        let directory = tempfile::tempdir().unwrap();
        let paths = [directory.path(), Path::new("/nowhere")];
        let now = 1_800_000_000;
        assert_eq!(clock_doubt(&paths, now), None);
        assert!(
            clock_doubt(&paths, 946_684_800)
                .unwrap()
                .contains("before this program")
        );
        let file = File::create(directory.path().join("secret")).unwrap();
        let written = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_modified(written(now + 60)).unwrap();
        assert_eq!(clock_doubt(&paths, now), None);
        file.set_modified(written(now + 3 * 86400)).unwrap();
        let doubt = clock_doubt(&paths, now).unwrap();
        assert!(
            doubt.contains("secret was written 3 days after now"),
            "{doubt}"
        );
    }

    #[test]
    fn dr_08_a_directory_of_everyone_and_damaged_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let outcome = || {
            let found = state_files(&[&path]).remove(0);
            (found.outcome, found.evidence)
        };
        assert_eq!(outcome().0, Outcome::Ok);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(outcome().0, Outcome::Ok);
        File::create(path.join("sessions.damaged")).unwrap();
        let (worse, text) = outcome();
        assert!(
            worse == Outcome::Warn && text.ends_with(": sessions.damaged"),
            "{text}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let (worst, text) = outcome();
        assert_eq!(worst, Outcome::Fail, "{text}");
    }
}
