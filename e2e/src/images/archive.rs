//! An artifact as a tar file in the OCI layout, as `ctr images import` takes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::{Builder, Header};

use super::Artifact;

/// Writes `artifact` under the image name `name`, such as `localhost/pause:1`.
pub fn write_archive(artifact: &Artifact, name: &str, path: &Path) -> Result<()> {
    // Containerd wants the whole name, and other tools what a reference to the layout has after its colon.
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let mut descriptor = artifact.manifest().descriptor();
    descriptor["annotations"] = json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    let file =
        File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
    let mut archive = Builder::new(file);
    append(
        &mut archive,
        "oci-layout",
        &text_of(&json!({ "imageLayoutVersion": "1.0.0" }))?,
    )?;
    append(&mut archive, "index.json", &text_of(&index)?)?;
    // By digest, so that a layer which two platforms share is written once.
    let mut blobs = BTreeMap::from([(&artifact.manifest().digest, artifact.manifest())]);
    for image in artifact.images() {
        blobs.extend(image.blobs().map(|blob| (&blob.digest, blob)));
        blobs.insert(&image.manifest.digest, &image.manifest);
    }
    for (digest, blob) in blobs {
        append(
            &mut archive,
            &format!("blobs/{}", digest.replace(':', "/")),
            &blob.bytes,
        )?;
    }
    archive
        .finish()
        .with_context(|| format!("failed to end {}", path.display()))
}

fn text_of(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("failed to write a part of the layout")
}

fn append(archive: &mut Builder<File>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    archive
        .append_data(&mut header, name, bytes)
        .with_context(|| format!("failed to write {name} into an image archive"))
}
