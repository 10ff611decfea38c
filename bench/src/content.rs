//! Blobs and manifests without keeping them: all blobs share one base, and differ in their first bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// The largest blob.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

const DIFFERENT: usize = 8;

/// Everything that the upstream has. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Content(Arc<State>);

#[derive(Debug)]
struct State {
    base: Vec<u8>,
    things: Mutex<HashMap<String, Thing>>,
}

/// What stands under a digest or tag.
#[derive(Debug, Clone)]
pub(crate) enum Thing {
    Blob { seed: u64, size: usize },
    Manifest { digest: String, text: Arc<[u8]> },
}

impl Content {
    pub(crate) fn new() -> Self {
        let mut base = vec![0; LARGEST];
        fastrand::Rng::with_seed(1).fill(&mut base);
        Self(Arc::new(State {
            base,
            things: Mutex::default(),
        }))
    }

    /// A new blob. Returns its digest.
    pub(crate) fn blob(&self, seed: u64, size: usize) -> String {
        let (first, rest) = self.parts(seed, size);
        let digest = name(&Sha256::new_with_prefix(first).chain_update(rest).finalize());
        self.put(digest.clone(), Thing::Blob { seed, size });
        digest
    }

    /// A manifest of some layers that nobody will ask for. Returns its digest; `tag` names it too.
    pub(crate) fn manifest(&self, tag: &str) -> String {
        let descriptor = |number: u8| {
            let digest = name(&Sha256::digest([number]));
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{number}}}"#
            )
        };
        let layers: Vec<String> = (1..8).map(descriptor).collect();
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{},"layers":[{}]}}"#,
            descriptor(0).replace("layer.v1.tar+gzip", "config.v1+json"),
            layers.join(",")
        );
        let digest = name(&Sha256::digest(&text));
        for reference in [digest.as_str(), tag] {
            let thing = Thing::Manifest {
                digest: digest.clone(),
                text: text.as_bytes().into(),
            };
            self.put(reference.to_owned(), thing);
        }
        digest
    }

    pub(crate) fn find(&self, reference: &str) -> Option<Thing> {
        self.things().get(reference).cloned()
    }

    /// The bytes of a blob: what is its own, and what all share.
    pub(crate) fn parts(&self, seed: u64, size: usize) -> ([u8; DIFFERENT], &[u8]) {
        (seed.to_le_bytes(), &self.0.base[DIFFERENT..size])
    }

    fn put(&self, reference: String, thing: Thing) {
        self.things().insert(reference, thing);
    }

    fn things(&self) -> std::sync::MutexGuard<'_, HashMap<String, Thing>> {
        self.0.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

fn name(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
