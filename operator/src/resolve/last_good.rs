//! The policy that was rendered last. Pure.

use crds::policy::Policy;
use kube::ResourceExt as _;

use crate::observe::Live;
use crate::render::names::{self, Owner};

/// Text and hash of the last policy that the operator rendered for this cache. A text that somebody changed by hand does
/// not match the hash beside it, and is nobody's policy.
pub(super) fn policy(live: &Live, owner: &Owner) -> Option<(String, String)> {
    let object = live.get("ConfigMap", &names::config_map(&owner.name))?;
    if !object
        .owner_references()
        .iter()
        .any(|reference| reference.uid == owner.uid)
    {
        return None;
    }
    let text = object.data.get("data")?.get(crds::POLICY_FILE)?.as_str()?;
    let hash = Policy::parse(text).ok()?.hash();
    (object.annotations().get(names::POLICY_HASH) == Some(&hash)).then(|| (text.to_owned(), hash))
}
