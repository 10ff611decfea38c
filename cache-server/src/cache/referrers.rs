//! What refers to a manifest: asked for whole, kept for as long as a tag, filtered here. Where the upstream has no API for it, the
//! tag that clients keep instead is read, so that clients of the cache need not know.

use bytes::Bytes;
use crds::policy::Action;
use crds::values::RegistryHost;

use super::answer::{Answer, Content};
use super::freshness::Freshness;
use super::list::{MAXIMUM_LIST, next_query};
use super::manifest::Key;
use super::{Cache, CacheOutcome, Error, Origin};
use crate::clock::Moment;
use crate::oci::{Digest, MediaType, Reference, Repository, media_type, referrers};
use crate::storage::ReferrersRecord;
use crate::upstream;

/// A request for the referrers of a manifest.
#[derive(Debug, Clone)]
pub struct ReferrersRequest {
    pub upstream: RegistryHost,
    pub repository: Repository,
    pub subject: Digest,
    /// Only those are wanted.
    pub artifact_type: Option<String>,
    /// The query of a further page, encoded.
    pub page: Option<String>,
    pub head: bool,
}

/// What the upstream says.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    index: Bytes,
    next: Option<String>,
}

impl Listing {
    fn whole(index: Bytes) -> Self {
        Self { index, next: None }
    }
}

/// The listing, and whether it was written down.
type Fetched = Result<(Listing, bool), Error>;

/// Running questions, by repository and subject.
pub(super) type Questions = super::flights::Flights<Key<Digest>, Fetched>;

impl Cache {
    pub async fn referrers(&self, request: &ReferrersRequest) -> Result<Answer, Error> {
        let (origin, admission) = self.admit(&request.upstream, &request.repository, None)?;
        let subject = &request.subject;
        // A part of a list is worth nothing later on.
        if request.page.is_some() || admission.action == Action::Forward {
            let page = request.page.as_deref();
            let listing = self.list_referrers(&origin, subject, page).await?;
            return Ok(request.answer(listing, CacheOutcome::Forwarded));
        }
        let copy = self.kept_referrers(&origin, subject).await;
        let known = copy.as_ref().map(|copy| copy.checked_at);
        let now = self.0.clock.now();
        let freshness = known.map(|checked| admission.lifetime.judge(checked, now));
        let answer = |copy: ReferrersRecord, outcome| {
            request.answer(Listing::whole(copy.index.into()), outcome)
        };
        let stale = match (copy, freshness) {
            (Some(copy), Some(Freshness::Fresh)) => return Ok(answer(copy, CacheOutcome::Hit)),
            (Some(copy), Some(Freshness::Stale)) => Some(answer(copy, CacheOutcome::Stale)),
            _ => None,
        };
        match self
            .ask_once(&origin, subject, known, stale.is_some())
            .await
        {
            Ok((listing, outcome)) => Ok(request.answer(listing, outcome)),
            Err(error) => self.instead(&origin, stale, error),
        }
    }

    async fn kept_referrers(&self, origin: &Origin, subject: &Digest) -> Option<ReferrersRecord> {
        let (host, repository) = (origin.host().clone(), origin.repository.clone());
        let subject = subject.clone();
        let kept = self
            .blocking(move |store| store.referrers(&host, &repository, &subject))
            .await;
        kept.unwrap_or_else(|error| {
            tracing::error!(%error, "failed to use the store; asking the upstream");
            None
        })
    }

    /// Asks the upstream, once for all who want to know. Who has a stale copy does not wait to the end; the upstream is
    /// asked on.
    async fn ask_once(
        &self,
        origin: &Origin,
        subject: &Digest,
        known: Option<Moment>,
        has_stale: bool,
    ) -> Result<(Listing, CacheOutcome), Error> {
        let key = Key::new(origin, subject);
        let mut seat = self.0.referrers.join(&key, &self.0.tasks, || {
            let (cache, origin, subject) = (self.clone(), origin.clone(), subject.clone());
            self.until_stop(async move {
                // Another flight may have landed since the store was looked at.
                if let Some(copy) = cache.kept_referrers(&origin, &subject).await
                    && Some(copy.checked_at) > known
                {
                    return Ok((Listing::whole(copy.index.into()), true));
                }
                let listing = cache.list_referrers(&origin, &subject, None).await?;
                let kept = cache.keep_referrers(&origin, &subject, &listing).await;
                Ok((listing, kept))
            })
        });
        let patience = has_stale.then_some(self.0.patience.revalidation);
        let (listing, kept) = seat.answer(patience).await?;
        let outcome = match (seat.first, kept) {
            (false, _) => CacheOutcome::Joined,
            (true, true) => CacheOutcome::Miss,
            (true, false) => CacheOutcome::Forwarded,
        };
        Ok((listing, outcome))
    }

