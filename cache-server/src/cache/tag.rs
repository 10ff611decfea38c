//! Tags: fresh for a while, then checked with the upstream, and answered with the old copy while it fails or hangs.

use super::answer::Answer;
use super::freshness::{Freshness, Lifetime};
use super::manifest::{Fetched, Key, Stored, Way, tag_record};
use super::manifest_store::Found;
use super::{Cache, CacheOutcome, Error, Origin, Place};
use crate::clock::Moment;
use crate::oci::{Reference, Tag};
use crate::storage::TagRecord;

/// What the upstream says a tag is now.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    record: TagRecord,
    /// There if it was fetched for the answer.
    manifest: Option<Fetched>,
}

/// What a tag was, and its manifest if it is there.
type FoundCopy = (TagRecord, Option<Stored>);

/// The copy at hand.
struct Copy {
    record: TagRecord,
    /// `None` if the manifest itself is not stored.
    manifest: Option<Stored>,
    freshness: Freshness,
    /// What a fresh answer from it is.
    outcome: CacheOutcome,
}

impl Cache {
    /// The answer, if the tag is fresh and in memory.
    pub(super) fn tag_at_hand(
        &self,
        place: Place<'_>,
        lifetime: &Lifetime,
        tag: &Tag,
        head: bool,
    ) -> Option<Answer> {
        let (record, manifest) = self.recent_copy(place, tag, head)?;
        match (self.judge(lifetime, &record), manifest) {
            (Freshness::Fresh, Some(stored)) => Some(stored.answer(CacheOutcome::Hit, head)),
            (Freshness::Fresh, None) => Some(about(&record, CacheOutcome::Hit)),
            (Freshness::Stale | Freshness::Expired, _) => None,
        }
    }

    fn judged(
        &self,
        lifetime: &Lifetime,
        (record, manifest): FoundCopy,
        outcome: CacheOutcome,
    ) -> Copy {
        Copy {
            outcome,
            freshness: self.judge(lifetime, &record),
            manifest,
            record,
        }
    }

    fn judge(&self, lifetime: &Lifetime, record: &TagRecord) -> Freshness {
        lifetime.judge(record.checked_at, self.0.clock.now())
    }

    pub(super) async fn tag(
        &self,
        origin: &Origin,
        lifetime: &Lifetime,
        tag: &Tag,
        head: bool,
    ) -> Result<Answer, Error> {
        let copy = self.copy(origin, lifetime, tag, head).await?;
        if let Some(copy) = &copy
            && copy.freshness == Freshness::Fresh
        {
            return match copy.answer(copy.outcome, head) {
                Some(answer) => Ok(answer),
                None => self.fetched(origin, &copy.record).await,
            };
        }
        let stale = copy
            .as_ref()
            .filter(|copy| copy.freshness == Freshness::Stale)
            .and_then(|copy| copy.answer(CacheOutcome::Stale, head));
        let whole = copy.is_none() && !head;
        let known = copy.as_ref().map(|copy| copy.record.checked_at);
        let (resolved, first) = match self
            .resolve(origin, lifetime, tag, known, whole, stale.is_some())
            .await
        {
            Ok(resolved) => resolved,
            Err(error) => return self.instead(origin, stale, error),
        };
        let unchanged = copy
            .as_ref()
            .filter(|copy| copy.record.digest == resolved.record.digest)
            .and_then(|copy| copy.answer(CacheOutcome::Revalidated, head));
        if let Some(answer) = unchanged {
            return Ok(answer);
        }
        match resolved.manifest {
            Some(fetched) => Ok(fetched.answer(first, head)),
            None if head && first => Ok(about(&resolved.record, CacheOutcome::Miss)),
            None if head => Ok(about(&resolved.record, CacheOutcome::Joined)),
            None => self.fetched(origin, &resolved.record).await,
        }
    }

    async fn fetched(&self, origin: &Origin, record: &TagRecord) -> Result<Answer, Error> {
        let answer = self
            .manifest_by_digest(origin, &record.digest, false)
            .await?;
        // Another repository may have brought it: for this tag it is a miss all the same.
        Ok(match answer.outcome {
            CacheOutcome::Hit => Answer {
                outcome: CacheOutcome::Revalidated,
                ..answer
            },
            _ => answer,
        })
    }

