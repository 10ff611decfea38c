//! Manifests by digest: from the store, or fetched whole, checked and stored with what they refer to.

use bytes::Bytes;
use crds::policy::Action;
use crds::values::RegistryHost;
use hashbrown::Equivalent;

use super::answer::{Answer, Content};
use super::freshness::Lifetime;
use super::manifest_store::{Found, find, keep};
use super::{Cache, CacheOutcome, Error, Origin, Place};
use crate::oci::manifest::Manifest;
use crate::oci::{Algorithm, Digest, MAXIMUM_MANIFEST, MediaType, Reference, Repository};
use crate::storage;

/// A request for a manifest.
#[derive(Debug, Clone, Copy)]
pub struct ManifestRequest<'a> {
    pub upstream: &'a RegistryHost,
    pub repository: &'a Repository,
    pub reference: &'a Reference,
    /// Only the head is wanted.
    pub head: bool,
}

/// What is asked of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key<T>(RegistryHost, Repository, T);

/// The same to look up by, with the same hash.
#[derive(Debug, Hash)]
pub(super) struct Sought<'a, T>(&'a RegistryHost, &'a Repository, &'a T);

impl<'a, T> Sought<'a, T> {
    pub(super) fn new(place: Place<'a>, name: &'a T) -> Self {
        Self(place.host, place.repository, name)
    }
}

impl<T: Eq> Equivalent<Key<T>> for Sought<'_, T> {
    fn equivalent(&self, key: &Key<T>) -> bool {
        *self.2 == key.2 && *self.1 == key.1 && *self.0 == key.0
    }
}

impl<'a> ManifestRequest<'a> {
    fn place(&self) -> Place<'a> {
        Place {
            host: self.upstream,
            repository: self.repository,
        }
    }
}

impl<T: Clone> Key<T> {
    pub(super) fn new(origin: &Origin, name: &T) -> Self {
        Self(
            origin.host().clone(),
            origin.repository.clone(),
            name.clone(),
        )
    }
}

/// A manifest as it is given to clients.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) media_type: MediaType,
    pub(super) content: Bytes,
}

/// A manifest that was not at hand.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) stored: Stored,
    pub(super) way: Way,
}

/// How it came, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Bucket,
    Upstream,
    /// From the upstream, and the store did not take it.
    Unstored,
}

impl Fetched {
    /// For the one who made it be fetched, or for one who waited for the same.
    pub(super) fn answer(self, first: bool, head: bool) -> Answer {
        let outcome = match self.way {
            _ if !first => CacheOutcome::Joined,
            Way::Bucket => CacheOutcome::Bucket,
            Way::Upstream => CacheOutcome::Miss,
            Way::Unstored => CacheOutcome::Bypass,
        };
        let answer = self.stored.answer(outcome, head);
        match self.way {
            Way::Unstored => answer.unstored(),
            Way::Bucket | Way::Upstream => answer,
        }
    }
}

impl Stored {
    pub(super) fn answer(self, outcome: CacheOutcome, head: bool) -> Answer {
        let size = Some(self.content.len() as u64);
        Answer {
            content: if head {
                Content::Nothing
            } else {
                Content::Bytes(self.content)
            },
            ..Answer::about(outcome, Some(self.digest), self.media_type, size)
        }
    }
}

impl Cache {
    pub async fn manifest(&self, request: ManifestRequest<'_>) -> Result<Answer, Error> {
        let tag = request.reference.tag();
        let (origin, admission) = {
            let rules = self.rules_now();
            let rules = rules.as_ref().ok_or(Error::NotReady)?;
            let (upstream, admission) = rules.admit(request.place(), tag)?;
            if admission.action == Action::Cache
                && let Some(answer) = self.at_hand(&admission.lifetime, request)
            {
                return Ok(answer);
            }
            (Origin::new(upstream, request.repository), admission)
        };
        if admission.action == Action::Forward {
            let passing = self.pass_manifest(&origin, request, CacheOutcome::Forwarded);
            return in_time(&origin, Box::pin(passing)).await;
        }
        // Apart: what waits needs much room, and most requests wait for nothing.
        let keeping = Box::pin(self.kept(&origin, &admission.lifetime, request));
        in_time(&origin, keeping).await
    }

