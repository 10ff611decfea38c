//! Google's registry: an access token is the password of the user `oauth2accesstoken`.

use std::path::PathBuf;
use std::time::Duration;

use crds::policy;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;

use super::super::credentials::{Secret, basic};
use super::wire::{self, Call, Wire};
use super::{Setting, SignedIn};
use crate::clock::Moment;

/// The machine's own, the same everywhere. Without TLS, since it never leaves the machine.
const METADATA: &str = "http://metadata.google.internal";
const TOKEN_PATH: &str = "computeMetadata/v1/instance/service-accounts/default/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const LONGEST: Duration = Duration::from_hours(1);

/// How to sign in.
pub(super) enum Gar {
    /// As the account of the machine or pod.
    Machine(Url),
    /// As an account that trusts the tokens of somebody else.
    Federation(Box<Account>),
}

/// What of a configuration of the type `external_account` is used.
pub(super) struct Account {
    token_url: Url,
    audience: String,
    subject_token_type: String,
    file: PathBuf,
    /// Name of the field of the file with the token; absent: it is the whole file.
    field: Option<String>,
    impersonation_url: Option<Url>,
}

#[derive(Deserialize)]
struct AccountFile {
    r#type: String,
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: CredentialSource,
    service_account_impersonation_url: Option<String>,
}

#[derive(Deserialize)]
struct CredentialSource {
    file: PathBuf,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    r#type: String,
    subject_token_field_name: Option<String>,
}

impl Gar {
    pub(super) fn new(identity: &policy::Identity, setting: Setting<'_>) -> Result<Self, String> {
        if let Some(path) = &identity.account_file {
            let content = setting.files.get(path).unwrap_or_default();
            let account = Account::parse(content)
                .map_err(|reason| format!("{}: {reason}", path.display()))?;
            return Ok(Self::Federation(Box::new(account)));
        }
        let endpoint = identity.endpoint.as_ref().map(ToString::to_string);
        let base = endpoint.as_deref().unwrap_or(METADATA);
        Url::parse(&format!("{base}/{TOKEN_PATH}"))
            .map(Self::Machine)
            .map_err(|error| format!("endpoint: {error}"))
    }

    pub(super) async fn sign_in(&self, wire: &Wire, now: Moment) -> Result<SignedIn, String> {
        match self {
            Self::Machine(url) => {
                let answer = wire.send(machine_call(url.clone())).await?;
                signed_in(&parse_token(&answer)?)
            }
            Self::Federation(account) => {
                let token = wire::token(&account.file).await?;
                let call = account.exchange_call(&account.subject_token(&token)?);
                let token = parse_token(&wire.send(call).await?)?;
                let Some(url) = &account.impersonation_url else {
                    return signed_in(&token);
                };
                let call = impersonation_call(url.clone(), &token.access_token)?;
                signed_in(&parse_impersonation(&wire.send(call).await?, now)?)
            }
        }
    }
}

impl Account {
    fn parse(content: &[u8]) -> Result<Self, String> {
        // The parser's message could show a piece of the file.
        let file: AccountFile = serde_json::from_slice(content)
            .map_err(|_| "it is no configuration of an external_account with a file".to_owned())?;
        if file.r#type != "external_account" {
            return Err("its type must be external_account; keys of accounts are not taken".into());
        }
        let url = |text: &str| wire::safe_url(text).map_err(|reason| format!("a URL: {reason}"));
        let field = match file.credential_source.format {
            None => None,
            Some(format) if format.r#type == "text" => None,
            Some(format) => Some(
                format
                    .subject_token_field_name
                    .ok_or("its format lacks subject_token_field_name")?,
            ),
        };
        Ok(Self {
            token_url: url(&file.token_url)?,
            audience: file.audience,
            subject_token_type: file.subject_token_type,
            file: file.credential_source.file,
            field,
            impersonation_url: file
                .service_account_impersonation_url
                .as_deref()
                .map(url)
                .transpose()?,
        })
    }

    fn subject_token(&self, text: &str) -> Result<String, String> {
        let Some(field) = &self.field else {
            return Ok(text.to_owned());
        };
        serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|value| value.get(field)?.as_str().map(str::to_owned))
            .ok_or_else(|| format!("{} has no field {field}", self.file.display()))
    }

    fn exchange_call(&self, subject_token: &str) -> Call {
        Call::form(
            self.token_url.clone(),
            &[
                (
                    "grant_type",
                    "urn:ietf:params:oauth:grant-type:token-exchange",
                ),
                ("audience", &self.audience),
                ("scope", SCOPE),
                (
                    "requested_token_type",
                    "urn:ietf:params:oauth:token-type:access_token",
                ),
                ("subject_token_type", &self.subject_token_type),
                ("subject_token", subject_token),
            ],
        )
    }
}

