//! Emptying the node's image store.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Node;
use crate::wait;

/// Images of these names stay: nothing on the node's network could provide them again.
const KEPT: &[&str] = &["localhost/pause", "localhost/larder-"];

const LIMIT: Duration = Duration::from_secs(30);

struct Entry {
    name: String,
    digest: String,
}

pub(super) fn remove_all_workload_images(node: &Node) -> Result<()> {
    let entries = entries(&node.ctr(&["images", "ls"])?);
    let kept: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| KEPT.iter().any(|prefix| entry.name.starts_with(prefix)))
        .map(|entry| entry.digest.as_str())
        .collect();
    // By digest, because each image has further names: the digest of its config, and its repository with the digest.
    let removed: Vec<&Entry> = entries
        .iter()
        .filter(|entry| !kept.contains(entry.digest.as_str()))
        .collect();
    if removed.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["images", "rm", "--sync"];
    arguments.extend(removed.iter().map(|entry| entry.name.as_str()));
    node.ctr(&arguments)?;
    wait::until("the removed images' content to be gone", LIMIT, || {
        let content = node.ctr(&["content", "ls", "-q"])?;
        let content: BTreeSet<&str> = content.lines().collect();
        match removed
            .iter()
            .find(|entry| content.contains(entry.digest.as_str()))
        {
            Some(entry) => bail!("{} of {} is still there", entry.digest, entry.name),
            None => Ok(()),
        }
    })
}

/// The table of `ctr images ls`: name, media type, digest, and more.
fn entries(table: &str) -> Vec<Entry> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let name = columns.next()?.to_owned();
            let digest = columns.nth(1)?.to_owned();
            Some(Entry { name, digest })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::entries;

    #[test]
    fn name_and_digest_are_read_from_the_table() {
        let table = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
                     localhost/pause:1 application/vnd.oci.image.manifest.v1+json sha256:aa 1.0 MiB linux/amd64 -\n";
        let entries = entries(table);
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].name.as_str(), entries[0].digest.as_str()),
            ("localhost/pause:1", "sha256:aa")
        );
    }
}
