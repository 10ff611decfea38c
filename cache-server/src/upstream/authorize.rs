//! Requests with the credentials that the upstream asks for: none, a token, or a user name with its password.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};

use super::Error;
use super::auth::{self, Challenge};
use super::client::{Endpoint, Upstream};
use super::credentials::{Credential, Secret};
use super::token::Key;

/// A repository as the upstream knows it, and who asks for it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) name: String,
    pub(super) shown: Option<Shown<'a>>,
}

/// A credential and what it is at the moment.
pub(super) struct Shown<'a> {
    pub(super) credential: &'a Credential,
    pub(super) secret: Arc<Secret>,
}

// Not derived: a secret must not be able to reach a log.
impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.credential.fmt(f)
    }
}

impl Upstream {
    pub(super) async fn authorized(
        &self,
        method: &Method,
        endpoint: &Endpoint,
        target: &Target<'_>,
        url: Url,
        mut headers: HeaderMap,
    ) -> Result<reqwest::Response, Error> {
        let key = Key {
            endpoint: endpoint.index,
            identity: target.shown.as_ref().map(|shown| shown.credential.identity),
            scope: format!("repository:{}:pull", target.name),
        };
        let token = self.tokens.known(&key).await;
        let basic = target.shown.as_ref().and_then(|shown| shown.secret.basic());
        let at_once = basic.filter(|_| endpoint.wants_basic.load(Ordering::Relaxed));
        let mut sent_basic = false;
        if let Some(token) = &token {
            headers.insert(AUTHORIZATION, bearer(token));
        } else if let Some(value) = at_once {
            sent_basic = true;
            headers.insert(AUTHORIZATION, value.clone());
        }
        let mut response = self
            .follow(method, &endpoint.url, url.clone(), headers.clone())
            .await?;
        if response.status().as_u16() == 401 {
            if let Some(challenge) = challenge(response.headers()) {
                let token = self
                    .token(endpoint, target, &key, &challenge, token.as_deref())
                    .await?;
                sent_basic = false;
                headers.insert(AUTHORIZATION, bearer(&token));
                response = self.follow(method, &endpoint.url, url, headers).await?;
            } else if let Some(value) = basic.filter(|_| !sent_basic)
                && wants_basic(response.headers())
            {
                endpoint.wants_basic.store(true, Ordering::Relaxed);
                sent_basic = true;
                headers.insert(AUTHORIZATION, value.clone());
                response = self.follow(method, &endpoint.url, url, headers).await?;
            }
        }
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            401 if sent_basic => Err(self.credentials_error(target, 401)),
            status => Err(self.status_error(status)),
        }
    }

    pub(super) fn credentials_error(&self, target: &Target<'_>, status: u16) -> Error {
        if let Some(shown) = &target.shown {
            shown.credential.was_refused(&shown.secret);
        }
        Error::Credentials {
            host: self.name(),
            repository: Arc::from(target.name.as_str()),
            status,
        }
    }
}

fn challenges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    challenges(headers).find_map(Challenge::parse)
}

fn wants_basic(headers: &HeaderMap) -> bool {
    challenges(headers).any(auth::wants_basic)
}

fn bearer(token: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer invalid"));
    value.set_sensitive(true);
    value
}
