//! Looking into the store and taking things out of it. Needs the token of `adminTokenFile`.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use crds::values::RegistryHost;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::Admin;
use crate::oci::{Digest, Reference, Repository, Tag};

/// Lines on their way; a slow client slows the walk down.
pub(super) const WAITING: usize = 64;

/// What is to be taken out: one of `tag` and `digest`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeRequest {
    upstream: RegistryHost,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

pub(super) type Refusal = (StatusCode, String);

/// `GET /v1/ls?prefix=docker.io/library`: one JSON object a line.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    check_token(&admin, &headers).await?;
    let mut parts = uri.query().unwrap_or_default().split('&');
    let prefix = parts.find_map(|part| part.strip_prefix("prefix="));
    // Names have no other characters that clients escape.
    let prefix = prefix
        .unwrap_or_default()
        .replace("%2F", "/")
        .replace("%3A", ":");
    let (sender, receiver) = mpsc::channel(WAITING);
    let cache = admin.cache.clone();
    tokio::spawn(async move {
        if let Err(error) = cache.images(prefix, sender).await {
            tracing::error!(%error, "failed to list what is stored");
        }
    });
    Ok(lines(receiver))
}

/// `POST /v1/purge`: what was taken out.
pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    check_token(&admin, &headers).await?;
    let request: PurgeRequest = serde_json::from_slice(&body)
        .map_err(|error| bad(&format!("failed to read the request: {error}")))?;
    let repository = Repository::parse(&request.repository)
        .ok_or_else(|| bad(&format!("{:?} is not a repository", request.repository)))?;
    let reference = reference(request.tag, request.digest)?;
    let purged = admin
        .cache
        .purge(&request.upstream, &repository, &reference)
        .await;
    match purged {
        Ok(purged) => Ok(Json(purged).into_response()),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
    }
}

pub(super) fn bad(text: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("{text}\n"))
}

pub(super) fn reference(tag: Option<String>, digest: Option<String>) -> Result<Reference, Refusal> {
    match (tag, digest) {
        (Some(tag), None) => Tag::parse(&tag)
            .map(Reference::Tag)
            .ok_or_else(|| bad(&format!("{tag:?} is not a tag"))),
        (None, Some(digest)) => Digest::parse(&digest)
            .map(Reference::Digest)
            .map_err(|error| bad(&error.to_string())),
        _ => Err(bad("write either tag or digest")),
    }
}

pub(super) async fn check_token(admin: &Admin, headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |text: &str| Err((StatusCode::FORBIDDEN, format!("{text}\n")));
    let Some(path) = admin.token_file.clone() else {
        return refuse(
            "this call needs a token: set adminTokenFile in static.yaml to a file with one",
        );
    };
    // Read each time: a mounted Secret changes under a running server.
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    let expected = match read {
        Ok(Ok(text)) if !text.trim().is_empty() => text,
        _ => return refuse("the file that adminTokenFile names can't be read or is empty"),
    };
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Of digests, the time of a comparison tells nothing.
    let digest = |text: &str| Sha256::digest(text.trim());
    if given.is_some_and(|given| digest(given) == digest(&expected)) {
        return Ok(());
    }
    refuse(
        "the token is missing or not the one in adminTokenFile: send it as Authorization: Bearer <token>",
    )
}

/// What comes, one JSON object a line.
pub(super) fn lines<T: Serialize + Send + 'static>(receiver: mpsc::Receiver<T>) -> Response {
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((json_line(&line), receiver))
    });
    let head = [(CONTENT_TYPE, "application/x-ndjson")];
    (head, Body::from_stream(lines)).into_response()
}

fn json_line(line: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text.into())
}
