//! The policy that was rendered last. Pure.

use std::collections::BTreeMap;

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

/// The files that stand beside that policy, and that it may name.
pub(super) fn accounts(live: &Live, owner: &Owner) -> BTreeMap<String, String> {
    let object = live.get("ConfigMap", &names::config_map(&owner.name));
    let data = object.and_then(|object| object.data.get("data")?.as_object());
    let files = data.into_iter().flatten().filter_map(|(name, text)| {
        let is_one = super::identity::is_account_file(name);
        Some((name.clone(), text.as_str().filter(|_| is_one)?.to_owned()))
    });
    files.collect()
}
