//! The set-up of a namespace as text, to compare before and after: links, addresses, routes, rules
//! and neighbours as the kernel lists them, and every value below `net/*/conf`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use xlat_host::host::Host;

use crate::namespace::Namespace;

/// A line for each fact, sorted.
pub type Facts = BTreeSet<String>;

/// Looks at everything that a daemon may change in a namespace.
///
/// # Errors
/// When the kernel does not answer.
pub fn inspect(namespace: &Namespace) -> Result<Facts> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let snapshot = runtime.block_on(async { Host::connect()?.snapshot().await })?;
        let mut facts = snapshot.lines().map(str::to_owned).collect::<Facts>();
        for family in ["ipv4", "ipv6"] {
            let directory = format!("/proc/sys/net/{family}/conf");
            read_below(Path::new(&directory), &mut facts)?;
        }
        let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
        facts.extend(addresses.lines().map(str::to_owned));
        Ok(facts)
    })
}

/// What is different: lines that went with `-`, lines that came with `+`.
#[must_use]
pub fn difference(before: &Facts, after: &Facts) -> Vec<String> {
    let gone = before.difference(after).map(|line| format!("- {line}"));
    let new = after.difference(before).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

fn read_below(directory: &Path, facts: &mut Facts) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_below(&path, facts)?;
        } else if let Ok(value) = std::fs::read_to_string(&path) {
            // Some parameters cannot be read before they have been written.
            facts.insert(format!("{} = {}", path.display(), value.trim()));
        }
    }
    Ok(())
}
