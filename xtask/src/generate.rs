//! Files that users read and the code determines. They are committed, and the check proves that they are current.

mod chart_values;
mod reference;

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::command::root;

/// Writes them, or says which are not current.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut outdated = Vec::new();
    for (path, text) in files()? {
        let full = root().join(&path);
        let current = fs::read_to_string(&full).unwrap_or_default();
        if current == text {
            continue;
        }
        if check {
            outdated.push(path);
            continue;
        }
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("failed to make {}", parent.display()))?;
        }
        fs::write(&full, text).with_context(|| format!("failed to write {path}"))?;
        println!("wrote {path}");
    }
    ensure!(
        outdated.is_empty(),
        "not current: {}; run `cargo xtask generate` and commit the result",
        outdated.join(", ")
    );
    Ok(())
}

fn files() -> Result<Vec<(String, String)>> {
    let definitions = crds::schema::definitions();
    let mut files = Vec::new();
    for (name, definition) in &definitions {
        for folder in ["crds/yaml", "helm/files/crds"] {
            files.push((
                format!("{folder}/{name}"),
                crds::schema::to_yaml(definition),
            ));
        }
        let page = format!("docs/reference/{}.md", definition.spec.names.kind);
        files.push((page, reference::page(definition)));
    }
    let read = |path: &str| {
        fs::read_to_string(root().join(path)).with_context(|| format!("failed to read {path}"))
    };
    let readme = "helm/README.md";
    let text = chart_values::readme(&read(readme)?, &read("helm/values.yaml")?)?;
    files.push((readme.to_owned(), text));
    for (name, schema) in crds::file_schema::files() {
        files.push((format!("docs/reference/{name}"), schema));
    }
    Ok(files)
}
