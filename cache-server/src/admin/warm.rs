//! Fetching images into the store on demand. Needs the token of `adminTokenFile`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use crds::values::RegistryHost;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Admin;
use super::store::{Refusal, WAITING, bad, check_token, lines, reference};
use crate::cache::warm::WarmRequest;
use crate::oci::Repository;

/// Most images of one call.
const MAXIMUM_IMAGES: usize = 10_000;
/// Calls that are served at the same time.
const AT_ONCE: usize = 2;

/// What is to be fetched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    images: Vec<Image>,
}

/// One of `tag` and `digest`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    upstream: RegistryHost,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
    /// `linux/amd64`; none: all.
    #[serde(default)]
    platforms: Vec<String>,
}

/// Places for running calls.
pub(super) type Places = Arc<tokio::sync::Semaphore>;

pub(super) fn places() -> Places {
    Arc::new(tokio::sync::Semaphore::new(AT_ONCE))
}

/// `POST /v1/warm`: what happens, one JSON object a line, until all is there. It is given up when the client leaves.
pub(super) async fn warm(
    State((admin, places)): State<(Arc<Admin>, Places)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    check_token(&admin, &headers).await?;
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| bad(&format!("failed to read the request: {error}")))?;
    if wanted.images.len() > MAXIMUM_IMAGES {
        return Err(bad(&format!("write {MAXIMUM_IMAGES} images at most")));
    }
    let images: Vec<_> = wanted
        .images
        .into_iter()
        .map(parse)
        .collect::<Result<_, _>>()?;
    let place = places.try_acquire_owned().map_err(|_| {
        let text = format!("{AT_ONCE} such calls run already; come again when one has ended\n");
        (StatusCode::TOO_MANY_REQUESTS, text)
    })?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let cache = admin.cache.clone();
    tokio::spawn(async move {
        let gone = sender.clone();
        tokio::select! {
            () = cache.warm(images, sender) => {}
            // Fills that run go on to their end; no more are begun.
            () = gone.closed() => {}
        }
        drop(place);
    });
    Ok(lines(receiver))
}

fn parse(image: Image) -> Result<WarmRequest, Refusal> {
    let repository = Repository::parse(&image.repository)
        .ok_or_else(|| bad(&format!("{:?} is not a repository", image.repository)))?;
    Ok(WarmRequest {
        upstream: image.upstream,
        repository,
        reference: reference(image.tag, image.digest)?,
        platforms: image.platforms,
    })
}
