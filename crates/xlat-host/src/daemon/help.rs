//! Two lengths of help, and of the version: `-h` is one screen with what is used often, `--help` has
//! everything.

use std::sync::OnceLock;

use clap::Arg;

/// Where the flags are that say how a daemon runs.
pub const HOW: &str = "How it runs";

/// Where the flags are that few need; it is the last group.
pub const RARE: &str = "Rarely used";

/// For `mut_args` of a command: `-h` shows these flags alone.
pub fn short(frequent: &'static [&'static str]) -> impl Fn(Arg) -> Arg {
    move |arg| {
        let is_frequent = frequent.contains(&arg.get_id().as_str());
        arg.hide_short_help(!is_frequent)
    }
}

/// The long version of a program: its number, commit, target and features. The commit is what
/// `XLAT_COMMIT` was when it was compiled: a build of an archive knows of none.
pub fn version(number: &str, features: &[&str]) -> &'static str {
    // A program has one.
    static VERSION: OnceLock<String> = OnceLock::new();
    let commit = option_env!("XLAT_COMMIT").filter(|commit| !commit.is_empty());
    let features = match features {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    let (commit, target) = (commit.unwrap_or("unknown"), env!("XLAT_TARGET"));
    VERSION.get_or_init(|| {
        format!("{number}\ncommit    {commit}\ntarget    {target}\nfeatures  {features}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ui_17_the_long_version_has_commit_target_and_features() {
        let text = version("1.2.3", &["tls"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "1.2.3"));
        assert!(lines[1].starts_with("commit    "), "{text}");
        assert!(lines[2].contains(std::env::consts::ARCH), "{text}");
        assert_eq!(lines[3], "features  tls");
    }
}
