//! `recover`: undoes the changes of a killed process and lists them.

use std::path::Path;

use tracing::info;

use super::control::SCHEMA;
use super::exit;
use crate::host::{Error, Host, Leftovers};

/// Undoes the changes that the instance `name` left behind and lists them: in the log, or as JSON
/// on standard output.
///
/// # Errors
/// The instance is running, or a change cannot be undone.
pub async fn run(run_dir: &Path, name: &str, json: bool) -> Result<(), Error> {
    let host = Host::connect()?;
    let left = host.leftovers(run_dir, name)?;
    let count = host.recover(run_dir, name).await?;
    if json {
        let Leftovers { changes, damaged } = left;
        let list =
            serde_json::json!({ "schema": SCHEMA, "taken_back": changes, "unreadable": damaged });
        return exit::print(&format!("{list}\n")).map_err(Error::Print);
    }
    match count {
        0 => info!("nothing to undo"),
        count => info!("{count} changes of a killed run were undone"),
    }
    for one in left.changes {
        info!("  {one}");
    }
    Ok(())
}
