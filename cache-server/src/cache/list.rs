//! Lists of tags: passed through, never kept.

use bytes::Bytes;
use crds::values::RegistryHost;

use super::answer::{Answer, Content};
use super::{Cache, CacheOutcome, Error};
use crate::oci::Repository;

/// Largest list passed through.
pub(super) const MAXIMUM_LIST: u64 = 4 * 1024 * 1024;

/// A request for the tags of a repository.
#[derive(Debug, Clone)]
pub struct ListRequest {
    pub upstream: RegistryHost,
    pub repository: Repository,
    /// The parameters that the spec has for it, encoded.
    pub query: Option<String>,
    pub head: bool,
}

impl Cache {
    pub async fn list(&self, request: &ListRequest) -> Result<Answer, Error> {
        let (origin, _) = self.admit(&request.upstream, &request.repository, None)?;
        let response = origin
            .upstream
            .get_list(&request.repository, "tags/list", request.query.as_deref())
            .await
            .map_err(Error::Upstream)?;
        let media_type = response
            .media_type
            .unwrap_or_else(|| "application/json".to_owned());
        let body: Bytes = response
            .body
            .whole(MAXIMUM_LIST)
            .await
            .map_err(Error::Upstream)?;
        let size = Some(body.len() as u64);
        Ok(Answer {
            next_page: response.link.as_deref().and_then(next_query),
            content: if request.head {
                Content::Nothing
            } else {
                Content::Bytes(body)
            },
            ..Answer::about(CacheOutcome::Forwarded, None, media_type.into(), size)
        })
    }
}

/// The query of `<…?query>; rel="next"`.
pub(super) fn next_query(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next =
        parameters.replace(' ', "").contains("rel=\"next\"") || parameters.contains("rel=next");
    let query = target.split_once('?')?.1;
    (next && query.bytes().all(|b| b.is_ascii_graphic() && b != b'"')).then(|| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_query("</v2/a/tags/list?last=b&n=2>; rel=\"next\"").as_deref(),
            Some("last=b&n=2")
        );
        assert_eq!(next_query("</v2/a/tags/list?n=2>; rel=\"prev\""), None);
        assert_eq!(next_query("nothing"), None);
    }
}
