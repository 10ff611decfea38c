//! Asks a realm for a token: anonymously, with a password, or with an identity token.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::auth::Challenge;
use super::authorize::Target;
use super::client::{Endpoint, Upstream};
use super::credentials::Secret;
use super::exchange::Sent;
use super::token::Token;
use super::trust::Reach;
use super::{Error, trust};

/// The lifetime of a token that does not say its own (the token spec's default).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// Taken off each lifetime, so that a token does not expire on its way.
const MARGIN: Duration = Duration::from_secs(5);
const MAXIMUM_ANSWER: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Upstream {
    pub(super) async fn fetch_token(
        &self,
        endpoint: &Endpoint,
        target: &Target<'_>,
        scope: &str,
        challenge: &Challenge,
    ) -> Result<Token, Error> {
        let url = self.trusted_realm(&endpoint.url, challenge)?;
        let scope = challenge.scope.as_deref().unwrap_or(scope);
        let service = challenge.service.as_deref();
        let response = match target.shown.as_ref().map(|shown| &*shown.secret) {
            None => {
                self.get_token(endpoint, url, service, scope, HeaderMap::new())
                    .await
            }
            Some(Secret::Basic(value)) => {
                let headers = HeaderMap::from_iter([(AUTHORIZATION, value.clone())]);
                self.get_token(endpoint, url, service, scope, headers).await
            }
            Some(Secret::IdentityToken(identity)) => {
                self.exchange_identity(&url, service, scope, identity).await
            }
        }?;
        match response.status().as_u16() {
            200 => {}
            status @ (400 | 401 | 403) if target.shown.is_some() => {
                return Err(self.credentials_error(target, status));
            }
            status => return Err(self.status_error(status)),
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

    fn trusted_realm(&self, endpoint: &Url, challenge: &Challenge) -> Result<Url, Error> {
        let untrusted = || Error::Realm {
            host: self.name(),
            realm: challenge.realm.chars().take(200).collect::<String>().into(),
        };
        let url = Url::parse(&challenge.realm).map_err(|_| untrusted())?;
        let host = self.host().as_str();
        if trust::realm_is_trusted(endpoint, host, &url, &self.auth_realms)
            && url.username().is_empty()
        {
            Ok(url)
        } else {
            Err(untrusted())
        }
    }

    async fn get_token(
        &self,
        endpoint: &Endpoint,
        mut url: Url,
        service: Option<&str>,
        scope: &str,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, Error> {
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", scope);
        self.follow(&Method::GET, &endpoint.url, url, headers).await
    }

    /// OAuth 2, as the distribution project describes it. A redirect is not followed: the body is a secret.
    async fn exchange_identity(
        &self,
        url: &Url,
        service: Option<&str>,
        scope: &str,
        identity: &str,
    ) -> Result<reqwest::Response, Error> {
        let mut form = url.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "larder")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("scope", scope)
            .append_pair("refresh_token", identity);
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.exchange(Sent {
            method: &Method::POST,
            url,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            form: form.query().map(str::to_owned),
            reach: Reach::Named,
        })
        .await
    }
}
