//! Tells that something changed where the configuration is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::Watcher;
use notify::event::{AccessKind, AccessMode, EventKind};
use tokio::sync::mpsc;

/// Directories whose events are heard. Not files: a mounted config map or Secret changes by the swap of a symlink beside them.
pub(super) struct Watched {
    /// `None` if the system gives no events.
    watcher: Option<notify::RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
}

impl Watched {
    pub(super) fn new(changes: mpsc::Sender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            let _ = changes.try_send(());
        });
        let watcher = watcher.inspect_err(
            |error| tracing::warn!(%error, "failed to watch the configuration; it is polled"),
        );
        Self {
            watcher: watcher.ok(),
            directories: BTreeSet::new(),
        }
    }

    /// Hears of these directories, and no more of others.
    pub(super) fn follow(&mut self, configuration: &Path, named: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = named.clone();
        wanted.insert(configuration.to_owned());
        for old in self.directories.difference(&wanted) {
            // It may be gone.
            let _ = watcher.unwatch(old);
        }
        for new in wanted.difference(&self.directories) {
            if let Err(error) = watcher.watch(new, notify::RecursiveMode::NonRecursive) {
                tracing::warn!(%error, directory = %new.display(), "failed to watch a directory; it is polled");
            }
        }
        self.directories = wanted;
    }
}

/// Whether it only says that a file was looked at. This process does that itself after each change: were it heard, it would
/// never rest.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn reading_is_no_change_and_writing_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.yaml");
        std::fs::write(&file, "format: 1").unwrap();
        let (sender, mut changes) = mpsc::channel(1);
        let mut watched = Watched::new(sender);
        watched.follow(directory.path(), &BTreeSet::new());
        std::fs::read(&file).unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(300), changes.recv()).await;
        assert!(heard.is_err(), "a reading was heard");
        std::fs::write(&file, "format: 2").unwrap();
        changes.recv().await.unwrap();
    }

    #[tokio::test]
    async fn a_symlink_that_is_swapped_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (
            directory.path().join("..data"),
            directory.path().join("..data_tmp"),
        );
        std::os::unix::fs::symlink("first", &old).unwrap();
        std::os::unix::fs::symlink("second", &new).unwrap();
        let (sender, mut changes) = mpsc::channel(1);
        let mut watched = Watched::new(sender);
        watched.follow(directory.path(), &BTreeSet::new());
        std::fs::rename(&new, &old).unwrap();
        changes.recv().await.unwrap();
    }
}
