//! One identity over time: signed in once for all who need it, renewed ahead of its end, kept through failures until then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::super::Error;
use super::super::credentials::Secret;
use super::{Provider, Wire};
use crate::clock::{Clock, Moment};
use crate::metrics::Metrics;

/// How long nobody tries again after a failure, while there is nothing to show.
const FAILURE: Duration = Duration::from_secs(2);
/// The same while what is there is still good.
const FAILURE_AHEAD: Duration = Duration::from_secs(30);
/// Taken off each lifetime, so that nothing ends on its way.
const MARGIN: Duration = Duration::from_secs(5);
/// What is younger is not given up for a refusal: it would be got again and refused again.
const YOUNG: Duration = Duration::from_mins(1);

/// An identity of one upstream.
pub(in super::super) struct Session {
    upstream: Arc<str>,
    provider: Provider,
    wire: Wire,
    clock: Clock,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Held while it is signed in: who comes meanwhile wants this very answer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    failure: Option<(Moment, Arc<str>)>,
}

#[derive(Clone)]
struct Held {
    secret: Arc<Secret>,
    since: Moment,
    lifetime: Duration,
}

// Not derived: a secret must not be able to reach a log.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("upstream", &self.upstream)
            .field("provider", &self.provider.name())
            .finish_non_exhaustive()
    }
}

impl Held {
    fn is_alive(&self, now: Moment) -> bool {
        now.since(self.since)
            .is_some_and(|age| age + MARGIN < self.lifetime)
    }

    /// Whether three quarters of its time are over.
    fn is_due(&self, now: Moment) -> bool {
        now.since(self.since)
            .is_none_or(|age| age >= self.lifetime / 4 * 3)
    }
}

impl Session {
    pub(in super::super) fn new(
        upstream: Arc<str>,
        provider: Provider,
        wire: Wire,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            upstream,
            provider,
            wire,
            clock,
            metrics,
            state: Mutex::default(),
            turn: Arc::default(),
        }
    }

    /// What to show to the upstream. Signs in if there is nothing that is still good.
    pub(in super::super) async fn secret(self: &Arc<Self>) -> Result<Arc<Secret>, Error> {
        if let Some(held) = self.alive() {
            self.renew_if_due(&held);
            return Ok(held.secret);
        }
        let _turn = self.turn.lock().await;
        if let Some(held) = self.alive() {
            return Ok(held.secret);
        }
        if let Some(reason) = self.failure_within(FAILURE) {
            return Err(self.error(reason));
        }
        self.sign_in().await.map_err(|reason| self.error(reason))
    }

    /// The upstream refused it before its time.
    pub(in super::super) fn was_refused(&self, secret: &Arc<Secret>) {
        let now = self.clock.now();
        let mut state = self.state();
        let is_old = state.held.as_ref().is_some_and(|held| {
            Arc::ptr_eq(&held.secret, secret) && now.since(held.since).is_none_or(|age| age > YOUNG)
        });
        if is_old {
            state.held = None;
        }
    }

    fn renew_if_due(self: &Arc<Self>, held: &Held) {
        if !held.is_due(self.clock.now()) || self.failure_within(FAILURE_AHEAD).is_some() {
            return;
        }
        if let Ok(turn) = self.turn.clone().try_lock_owned() {
            tokio::spawn(self.clone().renew(turn));
        }
    }

    async fn renew(self: Arc<Self>, _turn: OwnedMutexGuard<()>) {
        // What went wrong is said there, and what is at hand serves on.
        let _ = self.sign_in().await;
    }

    async fn sign_in(&self) -> Result<Arc<Secret>, Arc<str>> {
        let answer = self.provider.sign_in(&self.wire, self.clock.now()).await;
        let result = if answer.is_ok() { "ok" } else { "failed" };
        self.metrics
            .upstream_sign_ins
            .with_label_values(&[&*self.upstream, result])
            .inc();
        let now = self.clock.now();
        let mut state = self.state();
        match answer {
            Ok(signed_in) => {
                let secret = Arc::new(signed_in.secret);
                state.failure = None;
                state.held = Some(Held {
                    secret: secret.clone(),
                    since: now,
                    lifetime: signed_in.lifetime,
                });
                Ok(secret)
            }
            Err(reason) => {
                tracing::warn!(upstream = %self.upstream, provider = self.provider.name(), %reason, "failed to sign in");
                state.failure = Some((now, reason.clone()));
                Err(reason)
            }
        }
    }

    fn alive(&self) -> Option<Held> {
        let now = self.clock.now();
        self.state().held.clone().filter(|held| held.is_alive(now))
    }

    fn failure_within(&self, time: Duration) -> Option<Arc<str>> {
        let now = self.clock.now();
        let state = self.state();
        let (at, reason) = state.failure.as_ref()?;
        (now.since(*at)? < time).then(|| reason.clone())
    }

    fn error(&self, reason: Arc<str>) -> Error {
        Error::SignIn {
            host: self.upstream.clone(),
            provider: self.provider.name(),
            reason,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
