//! Amazon's registry: a signed request gives a password for twelve hours.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::policy;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;

use super::super::credentials::{Secret, basic};
use super::aws_keys::{Keys, Source};
use super::signature::{self, Signed};
use super::wire::{self, Call, Wire};
use super::{Setting, SignedIn};
use crate::clock::Moment;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
/// What the registry gives, and what is believed if it does not say.
const LONGEST: Duration = Duration::from_hours(12);
const UNSAID: Duration = Duration::from_hours(1);

/// How to sign in to a registry of one region.
pub(super) struct Ecr {
    place: Place,
    api: Url,
    source: Source,
}

/// Where in AWS a registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    region: String,
    /// `amazonaws.com`, or what another partition has.
    domain: String,
    is_fips: bool,
}

impl Place {
    /// `<account>.dkr.ecr[-fips].<region>.amazonaws.com[.cn]` or `<account>.dkr-ecr[-fips].<region>.on.aws`.
    fn of_host(host: &str) -> Option<Self> {
        let (_, rest) = host.split_once('.')?;
        let rest = rest
            .strip_prefix("dkr.ecr")
            .or_else(|| rest.strip_prefix("dkr-ecr"))?;
        let (is_fips, rest) = match rest.strip_prefix("-fips") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (region, domain) = rest.strip_prefix('.')?.split_once('.')?;
        let domain = match domain {
            "on.aws" => "amazonaws.com",
            "on.amazonwebservices.com.cn" => "amazonaws.com.cn",
            other => other,
        };
        Some(Self {
            region: region.to_owned(),
            domain: domain.to_owned(),
            is_fips,
        })
    }

    fn api(&self) -> String {
        let name = if self.is_fips { "ecr-fips" } else { "api.ecr" };
        format!("https://{name}.{}.{}", self.region, self.domain)
    }

    /// The security token service of the region.
    pub(super) fn authority(&self) -> String {
        format!("https://sts.{}.{}", self.region, self.domain)
    }
}

impl Ecr {
    pub(super) fn new(identity: &policy::Identity, setting: Setting<'_>) -> Result<Self, String> {
        let known = Place::of_host(setting.upstream.host.as_str());
        let place = match (&identity.region, known) {
            (Some(region), Some(place)) => Place {
                region: region.clone(),
                ..place
            },
            (Some(region), None) => Place {
                region: region.clone(),
                domain: "amazonaws.com".to_owned(),
                is_fips: false,
            },
            (None, Some(place)) => place,
            (None, None) => {
                return Err(format!(
                    "{} names no region of AWS: write region",
                    setting.upstream.host
                ));
            }
        };
        let endpoint = identity.endpoint.as_ref().map(ToString::to_string);
        let api = wire::safe_url(&endpoint.unwrap_or_else(|| place.api()))
            .map_err(|reason| format!("endpoint: {reason}"))?;
        let source = Source::new(identity, setting, &place)?;
        Ok(Self { place, api, source })
    }

    pub(super) async fn sign_in(&self, wire: &Wire, now: Moment) -> Result<SignedIn, String> {
        let keys = self.source.keys(wire).await?;
        let call = token_call(&self.api, &self.place.region, &keys, now)?;
        parse(&wire.send(call).await?, now)
    }
}

