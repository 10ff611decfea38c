//! Reads `WWW-Authenticate`. Pure.

/// A challenge of the scheme Bearer (RFC 6750), as registries write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub service: Option<String>,
    pub scope: Option<String>,
}

impl Challenge {
    /// The first Bearer challenge with a realm in the value of a header. Challenges of other schemes are passed over.
    pub fn parse(header: &str) -> Option<Self> {
        let mut rest = header;
        loop {
            let (scheme, parameters, next) = challenge(rest)?;
            let find = |name: &str| {
                parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = find("realm")
            {
                return Some(Self {
                    realm,
                    service: find("service"),
                    scope: find("scope"),
                });
            }
            rest = next;
        }
    }
}

/// Whether the value of a header has a challenge of the scheme Basic.
pub fn wants_basic(header: &str) -> bool {
    let mut rest = header;
    while let Some((scheme, _, next)) = challenge(rest) {
        if scheme.eq_ignore_ascii_case("basic") {
            return true;
        }
        rest = next;
    }
    false
}

type Parameters = Vec<(String, String)>;

/// `scheme key=value, key="value"…` and what is left behind it.
fn challenge(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (scheme, mut rest) = token(text)?;
    let mut parameters = Parameters::new();
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let Some((key, after_key)) = token(start) else {
            // A token68 or garbage: nothing more can be read from this header.
            return Some((scheme, parameters, skip(start)));
        };
        let Some(value_text) = after_key.trim_start().strip_prefix('=') else {
            return Some((scheme, parameters, start));
        };
        let (value, after_value) = value(value_text.trim_start())?;
        parameters.push((key.to_owned(), value));
        rest = after_value;
    }
}

fn skip(text: &str) -> &str {
    text.find(',').map_or("", |comma| &text[comma..])
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut content = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((content, &quoted[index + 1..])),
            '\\' => content.push(characters.next()?.1),
            other => content.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hub_is_understood() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#;
        assert_eq!(
            Challenge::parse(header),
            Some(Challenge {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: Some("repository:library/alpine:pull,push".into()),
            })
        );
    }

    #[test]
    fn bearer_is_found_behind_other_schemes() {
        for header in [
            r#"Basic realm="x", Bearer realm="https://a/t""#,
            "Negotiate, bearer REALM=https://a/t, service = s",
            r#"Basic realm="a \"quoted\", Bearer realm=x", Bearer realm="https://a/t""#,
        ] {
            let challenge = Challenge::parse(header).unwrap();
            assert_eq!(challenge.realm, "https://a/t", "{header}");
        }
    }

    #[test]
    fn basic_is_found_beside_other_schemes() {
        for header in ["Basic", "basic realm=\"x\"", "Negotiate, BASIC realm=x"] {
            assert!(wants_basic(header), "{header}");
        }
        for header in [
            "",
            "Bearer realm=basic",
            "Bearer realm=\"Basic\", service=\"x, Basic\"",
        ] {
            assert!(!wants_basic(header), "{header}");
        }
    }

    #[test]
    fn what_has_no_realm_is_no_challenge() {
        for header in [
            "",
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer realm=\"unclosed",
            "Bearer service=x",
            "===",
            "Bearer =",
        ] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_ends(header in "\\PC*") {
            let _ = Challenge::parse(&header);
            let _ = wants_basic(&header);
        }

        #[test]
        fn quoted_values_read_back(realm in "[ -~]{1,40}") {
            let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer service=s, realm=\"{escaped}\"");
            prop_assert_eq!(Challenge::parse(&header).unwrap().realm, realm);
        }
    }
}