    /// The copy in memory, or the one in the store.
    async fn copy(
        &self,
        origin: &Origin,
        lifetime: &Lifetime,
        tag: &Tag,
        head: bool,
    ) -> Result<Option<Copy>, Error> {
        let found = match self.recent_copy(origin.place(), tag, head) {
            Some(found) => Some(found),
            None => self.stored_copy(origin, tag, head).await?,
        };
        let copy = found.map(|found| self.judged(lifetime, found, CacheOutcome::Hit));
        let fresh = copy
            .as_ref()
            .is_some_and(|copy| copy.freshness == Freshness::Fresh);
        if fresh || self.bucket().is_none() {
            return Ok(copy);
        }
        // A record that is not fresh from its beginning is no better than the one here.
        let newer = if copy.is_some() && lifetime.refresh_after.is_zero() {
            None
        } else {
            let known = copy.as_ref().map(|copy| copy.record.checked_at);
            self.shared_copy(origin, tag, head, known).await
        };
        let newer = newer.map(|found| self.judged(lifetime, found, CacheOutcome::Bucket));
        let mut copy = newer.or(copy);
        // It is answered if the upstream fails.
        if let Some(copy) = &mut copy
            && !head
            && copy.manifest.is_none()
            && copy.freshness == Freshness::Stale
        {
            copy.manifest = self.shared_manifest(origin, &copy.record.digest).await;
        }
        Ok(copy)
    }

    /// What another replica wrote of the tag, if it is newer than what is `known`. It is in the store then.
    async fn shared_copy(
        &self,
        origin: &Origin,
        tag: &Tag,
        head: bool,
        known: Option<Moment>,
    ) -> Option<FoundCopy> {
        let record = self.shared_tag(origin, tag).await?;
        if Some(record.checked_at) <= known {
            return None;
        }
        self.write_tag(origin, tag, &record).await;
        if head {
            return Some((record, None));
        }
        let manifest = match self.look_up_manifest(origin, &record.digest).await {
            Ok(Found::Here(stored)) => Some(stored),
            _ => None,
        };
        Some((record, manifest))
    }

    /// The manifest is there unless only the head is wanted.
    fn recent_copy(&self, place: Place<'_>, tag: &Tag, head: bool) -> Option<FoundCopy> {
        let record = self.recent_tag(place, tag)?;
        if head {
            self.use_manifest(&record.digest);
            return Some((record, None));
        }
        let manifest = self.recent_manifest(place, &record.digest)?;
        Some((record, Some(manifest)))
    }

    async fn stored_copy(
        &self,
        origin: &Origin,
        tag: &Tag,
        head: bool,
    ) -> Result<Option<FoundCopy>, Error> {
        let tickets = self.tickets();
        let (host, repository, name) = (
            origin.host().clone(),
            origin.repository.clone(),
            tag.clone(),
        );
        let found = self
            .blocking(move |store| {
                let Some(record) = store.tag(&host, &repository, &name)? else {
                    return Ok(None);
                };
                if head {
                    store.touch(&record.digest);
                    return Ok(Some((record, None)));
                }
                let media_type = store.manifest_type(&host, &repository, &record.digest)?;
                let content = match media_type {
                    Some(_) => store.read(&record.digest, crate::oci::MAXIMUM_MANIFEST)?,
                    None => None,
                };
                let manifest = media_type.zip(content).map(|(media_type, content)| Stored {
                    digest: record.digest.clone(),
                    media_type: media_type.into(),
                    content: content.into(),
                });
                Ok(Some((record, manifest)))
            })
            .await?;
        if let Some((record, manifest)) = &found {
            self.tag_was_read(origin, tag, record, tickets);
            if let Some(manifest) = manifest {
                self.manifest_was_read(origin, manifest, tickets);
            }
        }
        Ok(found)
    }

    /// Asks the upstream, once for all who want to know. Who has a stale copy does not wait to the end; the upstream is
    /// asked on. The second value: whether this one made it be asked.
    async fn resolve(
        &self,
        origin: &Origin,
        lifetime: &Lifetime,
        tag: &Tag,
        known: Option<Moment>,
        whole: bool,
        has_stale: bool,
    ) -> Result<(Resolved, bool), Error> {
        let key = Key::new(origin, tag);
        let memory = format!("{}/{}:{tag}", origin.host(), origin.repository);
        // What is never fresh while it is there is not missing for longer either.
        let lifetime = self.0.patience.negative.min(lifetime.refresh_after);
        if let Some(error) = self.0.negative.get(&memory, self.0.clock.now(), lifetime) {
            return Err(error);
        }
        let mut seat = self.0.tags.join(&key, &self.0.tasks, || {
            let (cache, origin, tag) = (self.clone(), origin.clone(), tag.clone());
            self.until_stop(async move {
                // Another flight may have landed since the store was looked at.
                if let Some(record) = cache.recent_tag(origin.place(), &tag)
                    && Some(record.checked_at) > known
                {
                    return Ok(Resolved {
                        record,
                        manifest: None,
                    });
                }
                let now = cache.0.clock.now();
                if let Some(error) = cache.0.negative.get(&memory, now, lifetime) {
                    return Err(error);
                }
                let resolved = cache.ask(&origin, &tag, whole).await;
                if let Some(error) = resolved.as_ref().err().filter(|error| error.is_lasting()) {
                    let now = cache.0.clock.now();
                    cache.0.negative.put(memory, error.clone(), now, lifetime);
                }
                resolved
            })
        });
        let patience = has_stale.then_some(self.0.patience.revalidation);
        Ok((seat.answer(patience).await?, seat.first))
    }