fn machine_call(url: Url) -> Call {
    let mut call = Call::get(url);
    call.headers.insert(
        HeaderName::from_static("metadata-flavor"),
        HeaderValue::from_static("Google"),
    );
    call
}

fn impersonation_call(url: Url, token: &str) -> Result<Call, String> {
    let body = serde_json::json!({"scope": [SCOPE]}).to_string();
    Call::post(url, "application/json", body).secret(AUTHORIZATION, &format!("Bearer {token}"))
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

fn parse_token(answer: &[u8]) -> Result<Token, String> {
    serde_json::from_slice(answer).map_err(|_| "the answer has no token".to_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
    expire_time: jiff::Timestamp,
}

fn parse_impersonation(answer: &[u8], now: Moment) -> Result<Token, String> {
    let answer: Impersonated = serde_json::from_slice(answer)
        .map_err(|_| "the answer for the service account has no token".to_owned())?;
    let left = answer.expire_time.as_millisecond() - now.0;
    Ok(Token {
        access_token: answer.access_token,
        expires_in: u64::try_from(left / 1000).unwrap_or(0),
    })
}

fn signed_in(token: &Token) -> Result<SignedIn, String> {
    let secret =
        basic("oauth2accesstoken", &token.access_token).ok_or("the token has odd characters")?;
    Ok(SignedIn {
        secret: Secret::Basic(secret),
        lifetime: Duration::from_secs(token.expires_in).min(LONGEST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = r#"{"type": "external_account", "audience": "//iam/a", "subject_token_type": "urn:t", "token_url": "https://sts.googleapis.com/v1/token", "credential_source": {"file": "/t", "format": {"type": "json", "subject_token_field_name": "token"}}}"#;

    #[test]
    fn a_token_of_somebody_else_is_exchanged() {
        let account = Account::parse(ACCOUNT.as_bytes()).unwrap();
        let token = account.subject_token(r#"{"token": "s s"}"#).unwrap();
        let call = account.exchange_call(&token);
        assert_eq!(call.url.as_str(), "https://sts.googleapis.com/v1/token");
        insta::assert_snapshot!(call.body.replace('&', "\n"));
        assert!(account.subject_token("{}").is_err());
    }

    #[test]
    fn what_is_not_such_an_account_is_refused_without_showing_it() {
        for (from, to) in [
            ("external_account", "service_account"),
            ("https://sts", "http://sts"),
            ("\"/t\"", "7"),
            ("_field_name", "_secret"),
        ] {
            let error = Account::parse(ACCOUNT.replace(from, to).as_bytes());
            let error = error.err().unwrap();
            assert!(!error.contains("//iam/a"), "{error}");
        }
    }

    #[test]
    fn answers_say_how_long_they_are_good_for() {
        let token = parse_token(br#"{"access_token": "a", "expires_in": 9999, "x": 1}"#).unwrap();
        assert_eq!(signed_in(&token).unwrap().lifetime, LONGEST);
        let answer = br#"{"accessToken": "a", "expireTime": "1970-01-01T00:10:00Z"}"#;
        let token = parse_impersonation(answer, Moment(1000)).unwrap();
        assert_eq!(token.expires_in, 599);
        let token = parse_impersonation(answer, Moment(9_000_000)).unwrap();
        assert_eq!(token.expires_in, 0);
    }
}
