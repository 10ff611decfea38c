//! Fetches images before anybody asks for them, by the ways of a pull: the same rules, fills and checks.

use std::collections::HashSet;
use std::time::Duration;

use crds::policy::Action;
use crds::values::RegistryHost;
use futures::{StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::fill::{End, Fill};
use super::manifest::ManifestRequest;
use super::{Cache, CacheOutcome, Content, Error, Origin};
use crate::oci::parts::{Part, Parts};
use crate::oci::{Digest, Reference, Repository};

/// Contents of one image that are fetched at the same time.
const AT_ONCE: usize = 4;
/// Manifests of one image: an index may name indexes, but not without an end.
const MAXIMUM_MANIFESTS: usize = 256;
/// How often it is said how far a fill is.
const EVERY: Duration = Duration::from_millis(500);
/// Looks at content that comes and goes while it is waited for.
const ROUNDS: usize = 4;

/// An image to fetch.
#[derive(Debug, Clone)]
pub struct WarmRequest {
    pub upstream: RegistryHost,
    pub repository: Repository,
    pub reference: Reference,
    /// `linux/amd64`; none: all that an index names.
    pub platforms: Vec<String>,
}

/// What happens, in its order.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum WarmEvent {
    /// So many bytes of config and layers belong to the image.
    #[serde(rename_all = "camelCase")]
    Planned {
        image: String,
        contents: usize,
        bytes: u64,
    },
    /// How far a fill is.
    Progress { digest: String, bytes: u64 },
    /// It is in the store, and was there already or not.
    #[serde(rename_all = "camelCase")]
    Content {
        image: String,
        digest: String,
        bytes: u64,
        fetched: bool,
    },
    /// Something of the image is not in the store.
    Failed { image: String, reason: String },
    /// Nothing more comes for it.
    Done { image: String, complete: bool },
}

/// Whoever wanted it has left.
struct Left;

type To = mpsc::Sender<WarmEvent>;

impl Cache {
    /// Fetches the images one after the other and tells of it, until all are there or nobody listens.
    pub async fn warm(&self, requests: Vec<WarmRequest>, to: To) {
        for request in requests {
            let image = request.name();
            let complete = match self.warm_image(&request, &image, &to).await {
                Ok(complete) => complete,
                Err(Left) => return,
            };
            let done = WarmEvent::Done { image, complete };
            if to.send(done).await.is_err() {
                return;
            }
        }
    }

    /// The answer: whether all of it is there.
    async fn warm_image(&self, request: &WarmRequest, image: &str, to: &To) -> Result<bool, Left> {
        let (origin, parts) = match self.warm_manifests(request).await {
            Ok(found) => found,
            Err(reason) => return fail(to, image, reason).await,
        };
        let planned = WarmEvent::Planned {
            image: image.to_owned(),
            contents: parts.len(),
            bytes: parts.iter().map(|part| part.size).sum(),
        };
        tell(to, planned).await?;
        let fetched = stream::iter(parts).map(|part| {
            let origin = &origin;
            async move {
                match self.warm_content(origin, &part.digest, to).await {
                    Ok((bytes, fetched)) => {
                        let content = WarmEvent::Content {
                            image: image.to_owned(),
                            digest: part.digest.to_string(),
                            bytes,
                            fetched,
                        };
                        tell(to, content).await.map(|()| true)
                    }
                    Err(Stopped::Left) => Err(Left),
                    Err(Stopped::Failed(error)) => {
                        fail(to, image, format!("{}: {error}", part.digest)).await
                    }
                }
            }
        });
        let mut fetched = fetched.buffer_unordered(AT_ONCE);
        let mut complete = true;
        while let Some(one) = fetched.next().await {
            complete &= one?;
        }
        Ok(complete)
    }