    async fn ask(&self, origin: &Origin, tag: &Tag, whole: bool) -> Result<Resolved, Error> {
        let reference = Reference::Tag(tag.clone());
        let asked = if whole {
            self.ask_whole(origin, &reference).await
        } else {
            self.ask_head(origin, &reference).await
        };
        let (host, repository, name) = (
            origin.host().clone(),
            origin.repository.clone(),
            tag.clone(),
        );
        match asked {
            Ok(mut resolved) => {
                let written = self.write_tag(origin, tag, &resolved.record).await;
                if let Some(fetched) = &mut resolved.manifest
                    && !written
                {
                    fetched.way = Way::Unstored;
                }
                self.share_tag(origin, tag);
                Ok(resolved)
            }
            // It is gone, which an old copy must not deny later on. Who is only not let in may be let in a moment later.
            Err(Error::Upstream(error)) if error.is_absent() => {
                let _ = self
                    .blocking(move |store| store.remove_tag(&host, &repository, &name))
                    .await;
                self.tag_was_removed(origin, tag);
                self.share_end_of_tag(origin, tag);
                Err(Error::Upstream(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the store took it.
    async fn write_tag(&self, origin: &Origin, tag: &Tag, record: &TagRecord) -> bool {
        let (host, repository, name) = (
            origin.host().clone(),
            origin.repository.clone(),
            tag.clone(),
        );
        let copy = record.clone();
        let written = self
            .blocking(move |store| store.put_tag(&host, &repository, &name, &copy))
            .await;
        match &written {
            Ok(()) => self.tag_was_written(origin, tag, record),
            Err(error) => {
                self.tag_was_removed(origin, tag);
                self.note_write_failure(error);
            }
        }
        written.is_ok()
    }

    async fn ask_head(&self, origin: &Origin, reference: &Reference) -> Result<Resolved, Error> {
        let response = origin
            .upstream
            .head_manifest(&origin.repository, reference)
            .await
            .map_err(Error::Upstream)?;
        match (response.digest, response.media_type, response.length) {
            (Some(digest), Some(media_type), Some(size)) => Ok(Resolved {
                record: TagRecord {
                    digest,
                    media_type: media_type.into(),
                    size,
                    checked_at: self.0.clock.now(),
                },
                manifest: None,
            }),
            // Not all registries say on HEAD what clients need to know.
            _ => self.ask_whole(origin, reference).await,
        }
    }

    async fn ask_whole(&self, origin: &Origin, reference: &Reference) -> Result<Resolved, Error> {
        let fetched = self.fetch_manifest(origin, reference).await?;
        Ok(Resolved {
            record: tag_record(&fetched.stored, self.0.clock.now()),
            manifest: Some(fetched),
        })
    }

    /// The stale copy if the upstream failed, and the error if there is none or the upstream said no.
    pub(super) fn instead(
        &self,
        origin: &Origin,
        stale: Option<Answer>,
        error: Error,
    ) -> Result<Answer, Error> {
        let said_no = matches!(&error, Error::Upstream(error) if error.is_not_found());
        let Some(answer) = stale.filter(|_| !said_no) else {
            return Err(error);
        };
        let host = origin.host();
        self.0
            .metrics
            .stale_served
            .with_label_values(&[host.as_str()])
            .inc();
        tracing::warn!(upstream = %host, repository = %origin.repository, %error, "answering with a stale copy");
        let warning =
            format!("299 - \"{host} did not answer; this is the copy of an earlier answer\"");
        Ok(Answer {
            warning: Some(warning),
            ..answer
        })
    }
}

impl Copy {
    fn answer(&self, outcome: CacheOutcome, head: bool) -> Option<Answer> {
        if head {
            return Some(about(&self.record, outcome));
        }
        let stored = self.manifest.clone()?;
        Some(stored.answer(outcome, false))
    }
}

fn about(record: &TagRecord, outcome: CacheOutcome) -> Answer {
    let digest = Some(record.digest.clone());
    Answer::about(
        outcome,
        digest,
        record.media_type.clone(),
        Some(record.size),
    )
}
