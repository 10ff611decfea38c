//! One round: look, plan, carry out. Rounds follow each other; they never run at the same time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::plan::{Item, Limits, Plan, Reason, plan};
use super::survey::Survey;
use super::{Cache, Last};
use crate::cache::admission::Rules;
use crate::oci::MAXIMUM_MANIFEST;
use crate::oci::manifest::Manifest;
use crate::storage::index::seconds;
use crate::storage::{self, Entry, Key, Kind, Store};

/// Time after which rules that name a time are looked at again.
const SURVEY_EVERY: Duration = Duration::from_mins(10);

/// This share of what must stay free on the disk may be used before a round looks: it looks at all content, which is too much for each blob.
const SHARE: u64 = 16;

/// What a round is run for, besides what the policy says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Bytes to free on the disk.
    pub(super) disk: u64,
}

impl Cache {
    /// Runs a round. Bytes that were freed.
    pub(super) async fn make_room(&self, wanted: Wanted) -> u64 {
        let mut last = self.0.room.last.lock().await;
        let Some(rules) = self.rules() else {
            return 0;
        };
        let cache = self.clone();
        let state = std::mem::take(&mut *last);
        let round = tokio::task::spawn_blocking(move || {
            let mut state = state;
            let freed = cache.round(&rules, wanted, &mut state);
            (state, freed)
        });
        match round.await {
            Ok((state, Ok(freed))) => {
                *last = state;
                freed
            }
            Ok((_, Err(error))) => {
                tracing::error!(%error, "failed to make room in the store");
                0
            }
            Err(_) => 0,
        }
    }

    fn round(
        &self,
        rules: &Arc<Rules>,
        wanted: Wanted,
        last: &mut Last,
    ) -> Result<u64, storage::Error> {
        let store = &self.0.store;
        let now = self.0.clock.now();
        let space = store.space()?;
        let max = rules.maximum(space.capacity);
        let coming = self.0.room.reserved.load(Ordering::SeqCst);
        let limits = Limits {
            max,
            high: share(max, rules.capacity().high_watermark),
            low: share(max, rules.capacity().low_watermark),
            disk: wanted
                .disk
                .max(rules.minimum_free().saturating_sub(space.free)),
            coming,
            in_use_since: seconds(now)
                .saturating_sub(u32::try_from(self.0.patience.in_use.as_secs()).unwrap_or(0)),
        };
        self.0.room.max.store(limits.max, Ordering::SeqCst);
        self.0.room.high.store(limits.high, Ordering::SeqCst);
        let look_after = match rules.minimum_free() {
            0 => u64::MAX,
            bytes => bytes / SHARE,
        };
        self.0.room.look_after.store(look_after, Ordering::SeqCst);
        self.0.room.came.store(0, Ordering::SeqCst);
        self.show(&limits);
        // Before the scan is over, only what came since is known.
        if !store.is_scanned() {
            return Ok(0);
        }
        // The clock may have gone back since.
        let age = last.survey.and_then(|then| now.since(then));
        let due = age.is_none_or(|age| age >= SURVEY_EVERY) || last.policy != Some(rules.number());
        let crowded = limits.excess(store.used()) > 0 || limits.disk > 0;
        if !crowded && !due {
            self.admit_again(&limits, 0);
            return Ok(0);
        }
        let survey = if due || rules.retain() {
            last.survey = Some(now);
            last.policy = Some(rules.number());
            let survey = Survey::take(store, rules)?;
            self.show_manifests(&survey);
            survey
        } else {
            Survey::default()
        };
        store.index().believe(seconds(now));
        let entries = store.index().entries();
        let items: Vec<Item> = entries
            .iter()
            .map(|entry| Item {
                size: entry.size,
                used: entry.used,
                manifest: entry.kind == Kind::Manifest,
                standing: survey.standing(&entry.key, seconds(now)),
            })
            .collect();
        let plan = plan(&items, &limits);
        remove_old_records(store, &survey, limits.in_use_since)?;
        if !survey.old_tags.is_empty() || !survey.old_manifests.is_empty() {
            self.forget_recent();
        }
        let freed = self.carry_out(&entries, &plan, seconds(now))?;
        // What a single write lacked says nothing about the next.
        if wanted.disk == 0 {
            self.admit_again(&limits, plan.short);
        }
        Ok(freed)
    }

