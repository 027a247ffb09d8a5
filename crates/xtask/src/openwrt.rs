//! OpenWrt's scripts against the command lines: they name flags, and know which take no value.

use clap::{ArgAction, Command};

use crate::source;

/// The words of `NAME="..."` in a shell script.
fn words(script: &str, name: &str) -> Vec<String> {
    let text = source::read(script).unwrap().replace("\\\n", " ");
    let start = format!("\n{name}=\"");
    let (_, behind) = text.split_once(&start).unwrap();
    let (words, _) = behind.split_once('"').unwrap();
    words
        .split_whitespace()
        .map(|word| word.replace('_', "-"))
        .collect()
}

/// The flags of a command whose action is this one.
fn flags(command: &Command, is_it: fn(&ArgAction) -> bool) -> Vec<String> {
    let arguments = command.get_arguments();
    let chosen = arguments.filter(|argument| is_it(argument.get_action()));
    let mut flags: Vec<String> = chosen
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect();
    flags.sort();
    flags
}

fn takes_no_value(action: &ArgAction) -> bool {
    matches!(action, ArgAction::SetTrue)
}

#[test]
fn pk_06_the_protocol_of_netifd_names_flags_of_clat() {
    let script = "packaging/openwrt/files/clat.sh";
    let command = clat::command();
    for (name, is_it) in [
        (
            "CLAT_STRINGS",
            (|action| matches!(action, ArgAction::Set)) as fn(&ArgAction) -> bool,
        ),
        ("CLAT_LISTS", |action| matches!(action, ArgAction::Append)),
        ("CLAT_SWITCHES", takes_no_value),
    ] {
        let mut known = flags(&command, is_it);
        // Older names of flags go on to be read, and so do the options of netifd that have them.
        let aliases = command
            .get_arguments()
            .filter_map(clap::Arg::get_all_aliases);
        known.extend(aliases.flatten().map(str::to_owned));
        let unknown: Vec<String> = words(script, name)
            .into_iter()
            .filter(|word| !known.contains(word))
            .collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?} not in {known:?}");
    }
}

#[test]
fn pk_06_the_service_of_procd_knows_which_flags_of_plat_take_no_value() {
    let mut words = words("packaging/openwrt/files/plat.init", "PLAT_SWITCHES");
    words.sort();
    let mut known = flags(&plat::command(), takes_no_value);
    known.retain(|flag| !["dry-run", "json"].contains(&flag.as_str()));
    assert_eq!(words, known);
}
