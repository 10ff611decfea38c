//! Brings the node's files in line with the wishes, directory by directory: one that fails holds up no other.

use std::collections::BTreeMap;

use super::disk::{Disk, Error};
use super::plan::{Wish, plan};

/// What failed, by directory.
pub type Failures = BTreeMap<String, Error>;

/// Does what the wishes need. Where nothing differs, nothing is written.
pub fn converge(disk: &mut Disk, wishes: &BTreeMap<String, Wish>) -> Failures {
    let mut failures = Failures::new();
    for (directory, wish) in wishes {
        if let Err(error) = one(disk, directory, wish) {
            failures.insert(directory.clone(), error);
        }
    }
    if let Err(error) = disk.tidy() {
        tracing::warn!(error = %crate::report::chain(&error), "failed to tidy up");
    }
    failures
}

fn one(disk: &mut Disk, directory: &str, wish: &Wish) -> Result<(), Error> {
    let files = match wish {
        Wish::Install { files, .. } => Some(files.keys()),
        Wish::Restore => None,
    };
    let seen = disk.look(directory, files.into_iter().flatten())?;
    let steps = plan(wish, &seen);
    if !steps.is_empty() {
        let verb = match wish {
            Wish::Install { .. } => "wiring",
            Wish::Restore => "restoring",
        };
        tracing::info!(%directory, steps = steps.len(), "{verb} {directory}");
    }
    for step in &steps {
        disk.perform(directory, step)?;
    }
    Ok(())
}

/// The directories that were changed, with the file of the bundle that they come from.
pub fn recorded(disk: &Disk) -> Result<BTreeMap<String, String>, Error> {
    let mut sources = BTreeMap::new();
    for directory in disk.recorded()? {
        let seen = disk.look(&directory, std::iter::empty())?;
        sources.extend(seen.record.map(|record| (directory, record.source)));
    }
    Ok(sources)
}

/// Brings everything back as it was before the agent came.
pub fn restore_all(disk: &mut Disk) -> Result<Failures, Error> {
    let wishes = disk.recorded()?;
    let wishes = wishes
        .into_iter()
        .map(|directory| (directory, Wish::Restore));
    Ok(converge(disk, &wishes.collect()))
}