    /// The answer, if neither the disk nor the upstream has to be waited for.
    fn at_hand(&self, lifetime: &Lifetime, request: ManifestRequest<'_>) -> Option<Answer> {
        match request.reference {
            Reference::Tag(tag) => self.tag_at_hand(request.place(), lifetime, tag, request.head),
            Reference::Digest(digest) => {
                let stored = self.recent_manifest(request.place(), digest)?;
                Some(Answer {
                    immutable: true,
                    ..stored.answer(CacheOutcome::Hit, request.head)
                })
            }
        }
    }

    /// From the store, or fetched and kept.
    async fn kept(
        &self,
        origin: &Origin,
        lifetime: &Lifetime,
        request: ManifestRequest<'_>,
    ) -> Result<Answer, Error> {
        let answer = match request.reference {
            Reference::Tag(tag) => self.tag(origin, lifetime, tag, request.head).await,
            Reference::Digest(digest) => self
                .manifest_by_digest(origin, digest, request.head)
                .await
                .map(|answer| Answer {
                    immutable: true,
                    ..answer
                }),
        };
        match answer {
            Err(Error::Store(error)) => {
                tracing::error!(%error, "failed to use the store; passing through");
                let passing = self.pass_manifest(origin, request, CacheOutcome::Bypass);
                passing.await.map(Answer::unstored)
            }
            other => other,
        }
    }

    pub(super) async fn manifest_by_digest(
        &self,
        origin: &Origin,
        digest: &Digest,
        head: bool,
    ) -> Result<Answer, Error> {
        let found = self.look_up_manifest(origin, digest).await?;
        match found {
            Found::Here(stored) => return Ok(stored.answer(CacheOutcome::Hit, head)),
            Found::Elsewhere(content) => {
                if let Some(stored) = self.shared_manifest(origin, digest).await {
                    return Ok(stored.answer(CacheOutcome::Bucket, head));
                }
                let response = origin
                    .upstream
                    .head_manifest(&origin.repository, &Reference::Digest(digest.clone()))
                    .await
                    .map_err(Error::Upstream)?;
                let stored = self.checked(origin, digest.clone(), response.media_type, content)?;
                self.keep(origin, &stored).await;
                self.share_manifest(origin, digest);
                return Ok(stored.answer(CacheOutcome::Revalidated, head));
            }
            Found::Nowhere => {}
        }
        if head {
            if let Some(stored) = self.shared_manifest(origin, digest).await {
                return Ok(stored.answer(CacheOutcome::Bucket, true));
            }
            let reference = Reference::Digest(digest.clone());
            return self
                .head_of_manifest(origin, &reference, CacheOutcome::Miss)
                .await;
        }
        let (fetched, first) = self.fetch_once(origin, digest).await?;
        Ok(fetched.answer(first, head))
    }

