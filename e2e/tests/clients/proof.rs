//! What each case shows, whatever its client says: by the log of the cache the client had the bytes from it, and by the log of
//! the upstream nobody but the cache asked there, for each byte once.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cache_server::{CacheServer, Served};
use e2e::images::{Artifact, Blob};
use e2e::upstream::Request;
use e2e::{Registries, wait};

/// Both write their lines after the client has the last byte.
const LOG_LIMIT: Duration = Duration::from_secs(20);

/// Digest and size of what a client has to fetch as blobs.
pub(crate) type Expected = (String, u64);

pub(crate) fn expected(blob: &Blob) -> Expected {
    (blob.digest.clone(), blob.bytes.len() as u64)
}

/// The blobs of all images of the artifact.
pub(crate) fn blobs(artifact: &Artifact) -> Vec<Expected> {
    let images = artifact.images().iter();
    images
        .flat_map(|image| image.blobs().map(expected))
        .collect()
}

/// The client had all of them from the cache, which had each byte from the upstream once.
pub(crate) fn came_through(
    registries: &Registries,
    cache: &CacheServer,
    blobs: &[Expected],
) -> Result<()> {
    wait::until("the blobs to be in both logs", LOG_LIMIT, || {
        for (digest, size) in blobs {
            let served: u64 = served(cache, digest)?.iter().map(|one| one.bytes).sum();
            ensure!(served >= *size, "the cache sent {served} bytes of {digest}");
            let fetched: u64 = fetched(registries, digest)?
                .iter()
                .map(|one| one.bytes)
                .sum();
            ensure!(
                fetched == *size,
                "the upstream sent {fetched} of the {size} bytes of {digest}"
            );
        }
        Ok(())
    })?;
    registries.upstream.only_caches_asked()
}

/// The client had all of them from the cache, and the upstream was asked for none.
pub(crate) fn came_from_the_store(
    registries: &Registries,
    cache: &CacheServer,
    blobs: &[Expected],
    since: usize,
) -> Result<()> {
    wait::until("the blobs to be in the cache's log", LOG_LIMIT, || {
        for (digest, size) in blobs {
            let served = served(cache, digest)?;
            let sent: u64 = served.iter().skip(since).map(|one| one.bytes).sum();
            ensure!(sent >= *size, "the cache sent {sent} bytes of {digest}");
        }
        Ok(())
    })?;
    for (digest, _) in blobs {
        let fetched = fetched(registries, digest)?;
        ensure!(fetched.is_empty(), "the upstream was asked: {fetched:?}");
    }
    registries.upstream.only_caches_asked()
}

/// Successful answers of the cache with bytes of that blob.
pub(crate) fn served(cache: &CacheServer, digest: &str) -> Result<Vec<Served>> {
    let mut requests = cache.requests()?;
    requests.retain(|one| {
        one.kind == "blob"
            && one.method == "GET"
            && one.reference == digest
            && matches!(one.status, 200 | 206)
    });
    Ok(requests)
}

fn fetched(registries: &Registries, digest: &str) -> Result<Vec<Request>> {
    let end = format!("/blobs/{digest}");
    let mut requests = registries.upstream.requests()?;
    requests.retain(|one| one.method == "GET" && one.path.ends_with(&end));
    Ok(requests)
}
