//! The page of results has a part for each benchmark, so that one can be run without the other.

use std::path::Path;

use anyhow::{Context, Result};

/// The heading of the operator's part, which is the last.
const OPERATOR: &str = "## The operator";

/// What stands before the operator's table.
const OPERATOR_TEXT: &str = "The last run of `cargo xtask bench --operator`, which writes this part. etcd, kube-apiserver and kube-controller-manager are real;
pods and volumes are made up by a fake kubelet, and all of them share two cores with the operator. The caches exist when the
operator starts. Kubernetes' controllers that make pods and their addresses begin when all children are there; what it is
when they take their part of the two cores at the same time stands last. What the operator answers from its own memory is no
read; reads include those that start watches.
The API server gives addresses to Services one after the other, with a request to itself each, so on two busy cores its answers
to new Services bound how soon all children are there.
";

/// Writes the operator's part anew, and leaves the rest.
pub fn replace_operator_part(path: &Path, table: &str) -> Result<()> {
    let page = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let before = page.split(OPERATOR).next().unwrap_or_default().trim_end();
    let page = format!("{before}\n\n{OPERATOR}\n\n{OPERATOR_TEXT}\n{table}");
    std::fs::write(path, page).with_context(|| format!("failed to write {}", path.display()))
}

/// The operator's part of the page, with the empty line before it.
pub fn operator_part(path: &Path) -> String {
    let page = std::fs::read_to_string(path).unwrap_or_default();
    page.find(OPERATOR)
        .map_or_else(String::new, |at| format!("\n{}", &page[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.md");
        std::fs::write(&path, "# Benchmarks\n\n| a |\n").unwrap();
        assert_eq!(operator_part(&path), "");
        replace_operator_part(&path, "| 1 |\n").unwrap();
        replace_operator_part(&path, "| 2 |\n").unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.starts_with("# Benchmarks\n\n| a |\n\n## The operator\n"));
        assert!(page.ends_with("\n| 2 |\n") && !page.contains("| 1 |"));
        assert!(operator_part(&path).starts_with("\n## The operator\n"));
    }
}
