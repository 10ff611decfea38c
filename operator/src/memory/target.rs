//! What a request is about. Pure.

/// A kind in a namespace, and perhaps one object of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// As [`kind`] makes it.
    pub(super) kind: String,
    pub(super) namespace: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
}

/// `v1/pods`, `apps/v1/statefulsets`
pub(super) fn kind(api_version: &str, plural: &str) -> String {
    format!("{api_version}/{plural}")
}

impl<'a> Target<'a> {
    /// `/apis/apps/v1/namespaces/a/statefulsets/b`; `None` for what is in no namespace, or in all.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (api_version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let ["namespaces", namespace, plural, rest @ ..] = rest else {
            return None;
        };
        Some(Self {
            kind: kind(&api_version, plural),
            namespace,
            name: rest.first().copied(),
            subresource: rest.get(1).copied(),
        })
    }
}

/// What a read asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Whether any version will do.
    pub(super) any_version: bool,
    /// Labels that the objects must have.
    pub(super) labels: Vec<(String, String)>,
}

impl Query {
    /// `None`: it asks for more than what is answered from memory.
    pub(super) fn parse(query: &str) -> Option<Self> {
        let mut parsed = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=')? {
                ("resourceVersion", "0") => parsed.any_version = true,
                ("resourceVersionMatch", "NotOlderThan") => {}
                ("labelSelector", selector) => {
                    let selector = decode(selector)?;
                    for label in selector.split(',') {
                        let (key, value) = label.split_once('=')?;
                        if key.ends_with('!') || value.starts_with('=') {
                            return None;
                        }
                        parsed.labels.push((key.to_owned(), value.to_owned()));
                    }
                }
                _ => return None,
            }
        }
        Some(parsed)
    }
}

/// Of the form encoding.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_paths() {
        let target = Target::parse("/apis/apps/v1/namespaces/a/statefulsets/b/status").unwrap();
        assert_eq!(
            (target.kind.as_str(), target.namespace),
            ("apps/v1/statefulsets", "a")
        );
        assert_eq!(
            (target.name, target.subresource),
            (Some("b"), Some("status"))
        );
        let list = Target::parse("/api/v1/namespaces/a/pods").unwrap();
        assert_eq!((list.kind.as_str(), list.name), ("v1/pods", None));
        assert_eq!(Target::parse("/api/v1/pods"), None);
        assert_eq!(Target::parse("/api/v1/namespaces/a"), None);
        assert_eq!(Target::parse("/version"), None);
    }

    #[test]
    fn only_reads_of_any_version_with_plain_labels_are_understood() {
        let query = Query::parse("resourceVersion=0&resourceVersionMatch=NotOlderThan&labelSelector=app.kubernetes.io%2Finstance%3Da%2Cb%3Dc").unwrap();
        assert!(query.any_version);
        assert_eq!(
            query.labels,
            [("app.kubernetes.io/instance", "a"), ("b", "c")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert!(!Query::parse("").unwrap().any_version);
        for query in [
            "watch=true&resourceVersion=0",
            "fieldSelector=a%3Db",
            "labelSelector=a%21%3Db",
            "labelSelector=a%3D%3Db",
            "labelSelector=a",
            "limit=500&resourceVersion=0",
        ] {
            assert_eq!(Query::parse(query), None, "{query}");
        }
    }
}
