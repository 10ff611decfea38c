//! Images and indexes as the blobs that they consist of.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Layer, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes under their digest.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: String,
    pub media_type: &'static str,
    pub bytes: Arc<[u8]>,
}

impl Blob {
    pub(super) fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            digest: digest_of(&bytes),
            media_type,
            bytes: bytes.into(),
        }
    }

    pub(super) fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// The machine an image says it is for. Whether its programs are, nobody checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Platform {
    pub os: &'static str,
    pub architecture: &'static str,
}

impl Platform {
    pub const AMD64: Self = Self {
        os: "linux",
        architecture: "amd64",
    };
    pub const ARM64: Self = Self {
        os: "linux",
        architecture: "arm64",
    };
}

/// What runs when a container is made of an image; the fields are those of the image specification.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    pub platform: Platform,
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Image {
    pub fn new(platform: Platform, config: &ImageConfig, layers: &[Layer]) -> Result<Self> {
        let uncompressed: Vec<&str> = layers.iter().map(Layer::uncompressed_digest).collect();
        let config = json!({
            "os": platform.os,
            "architecture": platform.architecture,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": uncompressed },
        });
        let config = Blob::new(
            CONFIG,
            serde_json::to_vec(&config).context("failed to write a config")?,
        );
        let layers: Vec<Blob> = layers.iter().map(|layer| layer.blob().clone()).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(
            MANIFEST,
            serde_json::to_vec(&manifest).context("failed to write a manifest")?,
        );
        Ok(Self {
            platform,
            manifest,
            config,
            layers,
        })
    }

    /// Config and layers: what is fetched as blobs when the image is pulled.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// Images of several platforms under one name.
#[derive(Debug, Clone)]
pub struct Index {
    pub manifest: Blob,
    pub images: Vec<Image>,
}

impl Index {
    pub fn new(images: Vec<Image>) -> Result<Self> {
        let manifests: Vec<Value> = images
            .iter()
            .map(|image| {
                let mut descriptor = image.manifest.descriptor();
                descriptor["platform"] = json!(image.platform);
                descriptor
            })
            .collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let manifest = Blob::new(
            INDEX,
            serde_json::to_vec(&manifest).context("failed to write an index")?,
        );
        Ok(Self { manifest, images })
    }
}

/// What a tag can name.
#[derive(Debug, Clone)]
pub enum Artifact {
    Image(Image),
    Index(Index),
}

impl Artifact {
    /// The manifest that the tag names.
    pub fn manifest(&self) -> &Blob {
        match self {
            Self::Image(image) => &image.manifest,
            Self::Index(index) => &index.manifest,
        }
    }

    /// The images it holds: one, or one for each platform.
    pub fn images(&self) -> &[Image] {
        match self {
            Self::Image(image) => std::slice::from_ref(image),
            Self::Index(index) => &index.images,
        }
    }

    /// The image for the machine the node runs on.
    pub fn amd64(&self) -> Result<&Image> {
        self.images()
            .iter()
            .find(|image| image.platform == Platform::AMD64)
            .context("there is no image for amd64")
    }
}

impl From<Image> for Artifact {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

impl From<Index> for Artifact {
    fn from(index: Index) -> Self {
        Self::Index(index)
    }
}
