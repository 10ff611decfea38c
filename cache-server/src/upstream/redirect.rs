//! Follows redirects by hand, so that credentials stay with the host they were made for.

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::Error;
use super::client::Upstream;
use super::exchange::Sent;
use super::trust::{self, Reach};

const MAXIMUM: usize = 5;

impl Upstream {
    /// Sends a request and follows its redirects. `headers` may carry Authorization; another host never sees it.
    pub(super) async fn follow(
        &self,
        method: &Method,
        endpoint: &Url,
        url: Url,
        mut headers: HeaderMap,
    ) -> Result<reqwest::Response, Error> {
        let mut url = url;
        let mut reach = Reach::Named;
        for _ in 0..=MAXIMUM {
            let response = self
                .exchange(Sent {
                    method,
                    url: &url,
                    headers: headers.clone(),
                    form: None,
                    reach,
                })
                .await?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            let next = response
                .headers()
                .get(LOCATION)
                .and_then(|location| location.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| self.redirect_error("it has no usable Location"))?;
            reach = trust::redirect(endpoint, &url, &next, self.redirect_hosts())
                .map_err(|reason| self.redirect_error(reason))?;
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(self.redirect_error("there are too many"))
    }

    pub(super) fn redirect_error(&self, reason: &str) -> Error {
        Error::Redirect {
            host: self.name(),
            reason: reason.into(),
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
