//! The crates that a program is made of, as CycloneDX 1.5.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binaries::{self, Target};
use crate::source::{self, VERSION};

/// All that Cargo knows about the workspace, for one target.
pub(crate) struct Metadata {
    packages: BTreeMap<String, Value>,
    nodes: BTreeMap<String, Value>,
}

impl Metadata {
    pub(crate) fn read(target: &Target) -> Result<Self> {
        let mut command = Command::new(binaries::cargo());
        command.current_dir(source::root());
        command.args(["metadata", "--locked", "--format-version=1"]);
        command.args(["--filter-platform", target.name()]);
        let output = command.output().context("cargo cannot be started")?;
        ensure!(
            output.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let whole: Value = serde_json::from_slice(&output.stdout)?;
        let by_id = |list: &Value| {
            let list = list.as_array().into_iter().flatten();
            let pairs = list.map(|one| (text(one, "id"), one.clone()));
            pairs.collect::<BTreeMap<String, Value>>()
        };
        Ok(Self {
            packages: by_id(&whole["packages"]),
            nodes: by_id(&whole["resolve"]["nodes"]),
        })
    }

    /// The bill of materials of a program.
    pub(crate) fn sbom(&self, program: &str) -> Result<String> {
        let own = self
            .packages
            .iter()
            .find(|(_, package)| text(package, "name") == program && package["source"].is_null());
        let (root, _) = own.with_context(|| format!("cargo metadata has no {program}"))?;
        let mut linked = BTreeSet::new();
        self.collect(root, &mut linked);
        linked.remove(root);
        let components: Vec<Value> = linked.iter().filter_map(|id| self.component(id)).collect();
        let mut dependencies = vec![self.dependencies(root, Some(program), &linked)];
        dependencies.extend(linked.iter().map(|id| self.dependencies(id, None, &linked)));
        let sbom = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": {
                "type": "application",
                "bom-ref": program,
                "name": program,
                "version": VERSION,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            } },
            "components": components,
            "dependencies": dependencies,
        });
        Ok(serde_json::to_string_pretty(&sbom)? + "\n")
    }

    /// A crate and all that it is linked with: neither tests nor what only builds it.
    fn collect(&self, id: &str, linked: &mut BTreeSet<String>) {
        if linked.insert(id.to_owned()) {
            for other in self.linked(id) {
                self.collect(&other, linked);
            }
        }
    }

    fn linked(&self, id: &str) -> Vec<String> {
        let node = self.nodes.get(id);
        let dependencies = node.and_then(|node| node["deps"].as_array());
        let is_normal = |dependency: &&Value| {
            let kinds = dependency["dep_kinds"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        };
        let dependencies = dependencies.into_iter().flatten().filter(is_normal);
        let ids = dependencies.map(|dependency| text(dependency, "pkg"));
        ids.filter(|id| !self.is_macro(id)).collect()
    }

    /// A procedural macro runs in the compiler.
    fn is_macro(&self, id: &str) -> bool {
        let targets = self.packages.get(id).map(|package| &package["targets"]);
        let targets = targets.and_then(Value::as_array).into_iter().flatten();
        let mut kinds = targets.flat_map(|target| target["kind"].as_array().into_iter().flatten());
        kinds.any(|kind| kind == "proc-macro")
    }

    fn component(&self, id: &str) -> Option<Value> {
        let package = self.packages.get(id)?;
        let (name, version) = (text(package, "name"), text(package, "version"));
        let mut component = json!({
            "type": "library",
            "bom-ref": format!("{name}@{version}"),
            "name": name,
            "version": version,
            "licenses": [{ "expression": text(package, "license").replace('/', " OR ") }],
        });
        if !package["source"].is_null() {
            component["purl"] = format!("pkg:cargo/{name}@{version}").into();
        }
        Some(component)
    }

    fn dependencies(&self, id: &str, name: Option<&str>, linked: &BTreeSet<String>) -> Value {
        let reference = |id: &String| {
            let package = self.packages.get(id)?;
            Some(format!(
                "{}@{}",
                text(package, "name"),
                text(package, "version")
            ))
        };
        let own = name
            .map(str::to_owned)
            .or_else(|| reference(&id.to_owned()));
        let others: BTreeSet<String> = self
            .linked(id)
            .iter()
            .filter(|other| linked.contains(*other))
            .filter_map(reference)
            .collect();
        json!({ "ref": own, "dependsOn": others })
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
