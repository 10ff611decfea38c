//! One request of a sign-in. Redirects are not followed, and of a failure nothing but the status is told: what is sent
//! here is secret, and answers may repeat it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use super::super::reason;

const MAXIMUM_ANSWER: usize = 256 * 1024;
const MAXIMUM_TOKEN: u64 = 64 * 1024;

/// How a sign-in reaches others.
#[derive(Debug, Clone)]
pub(in super::super) struct Wire {
    /// Through the upstream's proxy, if it has one.
    pub(in super::super) outside: reqwest::Client,
    /// For addresses of the machine's own cloud, which no proxy knows.
    pub(in super::super) inside: reqwest::Client,
    pub(in super::super) timeout: Duration,
}

/// What is to be sent.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) is_inside: bool,
}

impl Call {
    pub(super) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: String::new(),
            is_inside: true,
        }
    }

    pub(super) fn post(url: Url, content_type: &'static str, body: String) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        Self {
            method: Method::POST,
            url,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            body,
            is_inside: false,
        }
    }

    /// A form with those fields.
    pub(super) fn form(url: Url, fields: &[(&str, &str)]) -> Self {
        let mut form = url.clone();
        form.set_query(None);
        form.query_pairs_mut().extend_pairs(fields);
        let body = form.query().unwrap_or_default().to_owned();
        Self::post(url, "application/x-www-form-urlencoded", body)
    }

    /// With a header that no log may show.
    pub(super) fn secret(mut self, name: HeaderName, value: &str) -> Result<Self, String> {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| "a token has odd characters".to_owned())?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl Wire {
    /// The body of the answer, if that says success.
    pub(super) async fn send(&self, call: Call) -> Result<Vec<u8>, String> {
        let name = call.url.host_str().unwrap_or_default().to_owned();
        tokio::time::timeout(self.timeout, self.exchange(call))
            .await
            .map_err(|_| "no answer in time".to_owned())
            .and_then(|answer| answer)
            .map_err(|reason| format!("{name}: {reason}"))
    }

    async fn exchange(&self, call: Call) -> Result<Vec<u8>, String> {
        let client = if call.is_inside {
            &self.inside
        } else {
            &self.outside
        };
        let failed = |error| reason(error).to_string();
        let mut response = client
            .request(call.method, call.url)
            .headers(call.headers)
            .body(call.body)
            .send()
            .await
            .map_err(failed)?;
        if response.status() != 200 {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            if body.len() + bytes.len() > MAXIMUM_ANSWER {
                return Err("the answer is too large".to_owned());
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }
}

/// A URL to which secrets may be sent.
pub(super) fn safe_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "it is no URL".to_owned())?;
    let is_loopback = url
        .host_str()
        .and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok())
        .is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        _ => Err("it must begin with https://".to_owned()),
    }
}

/// The content of a file with a token. Read each time: they are replaced every hour.
pub(super) async fn token(path: &Path) -> Result<String, String> {
    let failed = |reason: &str| format!("failed to read {}: {reason}", path.display());
    let size = tokio::fs::metadata(path)
        .await
        .map_err(|error| failed(&error.to_string()))?
        .len();
    if size > MAXIMUM_TOKEN {
        return Err(failed("it is too large for a token"));
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(failed("it is empty"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_https_or_to_this_machine() {
        for text in [
            "https://a.example/x",
            "http://127.0.0.1:1",
            "http://[::1]:1/",
        ] {
            assert!(safe_url(text).is_ok(), "{text}");
        }
        for text in [
            "http://a.example",
            "http://localhost",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "ftp://a",
            "a",
        ] {
            assert!(safe_url(text).is_err(), "{text}");
        }
    }
}