    /// Fetches an image's manifests, and says what they consist of.
    async fn warm_manifests(&self, request: &WarmRequest) -> Result<(Origin, Vec<Part>), String> {
        let (host, repository) = (&request.upstream, &request.repository);
        let tag = request.reference.tag();
        let text = |error: Error| error.to_string();
        let (origin, admission) = self.admit(host, repository, tag).map_err(text)?;
        if admission.action == Action::Forward {
            return Err("the policy says Forward: it is passed through and not kept".to_owned());
        }
        let mut parts = Vec::new();
        let mut seen = HashSet::new();
        let mut waiting = vec![request.reference.clone()];
        let mut manifests = 0;
        while let Some(reference) = waiting.pop() {
            manifests += 1;
            if manifests > MAXIMUM_MANIFESTS {
                return Err(format!("it has more than {MAXIMUM_MANIFESTS} manifests"));
            }
            let found = self.warm_manifest(&origin, &reference).await;
            let found = found.map_err(|reason| format!("{reference}: {reason}"))?;
            for child in found.children {
                if child.is_for(&request.platforms) && seen.insert(child.digest.clone()) {
                    waiting.push(Reference::Digest(child.digest));
                }
            }
            let new = found.contents.into_iter();
            parts.extend(new.filter(|part| seen.insert(part.digest.clone())));
        }
        if manifests == 1 && parts.is_empty() && !request.platforms.is_empty() {
            return Err(format!(
                "it has nothing for {}",
                request.platforms.join(" or ")
            ));
        }
        Ok((origin, parts))
    }

    async fn warm_manifest(&self, origin: &Origin, reference: &Reference) -> Result<Parts, String> {
        let answer = self
            .manifest(ManifestRequest {
                upstream: origin.host(),
                repository: &origin.repository,
                reference,
                head: false,
            })
            .await
            .map_err(|error| error.to_string())?;
        let (Some(digest), Content::Bytes(content)) = (answer.digest, answer.content) else {
            return Err("it has no manifest".to_owned());
        };
        let kept = self.look_up(origin, &digest).await;
        if answer.outcome == CacheOutcome::Bypass || !matches!(kept, Ok((Some(_), _))) {
            return Err("the store does not take it now".to_owned());
        }
        Parts::parse(&content).map_err(|error| error.to_string())
    }

    /// Size of the content once it is in the store, and whether it had to be fetched.
    async fn warm_content(
        &self,
        origin: &Origin,
        digest: &Digest,
        to: &To,
    ) -> Result<(u64, bool), Stopped> {
        let mut fetched = false;
        for _ in 0..ROUNDS {
            let (blob, member) = self.look_up(origin, digest).await?;
            if let Some(blob) = blob {
                if !member {
                    self.confirm(origin, digest).await?;
                }
                return Ok((blob.size, fetched));
            }
            if let Some(error) = self.remembered_failure(origin, digest) {
                return Err(error.into());
            }
            if self.store_is_broken() || self.admission_is_stopped() {
                return Err(Error::Full.into());
            }
            let (fill, _) = self.fill(origin, digest);
            let own = fill.origin.place() == origin.place();
            match wait(fill, digest, to).await? {
                // Another's failure says nothing of this one, and what another stored must be confirmed.
                End::Failed(error) if own && !matches!(error, Error::Bucket(_)) => {
                    return Err(error.into());
                }
                End::Stored(_) => fetched = true,
                End::Failed(_) | End::AlreadyThere => {}
            }
        }
        Err(Error::Gone.into())
    }
}

impl WarmRequest {
    /// As people write it.
    fn name(&self) -> String {
        let joint = match self.reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        let (upstream, repository) = (&self.upstream, &self.repository);
        format!("{upstream}/{repository}{joint}{}", self.reference)
    }
}

/// Why a content is not waited for any more.
enum Stopped {
    Left,
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Waits for a fill's end, and says how far it is.
async fn wait(fill: Fill, digest: &Digest, to: &To) -> Result<End, Stopped> {
    let mut progress = fill.progress;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ended = progress.wait_for(|progress| progress.end.is_some());
        tokio::select! {
            ended = ended => {
                let end = ended.ok().and_then(|progress| progress.end.clone());
                return end.ok_or(Stopped::Failed(Error::Gone));
            }
            _ = every.tick() => {}
        }
        let event = WarmEvent::Progress {
            digest: digest.to_string(),
            bytes: progress.borrow().hashed,
        };
        tell(to, event).await.map_err(|Left| Stopped::Left)?;
    }
}

async fn tell(to: &To, event: WarmEvent) -> Result<(), Left> {
    to.send(event).await.map_err(|_| Left)
}

async fn fail(to: &To, image: &str, reason: String) -> Result<bool, Left> {
    let image = image.to_owned();
    tell(to, WarmEvent::Failed { image, reason })
        .await
        .map(|()| false)
}
