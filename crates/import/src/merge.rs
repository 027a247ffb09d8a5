//! One configuration of several files: what contradicts itself is refused.

use std::collections::BTreeMap;

use xlat_core::addr::{Ipv4Prefix, Pref64};

use crate::Program;
use crate::found::{Found, Role, Value};
use crate::render::KEYS;

/// Merges what was found.
pub(crate) fn merge(program: Program, found: &mut Found) {
    prefixes(program, found);
    settings(found);
    leases(found);
    if program == Program::Plat && !found.has_translator {
        found.differs(
            "these files say nothing of a translator, and plat is one: its clients share the IPv4 \
             address of the interface with the IPv4 default route, ports 10000 to 32767 (`pool`)",
        );
    }
}

/// The prefixes of the translator; those that are announced or used for DNS64 must be the same.
fn prefixes(program: Program, found: &mut Found) {
    let all = std::mem::take(&mut found.prefixes);
    let of_translator = |role: Role| role == Role::Translates;
    let mut kept: Vec<Pref64> = Vec::new();
    let has_translator = all.iter().any(|(_, role, _)| of_translator(*role));
    for (prefix, role, from) in &all {
        if has_translator && !of_translator(*role) {
            continue;
        }
        let is_new = !kept.iter().any(|have| have.prefix() == prefix.prefix());
        if is_new && !kept.is_empty() && (program == Program::Clat || !has_translator) {
            found.error(
                &from.at,
                format!(
                    "the NAT64 prefix is {prefix} here, and {} elsewhere",
                    kept[0]
                ),
            );
            continue;
        }
        if is_new {
            kept.push(*prefix);
            found.set("prefix", prefix.to_string(), from);
        }
    }
    if !has_translator {
        return;
    }
    for (prefix, role, from) in all.iter().filter(|(_, role, _)| !of_translator(*role)) {
        if !kept.iter().any(|have| have.prefix() == prefix.prefix()) {
            let what = match role {
                Role::Announces => "announced",
                _ => "used for DNS64",
            };
            found.error(
                &from.at,
                format!(
                    "{prefix} is {what} here, but the translator has {}",
                    kept.iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            );
        }
    }
}

/// Removes what is said twice, and refuses what is said in two ways.
fn settings(found: &mut Found) {
    let mut kept: BTreeMap<(&str, String), ()> = BTreeMap::new();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut settings = Vec::new();
    for setting in std::mem::take(&mut found.settings) {
        let is_list = KEYS
            .iter()
            .any(|(key, is_list)| *key == setting.key && *is_list);
        if kept
            .insert((setting.key, format!("{:?}", setting.value)), ())
            .is_some()
        {
            continue;
        }
        if let (false, Some(&have)) = (is_list, first.get(setting.key)) {
            let have: &crate::found::Setting = &settings[have];
            let message = format!(
                "{} is {} here, and {} in {}:{}",
                setting.key,
                plain_value(&setting.value),
                plain_value(&have.value),
                have.from.at.file,
                have.from.at.line
            );
            let hint = match setting.key.starts_with("ra-") {
                true => "; plat announces the same on all its interfaces: choose some with --lan",
                false => "",
            };
            found.error(&setting.from.at, message + hint);
            continue;
        }
        first.entry(setting.key).or_insert(settings.len());
        settings.push(setting);
    }
    found.settings = settings;
}

fn plain_value(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("`{text}`"),
        Value::Number(number) => number.to_string(),
        Value::Bool(on) => on.to_string(),
    }
}

/// Leaves out leases that the pool does not have, and refuses two of one address.
fn leases(found: &mut Found) {
    let pool = found
        .settings
        .iter()
        .find(|setting| setting.key == "dynamic-pool");
    let pool: Option<Ipv4Prefix> = match pool.map(|setting| &setting.value) {
        Some(Value::Text(text)) => text.parse().ok(),
        _ => None,
    };
    let (mut by_v4, mut by_v6) = (BTreeMap::new(), BTreeMap::new());
    let mut kept = Vec::new();
    for (from, lease) in std::mem::take(&mut found.leases) {
        if pool.is_some_and(|pool| !pool.contains(lease.v4)) {
            found.leave(&from, "it is outside of dynamic-pool");
            continue;
        }
        let other = by_v4
            .get(&lease.v4)
            .map(|other| (lease.v4.to_string(), other));
        let other = other.or_else(|| {
            by_v6
                .get(&lease.v6)
                .map(|other| (lease.v6.to_string(), other))
        });
        if let Some((address, other)) = other {
            let message = format!("{address} has another lease in {other}");
            found.error(&from.at, message);
            continue;
        }
        let place = format!("{}:{}", from.at.file, from.at.line);
        by_v4.insert(lease.v4, place.clone());
        by_v6.insert(lease.v6, place);
        kept.push((from, lease));
    }
    found.leases = kept;
}