    pub(super) async fn look_up_manifest(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<Found, Error> {
        if let Some(stored) = self.recent_manifest(origin.place(), digest) {
            return Ok(Found::Here(stored));
        }
        let tickets = self.tickets();
        let (host, repository, digest) = (
            origin.host().clone(),
            origin.repository.clone(),
            digest.clone(),
        );
        let found = self
            .blocking(move |store| find(store, &host, &repository, digest))
            .await?;
        if let Found::Here(stored) = &found {
            self.manifest_was_read(origin, stored, tickets);
        }
        Ok(found)
    }

    /// Fetches a manifest by digest, once for all who ask at the same time.
    async fn fetch_once(&self, origin: &Origin, digest: &Digest) -> Result<(Fetched, bool), Error> {
        let key = Key::new(origin, digest);
        let mut seat = self.0.manifests.join(&key, &self.0.tasks, || {
            let (cache, origin, digest) = (self.clone(), origin.clone(), digest.clone());
            self.until_stop(async move {
                // Another flight may have landed since the store was looked at.
                if let Ok(Found::Here(stored)) = cache.look_up_manifest(&origin, &digest).await {
                    let way = Way::Upstream;
                    return Ok(Fetched { stored, way });
                }
                if let Some(stored) = cache.shared_manifest(&origin, &digest).await {
                    let way = Way::Bucket;
                    return Ok(Fetched { stored, way });
                }
                let reference = Reference::Digest(digest.clone());
                cache.fetch_manifest(&origin, &reference).await
            })
        });
        let fetched = seat.answer(None).await?;
        Ok((fetched, seat.first))
    }

    /// Fetches a manifest, checks it and keeps it.
    pub(super) async fn fetch_manifest(
        &self,
        origin: &Origin,
        reference: &Reference,
    ) -> Result<Fetched, Error> {
        let stored = self.get_manifest(origin, reference).await?;
        let way = if self.keep(origin, &stored).await {
            Way::Upstream
        } else {
            Way::Unstored
        };
        self.share_manifest(origin, &stored.digest);
        Ok(Fetched { stored, way })
    }

    /// Fetches a manifest and checks it.
    pub(super) async fn get_manifest(
        &self,
        origin: &Origin,
        reference: &Reference,
    ) -> Result<Stored, Error> {
        let response = origin
            .upstream
            .get_manifest(&origin.repository, reference)
            .await
            .map_err(Error::Upstream)?;
        let (said, media_type) = (response.digest, response.media_type);
        let content = response
            .body
            .whole(MAXIMUM_MANIFEST)
            .await
            .map_err(Error::Upstream)?;
        let digest = match (reference, said) {
            (Reference::Digest(digest), _) => digest.clone(),
            (Reference::Tag(_), Some(digest)) => digest,
            (Reference::Tag(_), None) => Digest::of(Algorithm::Sha256, &content),
        };
        self.checked(origin, digest, media_type, content)
    }

    pub(super) fn checked(
        &self,
        origin: &Origin,
        digest: Digest,
        media_type: Option<String>,
        content: Bytes,
    ) -> Result<Stored, Error> {
        if !digest.names(&content) {
            return Err(self.count_mismatch(origin, &digest));
        }
        let manifest = Manifest::parse(&content).map_err(|error| Error::NotAManifest {
            host: origin.host_text(),
            name: digest.to_string().into(),
            reason: error.to_string().into(),
        })?;
        // A content type that no manifest has would be shown to clients that choose their parser by it.
        let media_type = media_type
            .filter(|name| name.contains("json") && name.len() < 200 && name != "application/json")
            .unwrap_or(manifest.media_type)
            .into();
        Ok(Stored {
            digest,
            media_type,
            content,
        })
    }

    /// Stores a checked manifest, if the store can take it. Whether it did.
    pub(super) async fn keep(&self, origin: &Origin, stored: &Stored) -> bool {
        let size = stored.content.len() as u64;
        // A full disk gets one round of eviction.
        for _ in 0..2 {
            if self.store_is_broken() {
                return false;
            }
            let Some(_reservation) = self.reserve(size).await else {
                return false;
            };
            let (host, repository, stored) = (
                origin.host().clone(),
                origin.repository.clone(),
                stored.clone(),
            );
            let kept = self
                .blocking(move |store| keep(store, &host, &repository, &stored))
                .await;
            match kept {
                Ok(()) => return true,
                Err(error) => self.after_write_failure(&error, size).await,
            }
        }
        false
    }

    pub(super) async fn head_of_manifest(
        &self,
        origin: &Origin,
        reference: &Reference,
        outcome: CacheOutcome,
    ) -> Result<Answer, Error> {
        let response = origin
            .upstream
            .head_manifest(&origin.repository, reference)
            .await
            .map_err(Error::Upstream)?;
        let digest = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => response.digest,
        };
        if let (Some(_), Some(media_type), Some(_)) =
            (&digest, response.media_type, response.length)
        {
            let media_type = media_type.into();
            return Ok(Answer::about(outcome, digest, media_type, response.length));
        }
        // Not all registries say on HEAD what clients need to know.
        let stored = self.get_manifest(origin, reference).await?;
        Ok(stored.answer(outcome, true))
    }

    async fn pass_manifest(
        &self,
        origin: &Origin,
        request: ManifestRequest<'_>,
        outcome: CacheOutcome,
    ) -> Result<Answer, Error> {
        if request.head {
            return self
                .head_of_manifest(origin, request.reference, outcome)
                .await;
        }
        Ok(self
            .get_manifest(origin, request.reference)
            .await?
            .answer(outcome, false))
    }
}

/// The answer, if it comes while clients wait. What is fetched for others too is fetched on.
async fn in_time(
    origin: &Origin,
    answering: impl Future<Output = Result<Answer, Error>>,
) -> Result<Answer, Error> {
    let answer = tokio::time::timeout(origin.upstream.patience(), answering).await;
    answer.unwrap_or_else(|_| Err(Error::Late(origin.host_text())))
}

/// What a tag's record says, from a manifest that was fetched by it.
pub(super) fn tag_record(stored: &Stored, now: crate::clock::Moment) -> storage::TagRecord {
    storage::TagRecord {
        digest: stored.digest.clone(),
        media_type: stored.media_type.clone(),
        size: stored.content.len() as u64,
        checked_at: now,
    }
}