    fn carry_out(&self, entries: &[Entry], plan: &Plan, now: u32) -> Result<u64, storage::Error> {
        let store = &self.0.store;
        let mut freed = 0;
        // What records may speak of that is gone now.
        let mut touched = HashSet::new();
        let mut without_manifest = false;
        for (place, reason) in &plan.evict {
            let entry = &entries[*place];
            let digest = entry.key.digest();
            let manifest = (entry.kind == Kind::Manifest)
                .then(|| store.peek(&digest, MAXIMUM_MANIFEST).ok()?)
                .flatten();
            let Some(size) = store.evict(&entry.key, entry.used)? else {
                continue;
            };
            freed += size;
            without_manifest |= manifest.is_some();
            touched.insert(entry.key.clone());
            let references = manifest.and_then(|text| Manifest::parse(&text).ok());
            let references = references.into_iter().flat_map(|found| found.references);
            touched.extend(references.map(|digest| Key::from(&digest)));
            self.count(*reason, size, now.saturating_sub(entry.used));
            tracing::debug!(%digest, size, reason = reason.as_str(), "evicted {digest}");
        }
        if !touched.is_empty() {
            tracing::info!(
                freed,
                count = plan.evict.len(),
                "made room for {freed} bytes"
            );
        }
        if without_manifest || plan.evict.iter().any(|(_, why)| *why == Reason::Superseded) {
            sweep(store, &touched)?;
            self.forget_recent();
        }
        Ok(freed)
    }

    fn count(&self, reason: Reason, size: u64, age: u32) {
        let metrics = &self.0.metrics;
        let labels = [reason.as_str()];
        metrics.evictions.with_label_values(&labels).inc();
        metrics
            .evicted_bytes
            .with_label_values(&labels)
            .inc_by(size);
        metrics
            .eviction_age
            .with_label_values(&labels)
            .observe(f64::from(age));
    }

    /// Says whether new content is taken, once when that changes.
    fn admit_again(&self, limits: &Limits, short: u64) {
        let stopped = short > 0 && limits.coming == 0;
        let was = self.0.room.stopped.load(Ordering::SeqCst);
        // What does not fit alone says nothing about the next.
        if short > 0 && limits.coming > 0 || was == stopped {
            return;
        }
        self.0.room.stopped.store(stopped, Ordering::SeqCst);
        self.0.metrics.admission_stopped.set(i64::from(stopped));
        if stopped {
            tracing::warn!(
                short,
                max = limits.max,
                "what must be kept fills the store; new content is passed through without storing"
            );
        } else {
            tracing::info!("new content is stored again");
        }
    }

    fn show(&self, limits: &Limits) {
        let max = i64::try_from(limits.max).unwrap_or(i64::MAX);
        self.0.metrics.store_max.set(max);
    }

    fn show_manifests(&self, survey: &Survey) {
        for (state, count) in [
            ("complete", survey.complete),
            ("incomplete", survey.incomplete),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let gauge = &self.0.metrics.manifests;
            gauge.with_label_values(&[state]).set(count);
        }
    }
}

fn share(size: u64, percent: u8) -> u64 {
    size / 100 * u64::from(percent) + size % 100 * u64::from(percent) / 100
}

/// Removes what is not among the newest any more. What is in use stays for now: without its record, nobody would know
/// later that it is old.
fn remove_old_records(
    store: &Store,
    survey: &Survey,
    in_use_since: u32,
) -> Result<(), storage::Error> {
    let is_in_use = |digest| {
        let entry = store.index().get(&Key::from(digest));
        entry.is_some_and(|entry| entry.used >= in_use_since)
    };
    for (host, repository, tag, digest) in &survey.old_tags {
        if !is_in_use(digest) {
            store.remove_tag(host, repository, tag)?;
            tracing::info!(upstream = %host, %repository, %tag, "the tag is not among the newest any more");
        }
    }
    for (host, repository, digest) in &survey.old_manifests {
        if !is_in_use(digest) {
            store.remove_manifest_record(host, repository, digest)?;
        }
    }
    Ok(())
}

/// Removes records of content that is gone, in every repository that speaks of it.
pub(crate) fn sweep(store: &Store, touched: &HashSet<Key>) -> Result<(), storage::Error> {
    store.each_repository(&mut |host, repository| {
        if !store.speaks_of(host, repository, touched)? {
            return Ok(());
        }
        let mut referred = HashSet::new();
        for digest in store.manifests(host, repository)? {
            let text = store.peek(&digest, MAXIMUM_MANIFEST)?;
            let manifest = text.and_then(|text| Manifest::parse(&text).ok());
            let references = manifest.into_iter().flat_map(|found| found.references);
            referred.extend(references.map(|digest| Key::from(&digest)));
        }
        store.sweep(host, repository, touched, &referred)
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::Standing;
    use super::*;

    #[test]
    fn shares_are_exact_without_overflow() {
        assert_eq!(share(1000, 95), 950);
        assert_eq!(share(50, 85), 42);
        assert_eq!(share(u64::MAX, 100), u64::MAX);
    }

    #[test]
    fn content_without_a_rule_is_kept() {
        let key = Key::Sha256([0; 32]);
        assert_eq!(Survey::default().standing(&key, 1), Standing::Kept);
    }
}
