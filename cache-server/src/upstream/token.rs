//! Bearer tokens: asked for once per endpoint, credential and repository, kept until they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Error;
use super::auth::Challenge;
use super::authorize::Target;
use super::client::{Endpoint, Upstream};

/// Above this number the expired ones are thrown out.
const MANY: usize = 1024;

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What a token is good for. Nobody gets the token of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) endpoint: usize,
    /// Of the credential that it was asked for with.
    pub(super) identity: Option<usize>,
    pub(super) scope: String,
}

/// The tokens of one upstream.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<Key, Slot>>,
}

#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Arc<str>,
    pub(super) expires: Instant,
}

// Not derived: a token must not be able to reach a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

impl Tokens {
    fn slot(&self, key: &Key) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > MANY {
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(Token::is_alive),
                Err(_) => true,
            });
        }
        slots.entry(key.clone()).or_default().clone()
    }

    /// A token that is at hand. Waits for one that is being asked for.
    pub(super) async fn known(&self, key: &Key) -> Option<Arc<str>> {
        let slot = self.slot(key);
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
        endpoint: &Endpoint,
        target: &Target<'_>,
        key: &Key,
        challenge: &Challenge,
        refused: Option<&str>,
    ) -> Result<Arc<str>, Error> {
        let slot = self.tokens.slot(key);
        // Held across the request: whoever comes meanwhile wants this very token.
        let mut token = slot.lock().await;
        if let Some(token) = token
            .as_ref()
            .filter(|token| token.is_alive() && refused != Some(&*token.text))
        {
            return Ok(token.text.clone());
        }
        let fetched = self
            .fetch_token(endpoint, target, &key.scope, challenge)
            .await?;
        let text = fetched.text.clone();
        *token = Some(fetched);
        Ok(text)
    }
}
