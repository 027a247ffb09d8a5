//! Manual pages and completions, from the definitions that parse the command line.

use anyhow::{Result, bail};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// A manual page.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) section: &'static str,
    pub(crate) text: String,
}

fn command(program: &str) -> Result<Command> {
    let mut command = match program {
        "clat" => clat::command(),
        "plat" => plat::command(),
        other => bail!("there is no program {other}"),
    };
    command.build();
    Ok(command.disable_help_subcommand(true))
}

/// `clat.8`, one page for each subcommand, and `clat.toml.5`.
pub(crate) fn manual(program: &str) -> Result<Vec<Page>> {
    let command = command(program)?;
    let mut pages = vec![page(&command, program.to_owned())?];
    for subcommand in command.get_subcommands() {
        if subcommand.get_name() == "help" {
            continue;
        }
        let name = format!("{program}-{}", subcommand.get_name());
        pages.push(page(&subcommand.clone(), name)?);
    }
    pages.push(Page {
        name: format!("{program}.toml"),
        section: "5",
        text: configuration(program, &command),
    });
    Ok(pages)
}

fn page(command: &Command, name: String) -> Result<Page> {
    let command = command.clone().display_name(name.clone());
    let man = Man::new(command)
        .section("8")
        .date("")
        .manual("System Administration");
    let mut text = Vec::new();
    man.render(&mut text)?;
    Ok(Page {
        name,
        section: "8",
        text: String::from_utf8(text)?,
    })
}

/// The configuration file: its keys are the flags of the daemon.
fn configuration(program: &str, command: &Command) -> String {
    let title = format!("{program}.toml");
    let mut page = Roff::new();
    page.control("TH", [title.as_str(), "5", "", "", "File Formats"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!(
        "{title} - configuration file of {program}(8)"
    ))]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(format!("/etc/{title}"))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A TOML file whose keys are the names of the flags, without the two hyphens. A table is the \
        first part of a name: interval in [ra] is ra-interval. A list is a flag that is given several \
        times; true is a flag without value. The command line overrides the file. An unknown key or a \
        value that is not valid ends the program before anything is changed, with file, line and key.",
    )]);
    page.control("SH", ["KEYS"]);
    for argument in command.get_arguments() {
        let Some(key) = argument.get_long() else {
            continue;
        };
        let is_no_key = ["help", "version", "config", "dry-run", "json"].contains(&key);
        if is_no_key || argument.is_hide_set() {
            continue;
        }
        page.control("TP", []);
        page.text(heading(key, argument));
        let help = argument.get_help().map(ToString::to_string);
        page.text([roman(help.unwrap_or_default() + &default(argument))]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold(program), roman("(8)")]);
    page.to_roff()
}

fn heading(key: &str, argument: &clap::Arg) -> Vec<Inline> {
    let takes_value = argument.get_action().takes_values();
    let names = argument.get_value_names().filter(|_| takes_value);
    let value = names.map_or("true".to_owned(), |names| names.join(" "));
    vec![bold(key), roman(" = "), italic(value)]
}

fn default(argument: &clap::Arg) -> String {
    let values = argument.get_default_values();
    let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
    match argument.get_action().takes_values() && !values.is_empty() {
        true => format!(" [default: {}]", values.join(" ")),
        false => String::new(),
    }
}

/// Completions with their places below `share`.
pub(crate) fn completions(program: &str) -> Vec<(String, Vec<u8>)> {
    let shells = [
        (
            Shell::Bash,
            format!("bash-completion/completions/{program}"),
        ),
        (Shell::Zsh, format!("zsh/site-functions/_{program}")),
        (
            Shell::Fish,
            format!("fish/vendor_completions.d/{program}.fish"),
        ),
    ];
    let Ok(command) = command(program) else {
        return Vec::new();
    };
    let generate = |(shell, path)| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), program, &mut text);
        (path, text)
    };
    shells.into_iter().map(generate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(program: &str, name: &str) -> String {
        let pages = manual(program).unwrap();
        let page = pages.into_iter().find(|page| page.name == name);
        page.unwrap().text.replace("\\-", "-")
    }

    #[test]
    fn pk_02_the_manual_has_every_flag_and_every_command() {
        for program in ["clat", "plat"] {
            let (main, file) = (
                text(program, program),
                text(program, &format!("{program}.toml")),
            );
            let command = command(program).unwrap();
            let shown = command.get_arguments().filter(|one| !one.is_hide_set());
            for key in shown.filter_map(|one| one.get_long()) {
                assert!(main.contains(&format!("--{key}")), "{program}: {key}");
            }
            for subcommand in command.get_subcommands() {
                let name = subcommand.get_name();
                assert!(main.contains(&format!("{program}-{name}(8)")), "{main}");
            }
            assert!(file.contains("mtu4"), "{file}");
            assert!(!file.contains("dry-run"), "{file}");
        }
        assert!(text("plat", "plat.toml").contains("dns64-upstream"));
        assert!(text("clat", "clat-detect").contains("--seconds"));
    }

    /// Of both programs: whether a key that a packaged file suggests is a flag.
    #[test]
    fn pk_02_the_packaged_files_suggest_keys_that_exist() {
        for program in ["clat", "plat"] {
            let text = crate::source::read(&format!("packaging/{program}.toml")).unwrap();
            let command = command(program).unwrap();
            let mut table = String::new();
            let mut count = 0;
            for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
                if let Some(name) = line.strip_prefix('[') {
                    table = name.trim_end_matches(']').to_owned() + "-";
                } else if let Some((key, _)) =
                    line.split_once(" = ").filter(|_| !line.starts_with(' '))
                {
                    let flag = format!("{table}{key}");
                    let is_it = |one: &clap::Arg| {
                        let aliases = one.get_visible_aliases().unwrap_or_default();
                        one.get_long() == Some(&flag) || aliases.contains(&flag.as_str())
                    };
                    assert!(command.get_arguments().any(is_it), "{program}: {flag}");
                    count += 1;
                }
            }
            assert!(count > 3, "{program}: {count}");
        }
    }
}