    /// Writes a whole list down, and says whether it did. Anybody can ask for the referrers of what does not exist: of that
    /// nothing is kept.
    async fn keep_referrers(&self, origin: &Origin, subject: &Digest, listing: &Listing) -> bool {
        if listing.next.is_some() || self.store_is_broken() {
            return false;
        }
        let Ok(index) = String::from_utf8(listing.index.to_vec()) else {
            return false;
        };
        let record = ReferrersRecord {
            checked_at: self.0.clock.now(),
            index,
        };
        let empty = referrers::is_empty(&listing.index);
        let (host, repository) = (origin.host().clone(), origin.repository.clone());
        let subject = subject.clone();
        let kept = self
            .blocking(move |store| {
                let worth = !empty
                    || store.manifest_type(&host, &repository, &subject)?.is_some()
                    || store.referrers(&host, &repository, &subject)?.is_some();
                if worth {
                    store.put_referrers(&host, &repository, &subject, &record)?;
                }
                Ok(worth)
            })
            .await;
        kept.unwrap_or_else(|error| {
            self.note_write_failure(&error);
            false
        })
    }

    /// `page`: the query of a further page.
    async fn list_referrers(
        &self,
        origin: &Origin,
        subject: &Digest,
        page: Option<&str>,
    ) -> Result<Listing, Error> {
        let path = format!("referrers/{subject}");
        let asked = origin
            .upstream
            .get_list(&origin.repository, &path, page)
            .await;
        let response = match asked {
            Ok(response) => response,
            Err(error) if has_no_api(&error) => return self.by_tag(origin, subject).await,
            Err(error) => return Err(Error::Upstream(error)),
        };
        let next = response.link.as_deref().and_then(next_query);
        let index = response.body.whole(MAXIMUM_LIST).await;
        let index = index.map_err(Error::Upstream)?;
        if referrers::is_list(&index) != Some(true) {
            return Err(Error::NotAManifest {
                host: origin.host_text(),
                name: path.into(),
                reason: "a list of referrers is an index".into(),
            });
        }
        Ok(Listing { index, next })
    }

    async fn by_tag(&self, origin: &Origin, subject: &Digest) -> Result<Listing, Error> {
        let empty = Listing::whole(Bytes::from_static(referrers::EMPTY));
        let Some(tag) = referrers::tag(subject) else {
            return Ok(empty);
        };
        match self.get_manifest(origin, &Reference::Tag(tag)).await {
            Ok(stored) if referrers::is_list(&stored.content) == Some(true) => {
                Ok(Listing::whole(stored.content))
            }
            Ok(_) | Err(Error::Upstream(upstream::Error::NotFound { status: 404, .. })) => {
                Ok(empty)
            }
            Err(error) => Err(error),
        }
    }
}

/// 404 is what the spec has a registry without the API say; those that know only some paths say the others.
fn has_no_api(error: &upstream::Error) -> bool {
    matches!(
        error,
        upstream::Error::NotFound { status: 404, .. }
            | upstream::Error::Status {
                status: 405 | 501,
                ..
            }
    )
}

impl ReferrersRequest {
    fn answer(&self, listing: Listing, outcome: CacheOutcome) -> Answer {
        let Listing { index, next } = listing;
        let artifact_type = self.artifact_type.as_deref();
        let filtered = artifact_type.and_then(|wanted| referrers::of_type(&index, wanted));
        let filters = filtered.as_ref().map(|_| "artifactType".to_owned());
        let index = filtered.map_or(index, Bytes::from);
        let size = Some(index.len() as u64);
        let wanted = artifact_type.map(|wanted| format!("&artifactType={}", encode(wanted)));
        Answer {
            next_page: next.map(|next| next + &wanted.unwrap_or_default()),
            filters,
            content: if self.head {
                Content::Nothing
            } else {
                Content::Bytes(index)
            },
            ..Answer::about(outcome, None, MediaType::known(media_type::OCI_INDEX), size)
        }
    }
}

/// As a value of a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
