//! What the status says about the volumes. Pure.

use crds::conditions::Reason;

use super::State;
use crate::apply::{self, Applied};
use crate::resolve::{Growth, ResolvedCache, Stuck};

use super::messages::chain;

/// Volumes that are named in a message; more are counted.
const NAMED: usize = 5;

/// The state, and whether a person has to act.
pub(super) fn state(cache: &ResolvedCache, applied: &Applied) -> (State, bool) {
    let size = &cache.volume.size.0;
    let progress = |message: String| (State::new(false, Reason::Progressing, &message), false);
    let refused = applied.failures.iter().find(|failure| {
        // The other failures have conditions of their own.
        matches!(failure, apply::Error::Grow { .. })
    });
    if let Some(error) = refused {
        let message = format!("{}.", chain(error));
        return (State::new(false, Reason::Failed, &message), false);
    }
    match &cache.growth {
        Growth::Done => {
            let message = format!("Each volume has the declared size of {size}.");
            (State::new(true, Reason::Succeeded, &message), false)
        }
        Growth::Claims(claims) => {
            let names = claims.iter().map(|claim| claim.name.as_str());
            progress(format!(
                "Volume claims are raised to {size}: {}.",
                list(names)
            ))
        }
        Growth::Replace { .. } | Growth::Removal => progress(format!(
            "StatefulSet {} is made anew, because that of the smaller volumes can't be changed to {size}. Its pods run on.",
            cache.owner.name
        )),
        Growth::Volumes(waiting) => {
            let names = waiting.claims.iter().map(String::as_str);
            let text = format!(
                "Kubernetes makes volumes as large as {size}: {}.",
                list(names)
            );
            match &waiting.complaint {
                Some(complaint) => {
                    let complaint = complaint.trim_end_matches('.');
                    let text = format!("{text} It says of {complaint}.");
                    (State::new(false, Reason::Failed, &text), false)
                }
                None => progress(text),
            }
        }
        Growth::Stuck(stuck) => {
            let why = sentence(stuck);
            let message = format!("{why} Until then the volumes stay as large as they are.");
            (State::new(false, Reason::NotExpandable, &message), true)
        }
    }
}

fn sentence(stuck: &Stuck) -> String {
    match stuck {
        Stuck::Fixed { class } => format!(
            "StorageClass {class} does not let volumes grow: set allowVolumeExpansion: true in it if its driver can do it, or make a new RegistryCache with another class."
        ),
        Stuck::Missing { class } => format!(
            "StorageClass {class} does not exist any more, so its volumes can't grow: create it anew with allowVolumeExpansion: true, or make a new RegistryCache with another class."
        ),
        Stuck::Classless { claim } => format!(
            "PersistentVolumeClaim {claim} has no storage class, so its volume can't grow: make a new RegistryCache with a class that has allowVolumeExpansion: true."
        ),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let first = names.iter().take(NAMED).copied().collect::<Vec<_>>();
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        format!("{} and {more} more", first.join(", "))
    } else {
        first.join(", ")
    }
}
