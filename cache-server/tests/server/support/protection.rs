//! What a fake upstream asks of its clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

/// Who gets what.
#[derive(Default)]
pub struct Protection {
    /// Where tokens are to be asked for; `None`: no token is wanted.
    pub realm: Option<String>,
    /// Wanted with each request, instead of a token.
    pub basic: Option<(String, String)>,
    /// Who is known to the realm.
    pub user: Option<(String, String)>,
    /// What the realm takes as a refresh token.
    pub identity: Option<String>,
    /// What `/oauth2/exchange` takes as an access token, for which it gives `identity`.
    pub exchange: Option<String>,
    /// Repositories that only the known see; empty: with `basic`, all.
    pub private: Vec<String>,
}

/// What becomes of a request.
pub enum Verdict {
    Welcome,
    /// 401 with that challenge.
    Challenge(String),
    /// As if it were not there.
    Hidden,
}

impl Protection {
    pub fn judge(&self, path: &str, headers: &HeaderMap) -> Verdict {
        let authorization = authorization(headers);
        let private = self
            .private
            .iter()
            .any(|repository| path.starts_with(&format!("/v2/{repository}/")));
        if let Some(basic) = &self.basic {
            let open = !self.private.is_empty() && !private;
            return if open || authorization == Some(&encoded(basic)) {
                Verdict::Welcome
            } else {
                Verdict::Challenge("Basic realm=\"fake\"".to_owned())
            };
        }
        match (&self.realm, authorization) {
            (Some(realm), None) => {
                Verdict::Challenge(format!(r#"Bearer realm="{realm}",service="fake""#))
            }
            (Some(_), Some(token)) if private && !token.starts_with("Bearer known") => {
                Verdict::Hidden
            }
            _ => Verdict::Welcome,
        }
    }

    /// The answer to a form that was sent to `/oauth2/exchange`; `None`: it is refused.
    pub fn exchanged(&self, form: &str) -> Option<String> {
        let access_token = self.exchange.as_ref()?;
        let is_known = form.contains(&format!("access_token={access_token}"))
            && form.contains("grant_type=access_token&service=");
        let identity = self.identity.as_ref().filter(|_| is_known)?;
        Some(format!(r#"{{"refresh_token":"{identity}"}}"#))
    }

    /// What the tokens begin with that the asking one gets; `None`: it gets none.
    pub fn token_prefix(&self, headers: &HeaderMap, form: &str) -> Option<&'static str> {
        if !form.is_empty() {
            let identity = self.identity.as_ref()?;
            let is_known = form.contains(&format!("refresh_token={identity}"))
                && form.contains("grant_type=refresh_token");
            return is_known.then_some("known");
        }
        match (authorization(headers), &self.user) {
            (None, _) => Some("t"),
            (Some(text), Some(user)) if text == encoded(user) => Some("known"),
            _ => None,
        }
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()
}

fn encoded((user, password): &(String, String)) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
