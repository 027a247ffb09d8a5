//! What a reason for a drop means, for people who see it counted.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use xlat_core::DropReason;

/// Parses the name of a reason; shells complete it.
pub fn reason() -> impl TypedValueParser<Value = DropReason> {
    let names = DropReason::ALL.iter().map(|reason| reason.name());
    PossibleValuesParser::new(names).map(|name| named(&name))
}

fn named(name: &str) -> DropReason {
    let mut all = DropReason::ALL.iter().copied();
    match all.find(|reason| reason.name() == name) {
        Some(reason) => reason,
        None => unreachable!("the parser admits no other name than those of reasons"),
    }
}

/// What it means and what to do, in two lines.
pub fn text(reason: DropReason) -> String {
    let explanation = reason.explain();
    let (name, meaning, remedy) = (reason.name(), explanation.meaning, explanation.remedy);
    format!("{name}: {meaning}\nwhat to do: {remedy}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ui_07_every_reason_has_its_name() {
        for reason in DropReason::ALL {
            assert_eq!(named(reason.name()), *reason);
        }
        assert_eq!(
            text(DropReason::TableFull),
            "table-full: there are as many sessions as there may be\n\
             what to do: raise `--max-sessions`, or bound each subscriber (`--subscriber-sessions`)\n"
        );
    }
}
