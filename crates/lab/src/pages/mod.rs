//! The pages of the documentation as tests: their command blocks are run in a network, and what the
//! pages say one should see is compared with what there was to see.
//!
//! A block with commands says in its info string whether it is run:
//!
//! ````text
//! ```console run=laptop
//! $ clat status
//! clat 0.2.0, running for 3s
//! ```
//! ````
//!
//! `run=SCENE` names the network ([`scene`]); the blocks of a page run in it one after the other.
//! `on=HOST` chooses another host than the scene's first, `stays` says that the last command goes on
//! running, `fails` that it exits with another code than 0, and `file=PATH` that the block is the
//! content of this file. `not-run` marks all others.

mod block;
mod compare;
pub mod scene;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

pub use block::{Block, blocks};

use crate::binaries::Binaries;
use scene::{Ends, Scene};

/// Runs all blocks of a page that are to be run. Each command has `patience` to show what the page
/// says. `tell` hears each command and each line of output.
///
/// # Errors
/// When a command fails, or a line that the page promises does not come.
pub fn run(
    page: &Path,
    binaries: &Binaries,
    patience: Duration,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let mut scenes: Vec<(String, Scene)> = Vec::new();
    for block in blocks(&text) {
        let Some(name) = block.value("run") else {
            continue;
        };
        let place = format!("{}:{}", page.display(), block.line);
        let found = scenes.iter().position(|(known, _)| known == name);
        let at = match found {
            Some(at) => at,
            None => {
                let scene = Scene::new(name, binaries).with_context(|| place.clone())?;
                scenes.push((name.to_owned(), scene));
                scenes.len() - 1
            }
        };
        perform(&block, &mut scenes[at].1, patience, tell).with_context(|| place)?;
    }
    Ok(())
}

fn perform(
    block: &Block,
    scene: &mut Scene,
    patience: Duration,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let host = block.value("on");
    if let Some(path) = block.value("file") {
        return scene.write(host, path, &block.text);
    }
    let commands = block.commands();
    let last = commands.len().saturating_sub(1);
    for (number, command) in commands.iter().enumerate() {
        tell(&format!("$ {}", command.text));
        let ends = match number == last {
            true if block.has("stays") => Ends::Never,
            true if block.has("fails") => Ends::Badly,
            _ => Ends::Well,
        };
        scene.command(host, command, ends, patience, tell)?;
    }
    Ok(())
}
