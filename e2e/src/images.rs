//! Container images made without Docker: deterministic layers from files and Debian packages, archives for containerd,
//! uploads to a registry.

mod archive;
mod artifact;
mod larder;
mod layer;
mod push;
mod seeds;

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

pub use archive::write_archive;
pub use artifact::{Artifact, Blob, Image, ImageConfig, Index, Platform};
pub use larder::{ARENAS, CACHE_SERVER, OPERATOR, larder_image};
pub use layer::{Layer, LayerBuilder};
pub use push::push;
pub use seeds::{PAUSE, Seeds, download_packages, large_image};

/// The digest of `bytes` as references and registries write it.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(bytes)))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
