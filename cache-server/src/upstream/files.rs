//! What the files say that a policy names: certificate authorities and secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crds::policy;

/// Contents of files, by path.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Files(BTreeMap<PathBuf, Vec<u8>>);

// Not derived: a secret must not be able to reach a log.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Files {
    pub fn insert(&mut self, path: PathBuf, content: Vec<u8>) {
        self.0.insert(path, content);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0
            .iter()
            .map(|(path, content)| (path.as_path(), content.as_slice()))
    }

    /// Those that one upstream names.
    pub fn of(&self, upstream: &policy::Upstream) -> Self {
        let named = upstream.files().into_iter().filter_map(|(_, path)| {
            self.0
                .get(path)
                .map(|content| (path.to_owned(), content.clone()))
        });
        Self(named.collect())
    }

    pub fn get(&self, path: &Path) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }
}
