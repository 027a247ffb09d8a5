//! The tables of `docs/configuration.md` against the definitions that parse the command line.

use std::collections::BTreeMap;

use clap::Arg;

use crate::source;

/// A row of a table: values and defaults of a flag, as the page has them.
struct Row {
    value: String,
    default: String,
}

/// The rows by their flags. A bar in a cell is written `\|`.
fn rows() -> BTreeMap<String, Vec<Row>> {
    let page = source::read("docs/configuration.md").unwrap();
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `-")) {
        let line = line.replace("\\|", "\u{a6}");
        let cells: Vec<String> = line
            .split('|')
            .map(|cell| cell.trim().replace('\u{a6}', "|"))
            .collect();
        let [_, flags, default, ..] = &cells[..] else {
            panic!("{line}");
        };
        for code in flags.split('`').skip(1).step_by(2) {
            let Some(flag) = code.strip_prefix("--") else {
                continue;
            };
            let (flag, value) = flag.split_once(' ').unwrap_or((flag, ""));
            rows.entry(flag.to_owned()).or_default().push(Row {
                value: value.to_owned(),
                default: default.replace('`', ""),
            });
        }
    }
    rows
}

/// What may stand behind a flag: the name of its value, or all its values.
fn values(argument: &Arg) -> Vec<String> {
    let names = argument.get_value_names().unwrap_or_default();
    let possible = argument.get_possible_values();
    let shown = possible.iter().filter(|value| !value.is_hide_set());
    let each: Vec<&str> = shown.map(|value| value.get_name()).collect();
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    vec![names.join(" "), each.join("|")]
}

fn fault(argument: &Arg, rows: &BTreeMap<String, Vec<Row>>) -> Option<String> {
    let flag = argument.get_long()?;
    let Some(rows) = rows.get(flag) else {
        return Some(format!("--{flag} has no row"));
    };
    if !argument.get_action().takes_values() {
        return None;
    }
    let values = values(argument);
    if !rows
        .iter()
        .any(|row| row.value.is_empty() || values.contains(&row.value))
    {
        let written: Vec<&str> = rows.iter().map(|row| row.value.as_str()).collect();
        return Some(format!("--{flag} takes {values:?}, not {written:?}"));
    }
    let defaults = argument.get_default_values().iter();
    let mut defaults = defaults.map(|value| value.to_string_lossy().into_owned());
    let wrong = defaults.find(|value| !rows.iter().any(|row| row.default.contains(value)))?;
    Some(format!("the default of --{flag} is {wrong}"))
}

#[test]
fn pk_08_the_tables_of_the_documentation_have_every_flag_with_its_value_and_default() {
    let rows = rows();
    let mut faults = Vec::new();
    for (program, command) in [("clat", clat::command()), ("plat", plat::command())] {
        let shown = command.get_arguments().filter(|one| !one.is_hide_set());
        let known = shown.filter(|one| !["help", "version"].contains(&one.get_id().as_str()));
        let found = known.filter_map(|argument| fault(argument, &rows));
        faults.extend(found.map(|fault| format!("{program}: {fault}")));
    }
    assert!(faults.is_empty(), "docs/configuration.md: {faults:#?}");
}

#[test]
fn pk_08_a_row_that_says_something_else_is_found() {
    let row = |value: &str, default: &str| {
        let row = Row {
            value: value.to_owned(),
            default: default.to_owned(),
        };
        BTreeMap::from([("mtu".to_owned(), vec![row])])
    };
    let argument = Arg::new("mtu")
        .long("mtu")
        .value_name("BYTES")
        .default_value("1500");
    assert_eq!(fault(&argument, &row("BYTES", "1500")), None);
    for (rows, expected) in [
        (row("N", "1500"), "--mtu takes"),
        (row("BYTES", "1280"), "the default of --mtu is 1500"),
        (BTreeMap::new(), "--mtu has no row"),
    ] {
        assert!(fault(&argument, &rows).unwrap().starts_with(expected));
    }
}
