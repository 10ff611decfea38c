//! The table of the chart's values in its README, made from the comments of `values.yaml`.
//!
//! A key with a comment is a row, unless keys below it have comments too: then those are the rows, and its comment leads them in. Keys without a comment
//! belong to the value above them.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

const BEGIN: &str =
    "<!-- Values: made by `cargo xtask generate` from the comments of values.yaml. -->\n";
const END: &str = "<!-- End of the values. -->";

/// A key with its comment.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: Vec<String>,
    comment: String,
}

/// The README with the table of the values in it.
pub(super) fn readme(readme: &str, values: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("helm/README.md has no mark where the values begin")?;
    let (_, after) = rest
        .split_once(END)
        .context("helm/README.md has no mark where the values end")?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table(values)?))
}

fn table(text: &str) -> Result<String> {
    let values: Value = serde_saphyr::from_str(text).context("failed to read helm/values.yaml")?;
    let entries = entries(text)?;
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for entry in &entries {
        let below = |other: &Entry| {
            other.path.len() > entry.path.len() && other.path.starts_with(&entry.path)
        };
        let comment = entry.comment.replace('|', "\\|");
        let name = entry.path.join(".");
        if entries.iter().any(below) {
            let _ = writeln!(
                table,
                "| **`{name}`** | | **{}** |",
                comment.trim_end_matches('.')
            );
            continue;
        }
        let default = entry
            .path
            .iter()
            .try_fold(&values, |value, key| value.get(key));
        let default = default.with_context(|| format!("helm/values.yaml has no {name}"))?;
        let _ = writeln!(table, "| `{name}` | `{default}` | {comment} |");
    }
    Ok(table)
}

/// Reads the part of YAML in which the file is written: mappings in block style, two spaces a level, comments on lines of their own.
fn entries(text: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() {
            comment.clear();
        } else if let Some(words) = content.strip_prefix('#') {
            comment.push(words.trim());
        } else if let Some((key, _)) = content
            .split_once(':')
            .filter(|_| !content.starts_with("- "))
        {
            path.truncate((line.len() - content.len()) / 2);
            path.push(key.to_owned());
            let above = |entry: &Entry| path.starts_with(&entry.path);
            if !comment.is_empty() {
                entries.push(Entry {
                    path: path.clone(),
                    comment: comment.join(" "),
                });
            } else if !entries.iter().any(above) {
                bail!(
                    "helm/values.yaml:{}: say in a comment what {} is",
                    number + 1,
                    path.join(".")
                );
            }
            comment.clear();
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::command::root;

    #[test]
    fn rows_are_the_keys_with_comments() {
        let text = "# About this file.\n\n# The image.\nimage:\n  # Where\n  # it is.\n  name: a|b\n# What it may take.\nresources:\n  limits:\n    memory: 1\nlist:\n";
        let error = table(text).unwrap_err().to_string();
        assert_eq!(error, "helm/values.yaml:12: say in a comment what list is");
        let text = text.strip_suffix("list:\n").unwrap();
        insta::assert_snapshot!(table(text).unwrap(), @r#"
        | value | default | meaning |
        |---|---|---|
        | **`image`** | | **The image** |
        | `image.name` | `"a|b"` | Where it is. |
        | `resources` | `{"limits":{"memory":1}}` | What it may take. |
        "#);
    }

    #[test]
    fn what_stands_around_the_table_stays() {
        let text = readme(
            &format!("before\n{BEGIN}old{END}\nafter\n"),
            "# One.\na: 1\n",
        )
        .unwrap();
        assert!(
            text.starts_with("before\n<!--") && text.ends_with("-->\nafter\n"),
            "{text}"
        );
        assert!(
            !text.contains("old") && text.contains("| `a` | `1` | One. |"),
            "{text}"
        );
        assert_eq!(readme(&text, "# One.\na: 1\n").unwrap(), text);
    }

    #[test]
    fn schema_and_values_have_the_same_keys() {
        let read = |name: &str| std::fs::read_to_string(root().join("helm").join(name)).unwrap();
        let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
        let mut allowed = BTreeSet::new();
        keys(&schema, &schema, "", &mut allowed);
        // Helm's own; a chart that has this one as a part may set it.
        allowed.remove("global");
        let text = read("values.yaml");
        let entries = entries(&text).unwrap();
        let written: BTreeSet<String> = entries.iter().map(|entry| entry.path.join(".")).collect();
        assert_eq!(allowed, written);
    }

    /// The paths of a closed schema's properties, down to where it is open.
    fn keys(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let property = match property["$ref"].as_str() {
                Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
                None => property,
            };
            let name = format!("{path}{name}");
            // What Kubernetes defines is not spelled out in values.yaml.
            if !["resources", "affinity"].contains(&name.as_str()) {
                keys(root, property, &format!("{name}."), found);
            }
            found.insert(name);
        }
    }
}
