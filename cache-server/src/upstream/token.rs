//! Anonymous bearer tokens: asked for once per endpoint and repository, kept until they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::Deserialize;

use super::auth::Challenge;
use super::client::Upstream;
use super::{Error, trust};

/// The lifetime of a token that does not say its own (the token spec's default).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// Taken off each lifetime, so that a token does not expire on its way.
const MARGIN: Duration = Duration::from_secs(5);
const MAXIMUM_ANSWER: u64 = 64 * 1024;
/// Above this number the expired ones are thrown out.
const MANY: usize = 1024;

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens of one upstream.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<(usize, String), Slot>>,
}

#[derive(Clone)]
pub(super) struct Token {
    text: Arc<str>,
    expires: Instant,
}

// Not derived: a token must not be able to reach a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    fn slot(&self, endpoint: usize, scope: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > MANY {
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(Token::is_alive),
                Err(_) => true,
            });
        }
        slots
            .entry((endpoint, scope.to_owned()))
            .or_default()
            .clone()
    }

    /// A token that is at hand. Waits for one that is being asked for.
    pub(super) async fn known(&self, endpoint: usize, scope: &str) -> Option<Arc<str>> {
        let slot = self.slot(endpoint, scope);
        let token = slot.lock().await;
        token
            .as_ref()
            .filter(|token| token.is_alive())
            .map(|token| token.text.clone())
    }
}

impl Token {
    fn is_alive(&self) -> bool {
        Instant::now() < self.expires
    }
}

impl Upstream {
    /// A token for a challenge. `refused` is the one that the endpoint has just refused: another one at hand is used.
    pub(super) async fn token(
        &self,
        (index, endpoint): (usize, &Url),
        scope: &str,
        challenge: &Challenge,
        refused: Option<&str>,
    ) -> Result<Arc<str>, Error> {
        let slot = self.tokens.slot(index, scope);
        // Held across the request: whoever comes meanwhile wants this very token.
        let mut token = slot.lock().await;
        if let Some(token) = token
            .as_ref()
            .filter(|token| token.is_alive() && refused != Some(&*token.text))
        {
            return Ok(token.text.clone());
        }
        let fetched = self.fetch_token(endpoint, scope, challenge).await?;
        let text = fetched.text.clone();
        *token = Some(fetched);
        Ok(text)
    }

    async fn fetch_token(
        &self,
        endpoint: &Url,
        scope: &str,
        challenge: &Challenge,
    ) -> Result<Token, Error> {
        let untrusted = || Error::Realm {
            host: self.name(),
            realm: challenge.realm.chars().take(200).collect::<String>().into(),
        };
        let mut url = Url::parse(&challenge.realm).map_err(|_| untrusted())?;
        if !trust::realm_is_trusted(endpoint, self.host().as_str(), &url)
            || !url.username().is_empty()
        {
            return Err(untrusted());
        }
        if let Some(service) = &challenge.service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut()
            .append_pair("scope", challenge.scope.as_deref().unwrap_or(scope));
        let response = self
            .follow(&Method::GET, endpoint, url, HeaderMap::new())
            .await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(self.status_error(status));
        }
        let body = self.read_whole(response, MAXIMUM_ANSWER).await?;
        let broken = |reason: &str| Error::Broken {
            host: self.name(),
            reason: reason.into(),
        };
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| broken("the token answer is not JSON"))?;
        let text = answer
            .token
            .or(answer.access_token)
            .ok_or_else(|| broken("the token answer has no token"))?;
        let lifetime = answer
            .expires_in
            .map_or(DEFAULT_LIFETIME, Duration::from_secs)
            .min(Duration::from_hours(1));
        Ok(Token {
            text: text.into(),
            expires: Instant::now() + lifetime.saturating_sub(MARGIN),
        })
    }
}
