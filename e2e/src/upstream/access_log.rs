//! Lines of the registry's access log, in the combined format.

/// One request that the registry has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub client: String,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub status: u16,
    /// Of the body, as far as it was sent.
    pub bytes: u64,
    pub user_agent: String,
}

impl Request {
    /// Whether a cache asked, and not one of its clients.
    pub fn is_of_a_cache(&self) -> bool {
        self.user_agent.starts_with("larder/")
    }

    /// Reads a line like `10.88.0.1 - - [time] "GET /v2/ HTTP/1.1" 200 2 "referrer" "agent"`; anything else is `None`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let client = quoted.next()?.split_whitespace().next()?.to_owned();
        let mut request = quoted.next()?.split(' ');
        let mut answer = quoted.next()?.split_whitespace();
        let user_agent = quoted.nth(2).unwrap_or_default().to_owned();
        let method = request.next()?.to_owned();
        let target = request.next()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self {
            client,
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            status: answer.next()?.parse().ok()?,
            bytes: answer.next()?.parse().ok()?,
            user_agent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_line_of_the_combined_format_is_read() {
        let line = r#"10.88.0.1 - - [24/Nov/2026:07:13:35 +0000] "GET /v2/library/hello/blobs/sha256:aa?ns=docker.io HTTP/1.1" 200 1234 "" "containerd/v2.2.9""#;
        let request = Request::parse(line).unwrap();
        assert_eq!(request.path, "/v2/library/hello/blobs/sha256:aa");
        assert_eq!(request.query, "ns=docker.io");
        assert_eq!((request.status, request.bytes), (200, 1234));
        assert_eq!(request.user_agent, "containerd/v2.2.9");
    }

    #[test]
    fn other_lines_are_passed_over() {
        assert_eq!(Request::parse("starting"), None);
    }
}
