//! Uploads to a registry on loopback, by the distribution specification.

use anyhow::{Context, Result, bail};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{StatusCode, Url};

use super::{Artifact, Blob};

/// Uploads `artifact` as `repository:tag` to the registry at `registry`, such as `http://10.88.0.1:5555`.
pub fn push(
    client: &Client,
    registry: &str,
    repository: &str,
    tag: &str,
    artifact: &Artifact,
) -> Result<()> {
    let base = format!("{registry}/v2/{repository}");
    for image in artifact.images() {
        for blob in image.blobs() {
            push_blob(client, &base, blob)
                .with_context(|| format!("failed to upload blob {}", blob.digest))?;
        }
        push_manifest(client, &base, &image.manifest.digest, &image.manifest)?;
    }
    push_manifest(client, &base, tag, artifact.manifest())
}

fn push_blob(client: &Client, base: &str, blob: &Blob) -> Result<()> {
    let address = format!("{base}/blobs/{}", blob.digest);
    let present = client
        .head(&address)
        .send()
        .with_context(|| format!("failed to ask for {address}"))?;
    if present.status().is_success() {
        return Ok(());
    }
    let started = accepted(
        client.post(format!("{base}/blobs/uploads/")),
        StatusCode::ACCEPTED,
    )?;
    let location = started
        .headers()
        .get(LOCATION)
        .context("an upload was accepted without a location")?;
    let location = location
        .to_str()
        .context("the location of an upload is not text")?;
    let mut location: Url = started
        .url()
        .join(location)
        .context("the location of an upload is no address")?;
    location
        .query_pairs_mut()
        .append_pair("digest", &blob.digest);
    let upload = client
        .put(location)
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(blob.bytes.to_vec());
    accepted(upload, StatusCode::CREATED)?;
    Ok(())
}

fn push_manifest(client: &Client, base: &str, reference: &str, manifest: &Blob) -> Result<()> {
    let upload = client
        .put(format!("{base}/manifests/{reference}"))
        .header(CONTENT_TYPE, manifest.media_type)
        .body(manifest.bytes.to_vec());
    accepted(upload, StatusCode::CREATED)
        .with_context(|| format!("failed to upload manifest {reference}"))?;
    Ok(())
}

fn accepted(request: RequestBuilder, expected: StatusCode) -> Result<Response> {
    let response = request.send().context("the registry did not answer")?;
    if response.status() == expected {
        return Ok(response);
    }
    let (status, address) = (response.status(), response.url().clone());
    bail!(
        "{address} answered {status}: {}",
        response.text().unwrap_or_default()
    );
}
