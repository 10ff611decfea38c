//! What has to be done next so that each volume has the declared size. Pure: it looks at what is, so that it can begin
//! anywhere, also after a crash.
//!
//! A claim's request can be raised, but a `StatefulSet`'s template of claims can't be changed. So the claims come first; then the
//! set is removed without its pods and made anew, and takes them over: its template of pods is the same, so none restarts.

use crate::observe::{CacheClaim, FoundClass, Observed};
use crate::quantity;
use crate::render::names::{self, Owner};

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Growth {
    /// Every volume has the declared size, or there is none yet.
    Done,
    /// These claims ask for less.
    Claims(Vec<SmallClaim>),
    /// The claims ask for enough. The `StatefulSet` with this UID would make smaller ones: it has to make place for another.
    Replace { uid: String },
    /// It is on its way out, and its pods stay.
    Removal,
    /// Kubernetes is at work.
    Volumes(Waiting),
    /// A person must act.
    Stuck(Stuck),
}

/// A claim to be raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallClaim {
    pub name: String,
    pub uid: String,
    pub storage_class: String,
    /// Whether it is known that its class can grow; otherwise the API server decides.
    pub known: bool,
}

/// Volumes that are not as large yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub claims: Vec<String>,
    /// What Kubernetes says about one of them, if that fails.
    pub complaint: Option<String>,
}

/// Why a volume can't grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    Fixed { class: String },
    Missing { class: String },
    Classless { claim: String },
}

/// The next step of a cache. `declared` is a quantity.
pub(super) fn next(observed: &Observed, owner: &Owner, declared: &str) -> Growth {
    let claims = || {
        let all = observed.claims.iter();
        all.filter(|claim| claim.metadata.deletion_timestamp.is_none())
    };
    // The request of a claim without a volume can't be changed; it is looked at again when it has one.
    let small =
        || claims().filter(|one| one.capacity.is_some() && one.asks_for_less_than(declared));
    if let Some(stuck) = small().find_map(|claim| stuck(observed, claim)) {
        return Growth::Stuck(stuck);
    }
    let to_raise: Vec<SmallClaim> = small().map(|claim| small_claim(observed, claim)).collect();
    if !to_raise.is_empty() {
        return Growth::Claims(to_raise);
    }
    if let Some(set) = live_set(observed, owner) {
        if set.removed {
            return Growth::Removal;
        }
        if !quantity::equal(&set.size, declared) {
            return Growth::Replace { uid: set.uid };
        }
    }
    // A volume that no pod uses grows when one does.
    let used: Vec<&CacheClaim> = claims()
        .filter(|claim| is_used(observed, owner, claim))
        .filter(|claim| claim.has_less_than(declared) || claim.asks_for_less_than(declared))
        .collect();
    if used.is_empty() {
        return Growth::Done;
    }
    let complaint = used.iter().find_map(|claim| {
        let complaint = claim.complaint.as_ref()?;
        Some(format!("{}: {complaint}", claim.name()))
    });
    Growth::Volumes(Waiting {
        claims: used.iter().map(|claim| claim.name().to_owned()).collect(),
        complaint,
    })
}

/// Bytes that each volume has, at most those that are declared: a policy must not count on room that is still to come.
pub(super) fn room(observed: &Observed, owner: &Owner, declared: u64) -> u64 {
    observed
        .claims
        .iter()
        .filter(|claim| is_used(observed, owner, claim))
        .filter_map(|claim| quantity::bytes(claim.capacity.as_deref()?))
        .filter(|bytes| *bytes > 0)
        .fold(declared, u64::min)
}

/// The size that a `StatefulSet` must have now: that of the live one, which can't be changed, or the declared one.
pub(super) fn template_size(observed: &Observed, owner: &Owner, declared: &str) -> String {
    live_set(observed, owner).map_or_else(|| declared.to_owned(), |set| set.size)
}

struct LiveSet {
    uid: String,
    size: String,
    removed: bool,
}

fn live_set(observed: &Observed, owner: &Owner) -> Option<LiveSet> {
    let set = observed.live.get("StatefulSet", &owner.name)?;
    let controllers = set.metadata.owner_references.iter().flatten();
    let ours = controllers
        .filter(|one| one.controller == Some(true))
        .any(|one| one.uid == owner.uid);
    let size = set
        .data
        .pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage")?
        .as_str()?;
    ours.then(|| LiveSet {
        uid: set.metadata.uid.clone().unwrap_or_default(),
        size: size.to_owned(),
        removed: set.metadata.deletion_timestamp.is_some(),
    })
}

fn is_used(observed: &Observed, owner: &Owner, claim: &CacheClaim) -> bool {
    (0..observed.cache.spec.replicas)
        .any(|ordinal| names::claim(&owner.name, ordinal) == claim.name())
}

fn stuck(observed: &Observed, claim: &CacheClaim) -> Option<Stuck> {
    let class = claim.storage_class.clone();
    if class.is_empty() {
        return Some(Stuck::Classless {
            claim: claim.name().to_owned(),
        });
    }
    match observed.classes.get(&class) {
        Some(FoundClass::Fixed) => Some(Stuck::Fixed { class }),
        Some(FoundClass::Missing) => Some(Stuck::Missing { class }),
        Some(FoundClass::Expandable | FoundClass::Unreadable) | None => None,
    }
}

fn small_claim(observed: &Observed, claim: &CacheClaim) -> SmallClaim {
    SmallClaim {
        name: claim.name().to_owned(),
        uid: claim.metadata.uid.clone().unwrap_or_default(),
        storage_class: claim.storage_class.clone(),
        known: observed.classes.get(&claim.storage_class) == Some(&FoundClass::Expandable),
    }
}

#[cfg(test)]
mod tests;
