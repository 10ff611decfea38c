//! Takes policies: at start, and whenever the file changes. What can't be taken changes nothing but what is said.

mod watched;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::configz::Source;
use crds::policy::Policy;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Rules};
use crate::config::{LoadedPolicy, Location};
use crate::http::access::{self, Access};
use crate::storage::Store;
use crate::upstream::{self, Environment, Upstream};

use watched::Watched;

/// Second line behind the file events, which some filesystems don't give.
const POLL: Duration = Duration::from_secs(5);
/// Editors and kubelet make several events of one change.
const SETTLE: Duration = Duration::from_millis(20);

/// What is in force, for `/configz`.
#[derive(Debug, Clone, Default)]
pub struct PolicyStatus {
    pub policy_hash: Option<String>,
    pub loaded_at: Option<String>,
    pub last_error: Option<String>,
    pub source: Option<Source>,
}

/// Shared between the reloader and the admin port.
#[derive(Debug, Default)]
pub struct Status(Mutex<PolicyStatus>);

impl Status {
    pub fn get(&self) -> PolicyStatus {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, PolicyStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that taking a policy touches.
#[derive(Debug)]
pub struct Reloader {
    pub location: Location,
    pub cache: Cache,
    pub store: Arc<Store>,
    pub upstreams: Environment,
    pub status: Arc<Status>,
    pub in_force: Option<[u8; 32]>,
    pub access: Arc<Access>,
    /// Whether certificates of clients can be judged.
    pub judges_clients: bool,
    /// Where files lie that the policy in force names.
    pub directories: BTreeSet<PathBuf>,
}

/// Why a policy that is right in itself can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Upstream(upstream::Error),
    #[error("{0}")]
    Access(access::Error),
}

impl Reloader {
    /// Takes the policy of the file, or the last good one, or the default. None of them is an error: the server starts.
    pub fn start(&mut self) {
        match self.location.policy() {
            Ok(Some(loaded)) => match self.take(&loaded, Source::File) {
                Ok(()) => {}
                Err(error) => self.fall_back(Some(&error.to_string())),
            },
            Ok(None) => self.fall_back(None),
            Err(error) => self.fall_back(Some(&error.to_string())),
        }
    }

    fn fall_back(&mut self, error: Option<&str>) {
        if let Some(error) = error {
            self.refuse(error);
        }
        let remembered = match self.store.last_good_policy() {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "failed to read the last good policy");
                None
            }
        };
        // Without any configuration there is nothing that the memory could stand in for.
        let remembered = remembered.filter(|_| self.location != Location::Defaults);
        let taken = match (remembered, error) {
            (Some(text), _) => Policy::parse(&text)
                .map_err(|error| error.to_string())
                .and_then(|policy| LoadedPolicy::new(policy).map_err(|error| error.to_string()))
                .and_then(|loaded| {
                    self.take(&loaded, Source::LastGood)
                        .map_err(|error| error.to_string())
                }),
            (None, None) => LoadedPolicy::new(Policy::public_registries())
                .map_err(|error| error.to_string())
                .and_then(|loaded| {
                    self.take(&loaded, Source::Default)
                        .map_err(|error| error.to_string())
                }),
            (None, Some(_)) => Ok(()),
        };
        if let Err(error) = taken {
            self.refuse(&format!("failed to take the last good policy: {error}"));
        }
    }

    /// Looks at the file again.
    fn look(&mut self) {
        match self.location.policy() {
            Ok(Some(loaded)) => {
                if self.in_force == Some(loaded.fingerprint()) {
                    self.settled();
                    return;
                }
                if let Err(error) = self.take(&loaded, Source::File) {
                    self.refuse(&error.to_string());
                }
            }
            Ok(None) => {
                if self.status.get().source == Some(Source::File) {
                    self.refuse("failed to read the policy: the file is gone; what it said last stays in force");
                }
            }
            Err(error) => self.refuse(&error.to_string()),
        }
    }

    /// The file says what is in force.
    fn settled(&self) {
        let mut status = self.status.lock();
        let was_remembered = status.source == Some(Source::LastGood);
        if status.last_error.take().is_some() || was_remembered {
            status.source = Some(Source::File);
            self.upstreams.metrics.policy_reload_successful.set(1);
            self.upstreams.metrics.policy_from_last_good.set(0);
        }
    }

    fn take(&mut self, loaded: &LoadedPolicy, source: Source) -> Result<(), Error> {
        let rules = self.cache.rules();
        let fingerprint = loaded.fingerprint();
        let upstreams = loaded
            .policy
            .upstreams
            .iter()
            .map(|configuration| {
                let files = loaded.files.of(configuration);
                // An upstream that did not change keeps its connections and tokens.
                let known = rules
                    .as_ref()
                    .and_then(|rules| rules.upstream(&configuration.host).cloned())
                    .filter(|known| known.is_made_from(configuration, &files));
                match known {
                    Some(known) => Ok(known),
                    None => {
                        Upstream::new(configuration.clone(), files, &self.upstreams).map(Arc::new)
                    }
                }
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Upstream)?;
        let guard = match self.access.guard() {
            Some(guard) if loaded.is_guarded_by(&guard) => guard,
            _ => Arc::new(loaded.guard(self.judges_clients).map_err(Error::Access)?),
        };
        for old in rules.iter().flat_map(|rules| rules.upstreams()) {
            if !upstreams.iter().any(|new| Arc::ptr_eq(old, new)) {
                old.hide();
            }
        }
        for upstream in &upstreams {
            upstream.show();
        }
        // Stricter first, more open last: nobody gets by the one what only the other opens.
        let open = guard.is_open();
        if !open {
            self.access.install(guard.clone());
        }
        self.cache.install(Rules::new(&loaded.policy, upstreams));
        if open {
            self.access.install(guard);
        }
        self.in_force = Some(fingerprint);
        self.directories = loaded.directories();
        let (hash, now) = (loaded.policy.hash(), self.upstreams.clock.now());
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 fit until the year 287396"
        )]
        let seconds = now.0 as f64 / 1000.0;
        self.upstreams
            .metrics
            .policy_taken(&hash, seconds, source == Source::LastGood);
        tracing::info!(%hash, ?source, "the policy {hash} is in force");
        let mut status = self.status.lock();
        status.policy_hash = Some(hash);
        status.loaded_at = Some(now.to_rfc3339());
        status.source = Some(source);
        if source != Source::LastGood {
            status.last_error = None;
            self.upstreams.metrics.policy_reload_successful.set(1);
        }
        drop(status);
        if source == Source::File
            && let Err(error) = self.store.put_last_good_policy(&loaded.policy.to_yaml())
        {
            tracing::error!(%error, "failed to remember the policy for the next start");
        }
        Ok(())
    }

    fn refuse(&self, error: &str) {
        let mut status = self.status.lock();
        if status.last_error.as_deref() == Some(error) {
            return;
        }
        tracing::error!(in_force = status.policy_hash.as_deref(), "{error}");
        status.last_error = Some(error.to_owned());
        self.upstreams.metrics.policy_reload_successful.set(0);
    }

    /// Watches until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(directory) = self.location.watched().map(Path::to_owned) else {
            return;
        };
        let (sender, mut changes) = mpsc::channel(1);
        let mut watched = Watched::new(sender);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            watched.follow(&directory, &self.directories);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = changes.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    let _ = changes.try_recv();
                }
                _ = poll.tick() => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(reloader) => self = reloader,
                Err(error) => {
                    tracing::error!(%error, "the policy is not watched any more");
                    return;
                }
            }
        }
    }
}
