//! A request over the endpoints of an upstream, the healthy ones first, and once more where that may help.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

use super::authorize::Target;
use super::client::{Endpoint, Upstream};
use super::health::{Health, Standing};
use super::{Error, Response};
use crate::clock::Moment;
use crate::last_error::LastError;
use crate::oci::Repository;

/// Around so long before a second try.
const RETRY: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) repository: &'a Repository,
    /// What stands behind the repository's name.
    pub(super) path: String,
    pub(super) query: Option<&'a str>,
    pub(super) headers: HeaderMap,
}

impl Upstream {
    pub(super) async fn request(&self, mut question: Question<'_>) -> Result<Response, Error> {
        // What is stored is what the digest names: never a compressed form of it.
        question
            .headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // Apart: whoever waits for it need not have room for all that it may take.
        let answering = Box::pin(self.answered(&question));
        match tokio::time::timeout(self.timeouts.answer, answering).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Silent { host: self.name() }),
        }
    }

    async fn answered(&self, question: &Question<'_>) -> Result<Response, Error> {
        let target = self.target(question.repository).await?;
        let patience = self.timeouts.queue;
        let slot = self.limits.slot(patience).await;
        let slot = slot.ok_or_else(|| Error::Busy { host: self.name() })?;
        let mut response = self.persist(question, &target).await?;
        // The answer to a HEAD has no body whose end would give the place back.
        if question.method != Method::HEAD {
            response.body.hold(slot);
        }
        Ok(response)
    }

    async fn persist(
        &self,
        question: &Question<'_>,
        target: &Target<'_>,
    ) -> Result<Response, Error> {
        let error = match self.round(question, target).await {
            Err(error) if error.is_worth_a_second_try() => error,
            other => return other,
        };
        tokio::time::sleep(RETRY.mul_f64(0.5 + fastrand::f64())).await;
        match self.round(question, target).await {
            Err(Error::Resting { .. }) => Err(error),
            other => other,
        }
    }

    /// Each endpoint that may be asked, until one has an answer.
    async fn round(&self, question: &Question<'_>, target: &Target<'_>) -> Result<Response, Error> {
        let mut last = None;
        for endpoint in self.ranked(self.clock.now()) {
            let began = self.clock.now();
            if !endpoint.health().claim(began) {
                continue;
            }
            let mut url = endpoint.url.clone();
            url.set_path(&format!("/v2/{}/{}", target.name, question.path));
            url.set_query(question.query);
            let headers = question.headers.clone();
            let answer = self
                .authorized(&question.method, endpoint, target, url, headers)
                .await;
            self.learn(endpoint, began, answer.as_ref().err());
            match answer {
                Err(error) if error.is_worth_another_endpoint() => {
                    // A second round would wait for the silent one again.
                    let waited = last.filter(Error::is_silence);
                    last = match waited {
                        Some(silence) if error.is_worth_a_second_try() => Some(silence),
                        _ => Some(error),
                    };
                }
                other => return other.map(|response| self.response(response)),
            }
        }
        Err(last.unwrap_or_else(|| self.resting(self.clock.now())))
    }

    /// The endpoints in the order in which they are to be asked.
    fn ranked(&self, now: Moment) -> Vec<&Endpoint> {
        let mut ranked: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.health().standing(now), endpoint))
            .filter(|(standing, _)| !matches!(standing, Standing::Closed(_)))
            .collect();
        ranked.sort_by_key(|(standing, _)| *standing);
        ranked.into_iter().map(|(_, endpoint)| endpoint).collect()
    }

    /// Takes what became of a request into account.
    fn learn(&self, endpoint: &Endpoint, began: Moment, error: Option<&Error>) {
        let now = self.clock.now();
        let mut health = endpoint.health();
        let was_open = health.is_open();
        if let Some(error) = error.filter(|error| !error.is_not_found()) {
            health.last_error = Some(LastError::new(now, error));
        }
        match error {
            Some(Error::Paused { pause, .. }) => health.pause(now, *pause),
            Some(error) if error.is_failure_of_the_endpoint() => {
                health.failed(began, now, fastrand::f64());
            }
            _ => health.succeeded(),
        }
        let is_open = health.is_open();
        drop(health);
        self.show_breaker(endpoint, is_open);
        if was_open != is_open {
            let (upstream, endpoint) = (self.name(), &endpoint.name);
            if is_open {
                tracing::warn!(%upstream, %endpoint, "an endpoint failed again and again; it is left alone for a while");
            } else {
                tracing::info!(%upstream, %endpoint, "an endpoint answers again");
            }
        }
    }

    /// Why nothing is asked.
    fn resting(&self, now: Moment) -> Error {
        let healths = self.endpoints.iter().map(Endpoint::health);
        let rests = healths.map(|health| {
            let left = match health.standing(now) {
                Standing::Closed(left) => left,
                _ => Duration::ZERO,
            };
            (left, health.is_paused(now))
        });
        let (left, paused) = rests.min().unwrap_or_default();
        Error::Resting {
            host: self.name(),
            reason: if paused {
                "it asked for a pause"
            } else {
                "it failed again and again"
            },
            seconds: u64::try_from(left.as_millis().div_ceil(1000))
                .unwrap_or(u64::MAX)
                .max(1),
        }
    }

    pub(super) fn show_breaker(&self, endpoint: &Endpoint, is_open: bool) {
        self.metrics
            .upstream_breaker_open
            .with_label_values(&[&*self.name(), &endpoint.name])
            .set(i64::from(is_open));
    }
}

impl Endpoint {
    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
