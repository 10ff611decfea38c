//! Azure's registry: the pod's token gives a token of Entra, which the registry takes for an identity token.
//! <https://azure.github.io/acr/AAD-OAuth.html>

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crds::policy;
use reqwest::Url;
use serde::Deserialize;

use super::super::credentials::Secret;
use super::wire::{self, Call, Wire};
use super::{Setting, SignedIn};
use crate::clock::Moment;

const AUTHORITY: &str = "https://login.microsoftonline.com";
const SCOPE: &str = "https://containerregistry.azure.net/.default";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// What the registry gives, and what is believed if it can't be read.
const LONGEST: Duration = Duration::from_hours(3);
const UNSAID: Duration = Duration::from_hours(1);

/// How to sign in to one registry.
pub(super) struct Acr {
    tenant: String,
    client: String,
    token_file: PathBuf,
    authority: Url,
    /// Of the registry.
    exchange: Url,
    /// The registry's name.
    service: String,
}

impl Acr {
    pub(super) fn new(identity: &policy::Identity, setting: Setting<'_>) -> Result<Self, String> {
        let around = |name| setting.surroundings.get(name).map(str::to_owned);
        let tenant = identity
            .tenant
            .clone()
            .or_else(|| around("AZURE_TENANT_ID"))
            .ok_or("there is no tenant: write tenant, or give the pod an identity")?;
        let client = identity
            .client
            .clone()
            .or_else(|| around("AZURE_CLIENT_ID"))
            .ok_or("there is no client: write client, or give the pod an identity")?;
        let token_file = identity
            .token_file
            .clone()
            .or_else(|| around("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from))
            .ok_or("there is no token: write tokenFile, or give the pod an identity")?;
        let said = identity.authority.as_ref().map(ToString::to_string);
        let authority = said
            .or_else(|| around("AZURE_AUTHORITY_HOST"))
            .unwrap_or_else(|| AUTHORITY.to_owned());
        let authority = format!(
            "{}/{tenant}/oauth2/v2.0/token",
            authority.trim_end_matches('/')
        );
        let endpoints = setting.upstream.effective_endpoints();
        let registry = endpoints.first().map(ToString::to_string);
        let exchange = format!("{}/oauth2/exchange", registry.unwrap_or_default());
        Ok(Self {
            authority: wire::safe_url(&authority)
                .map_err(|reason| format!("authority: {reason}"))?,
            exchange: wire::safe_url(&exchange)
                .map_err(|reason| format!("the upstream's endpoint: {reason}"))?,
            service: setting.upstream.host.to_string(),
            tenant,
            client,
            token_file,
        })
    }

    pub(super) async fn sign_in(&self, wire: &Wire, now: Moment) -> Result<SignedIn, String> {
        let token = wire::token(&self.token_file).await?;
        let answer = wire.send(self.entra_call(&token)).await?;
        let token = parse_entra(&answer)?;
        let answer = wire.send(self.exchange_call(&token)).await?;
        parse_exchange(&answer, now)
    }

    fn entra_call(&self, token: &str) -> Call {
        Call::form(
            self.authority.clone(),
            &[
                ("grant_type", "client_credentials"),
                ("client_id", &self.client),
                ("scope", SCOPE),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", token),
            ],
        )
    }

    fn exchange_call(&self, token: &str) -> Call {
        Call::form(
            self.exchange.clone(),
            &[
                ("grant_type", "access_token"),
                ("service", &self.service),
                ("tenant", &self.tenant),
                ("access_token", token),
            ],
        )
    }
}

#[derive(Deserialize)]
struct Entra {
    access_token: String,
}

fn parse_entra(answer: &[u8]) -> Result<String, String> {
    serde_json::from_slice(answer)
        .map(|answer: Entra| answer.access_token)
        .map_err(|_| "the answer of Entra has no token".to_owned())
}

#[derive(Deserialize)]
struct Exchange {
    refresh_token: String,
}

fn parse_exchange(answer: &[u8], now: Moment) -> Result<SignedIn, String> {
    let answer: Exchange = serde_json::from_slice(answer)
        .map_err(|_| "the registry's answer has no token".to_owned())?;
    Ok(SignedIn {
        lifetime: lifetime(&answer.refresh_token, now).unwrap_or(UNSAID),
        secret: Secret::IdentityToken(answer.refresh_token),
    })
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

/// What is left of a token's time, by its own words (RFC 7519).
fn lifetime(token: &str, now: Moment) -> Option<Duration> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let left = claims.exp.checked_sub(now.0 / 1000)?;
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_ends() {
        let token = |exp: &str| {
            let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp": {exp}}}"#));
            format!("e30.{claims}.s")
        };
        let now = Moment(1_000_000);
        assert_eq!(lifetime(&token("1060"), now), Some(Duration::from_mins(1)));
        assert_eq!(lifetime(&token("9"), now), Some(Duration::ZERO));
        assert_eq!(lifetime(&token("99999999"), now), Some(LONGEST));
        for text in ["", "a.b.c", &token("\"x\"")] {
            assert_eq!(lifetime(text, now), None, "{text}");
        }
    }

    #[test]
    fn answers_without_a_token_are_named() {
        assert!(parse_entra(b"{}").is_err() && parse_exchange(b"{}", Moment(0)).is_err());
    }
}
