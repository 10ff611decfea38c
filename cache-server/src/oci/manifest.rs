//! What a manifest refers to. Unknown fields are left alone: a cache passes on what it does not know.

use serde::Deserialize;

use super::{Digest, media_type};

/// The part of a manifest or index that a cache looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the document says it is, or else what its shape says.
    pub media_type: String,
    /// Config, layers and child manifests, in the document's order.
    pub references: Vec<Digest>,
    /// Whether it refers to manifests instead of content.
    pub is_index: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    /// Of the artifact manifest that the image spec had for a while.
    #[serde(default)]
    blobs: Vec<Descriptor>,
}

// `subject` is not among them: a registry takes it unchecked, so it must not open anything.
#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
}

impl Manifest {
    /// Reads the JSON of a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_slice(bytes)?;
        let index = document.manifests.is_some();
        let media_type = document.media_type.unwrap_or_else(|| {
            let guess = if index {
                media_type::OCI_INDEX
            } else {
                media_type::OCI_MANIFEST
            };
            guess.to_owned()
        });
        let references = document
            .config
            .into_iter()
            .chain(document.layers)
            .chain(document.manifests.unwrap_or_default())
            .chain(document.blobs)
            .map(|descriptor| descriptor.digest)
            .collect();
        Ok(Self {
            media_type,
            references,
            is_index: index,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn config_layers_and_children_are_references() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(Algorithm::Sha256, bytes));
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{a}","size":1}},"layers":[{{"digest":"{b}"}}],"subject":{{"digest":"{c}"}}}}"#
        );
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.references, [a, b.clone()]);
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);

        let text = format!(r#"{{"manifests":[{{"digest":"{b}"}}],"other":[[[1]]]}}"#);
        let index = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(index.references, [b]);
        assert_eq!(index.media_type, media_type::OCI_INDEX);
    }

    #[test]
    fn what_is_not_a_manifest_is_an_error() {
        assert!(Manifest::parse(b"<html>").is_err());
        assert!(Manifest::parse(br#"{"layers":[{"digest":"sha256:.."}]}"#).is_err());
        let deep = "[".repeat(10_000);
        assert!(Manifest::parse(deep.as_bytes()).is_err());
    }
}