fn token_call(api: &Url, region: &str, keys: &Keys, now: Moment) -> Result<Call, String> {
    let host = api.host_str().unwrap_or_default();
    let host = match api.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let date = signature::date(now);
    let mut headers = vec![
        ("content-type", CONTENT_TYPE),
        ("host", host.as_str()),
        ("x-amz-date", date.as_str()),
    ];
    if let Some(session) = &keys.session {
        headers.push(("x-amz-security-token", session));
    }
    headers.push(("x-amz-target", TARGET));
    let authorization = signature::authorization(
        keys,
        &Signed {
            method: "POST",
            headers: &headers,
            body: b"{}",
            region,
            service: "ecr",
            date: &date,
        },
    );
    let mut call = Call::post(api.clone(), CONTENT_TYPE, "{}".to_owned());
    let date = HeaderValue::from_str(&date).map_err(|_| "the time is out of range")?;
    let name = HeaderName::from_static;
    call.headers.insert(name("x-amz-date"), date);
    let target = HeaderValue::from_static(TARGET);
    call.headers.insert(name("x-amz-target"), target);
    if let Some(session) = &keys.session {
        call = call.secret(name("x-amz-security-token"), session)?;
    }
    call.secret(AUTHORIZATION, &authorization)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    /// User and password, as the scheme Basic encodes them.
    authorization_token: String,
    /// Seconds since 1970.
    expires_at: Option<f64>,
}

fn parse(answer: &[u8], now: Moment) -> Result<SignedIn, String> {
    let fault = || "the answer has no token".to_owned();
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| fault())?;
    let data = answer.authorization_data.into_iter().next();
    let data = data.ok_or_else(fault)?;
    let text = STANDARD.decode(&data.authorization_token).ok();
    let secret = text
        .and_then(|text| String::from_utf8(text).ok())
        .and_then(|text| {
            let (user, password) = text.split_once(':')?;
            basic(user, password)
        });
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 fit until the year 287396"
    )]
    let left = data
        .expires_at
        .map(|seconds| (seconds - now.0 as f64 / 1000.0).clamp(0.0, LONGEST.as_secs_f64()));
    Ok(SignedIn {
        secret: Secret::Basic(secret.ok_or_else(fault)?),
        lifetime: left.map_or(UNSAID, Duration::from_secs_f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_name_says_where_it_is() {
        let place = |host: &str| Place::of_host(host).map(|place| (place.api(), place.authority()));
        for (host, api, authority) in [
            (
                "1.dkr.ecr.eu-west-1.amazonaws.com",
                "https://api.ecr.eu-west-1.amazonaws.com",
                "https://sts.eu-west-1.amazonaws.com",
            ),
            (
                "1.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "https://ecr-fips.us-gov-west-1.amazonaws.com",
                "https://sts.us-gov-west-1.amazonaws.com",
            ),
            (
                "1.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "https://api.ecr.cn-north-1.amazonaws.com.cn",
                "https://sts.cn-north-1.amazonaws.com.cn",
            ),
            (
                "1.dkr-ecr.eu-west-1.on.aws",
                "https://api.ecr.eu-west-1.amazonaws.com",
                "https://sts.eu-west-1.amazonaws.com",
            ),
        ] {
            assert_eq!(place(host), Some((api.into(), authority.into())), "{host}");
        }
        assert_eq!(place("public.ecr.aws"), None);
        assert_eq!(place("docker.io"), None);
    }

    #[test]
    fn an_answer_is_a_password_for_as_long_as_it_says() {
        let now = Moment(1_000_000);
        let token = STANDARD.encode("AWS:p:w");
        let read = |expires: &str| {
            let text =
                format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"{expires}}}]}}"#);
            parse(text.as_bytes(), now).unwrap()
        };
        let signed_in = read(r#","expiresAt":1600.5"#);
        assert_eq!(signed_in.lifetime, Duration::from_millis(600_500));
        let Secret::Basic(value) = signed_in.secret else {
            panic!("a password is a secret of the scheme Basic");
        };
        assert_eq!(value.to_str().unwrap(), format!("Basic {token}"));
        assert!(value.is_sensitive());
        assert_eq!(read(r#","expiresAt":9e12"#).lifetime, LONGEST);
        assert_eq!(read(r#","expiresAt":-1"#).lifetime, Duration::ZERO);
        assert_eq!(read("").lifetime, UNSAID);
        for text in ["{}", r#"{"authorizationData":[]}"#, "secret"] {
            let error = parse(text.as_bytes(), now).err().unwrap();
            assert_eq!(error, "the answer has no token");
        }
    }
}
