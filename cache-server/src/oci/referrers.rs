//! Lists of what refers to a manifest: which tag holds one where a registry has no API for it, and filtering. Pure.

use serde_json::Value;

use super::{Digest, Tag};

/// The list of what nothing refers to.
pub const EMPTY: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// The tag by which clients keep the list at a registry without the API ("referrers tag schema" of the distribution spec).
pub fn tag(subject: &Digest) -> Option<Tag> {
    const LONGEST: usize = 64;
    let hex = subject.hex();
    let algorithm = subject.algorithm().as_str();
    Tag::parse(&format!("{algorithm}-{}", &hex[..hex.len().min(LONGEST)]))
}

/// Whether the document is a list. `None`: it is not even JSON.
pub fn is_list(document: &[u8]) -> Option<bool> {
    let document: Value = serde_json::from_slice(document).ok()?;
    Some(document["manifests"].is_array())
}

/// Whether it is a list with nothing in it.
pub fn is_empty(list: &[u8]) -> bool {
    let list: Option<Value> = serde_json::from_slice(list).ok();
    list.is_some_and(|list| list["manifests"] == Value::Array(Vec::new()))
}

/// The list with the descriptors of that artifact type only. `None`: it is no list.
pub fn of_type(list: &[u8], artifact_type: &str) -> Option<Vec<u8>> {
    let mut list: Value = serde_json::from_slice(list).ok()?;
    list.get_mut("manifests")?
        .as_array_mut()?
        .retain(|descriptor| descriptor["artifactType"] == artifact_type);
    serde_json::to_vec(&list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_tag_is_the_digest_without_its_colon() {
        let subject = Digest::of(Algorithm::Sha256, b"");
        let expected = format!("sha256-{}", subject.hex());
        assert_eq!(tag(&subject).unwrap().as_str(), expected);
    }

    #[test]
    fn the_tag_of_a_long_digest_is_cut() {
        let subject = Digest::of(Algorithm::Sha512, b"");
        let expected = format!("sha512-{}", &subject.hex()[..64]);
        assert_eq!(tag(&subject).unwrap().as_str(), expected);
    }

    #[test]
    fn a_filter_leaves_all_other_fields_alone() {
        let list = br#"{"manifests":[{"artifactType":"a","x":1},{"artifactType":"b"},{}],"y":[2]}"#;
        let filtered: Value = serde_json::from_slice(&of_type(list, "a").unwrap()).unwrap();
        let expected = serde_json::json!({"manifests": [{"artifactType": "a", "x": 1}], "y": [2]});
        assert_eq!(filtered, expected);
    }

    #[test]
    fn what_is_no_list_is_told_apart() {
        assert_eq!(is_list(EMPTY), Some(true));
        assert!(is_empty(EMPTY) && !is_empty(br#"{"manifests":[{}]}"#));
        assert_eq!(is_list(br#"{"layers":[]}"#), Some(false));
        assert_eq!(is_list(b"<html>"), None);
        assert_eq!(of_type(b"[]", "a"), None);
    }
}
