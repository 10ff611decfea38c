//! What a registry client sees of answers.

use http::{HeaderMap, StatusCode};

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub version: http::Version,
    pub headers: HeaderMap,
    /// `Err`: the connection ended short of Content-Length.
    pub body: Result<Vec<u8>, String>,
}

impl Reply {
    /// Whether it is a success that came to its end. What fails before its head is out is an error answer instead.
    pub fn is_complete(&self) -> bool {
        self.status.is_success() && self.body.is_ok()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The content of a body that came whole.
    pub fn content(&self) -> &[u8] {
        self.body.as_ref().unwrap()
    }

    pub fn cache_status(&self) -> &str {
        self.header("cache-status")
    }
}

/// An answer whose body is read piece by piece.
pub struct Download {
    response: Result<reqwest::Response, String>,
}

impl Download {
    pub fn new(response: reqwest::Result<reqwest::Response>) -> Self {
        Self {
            response: response.map_err(|error| format!("{error:?}")),
        }
    }

    pub fn status(&self) -> StatusCode {
        self.response.as_ref().unwrap().status()
    }

    /// The next piece; `None` at a clean end, `Err` at a broken one.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self
            .response
            .as_mut()
            .map_err(|error| error.clone())?
            .chunk()
            .await
        {
            Ok(bytes) => Ok(bytes.map(|bytes| bytes.to_vec())),
            Err(error) => Err(error.to_string()),
        }
    }

    pub async fn rest(mut self) -> Reply {
        let (status, version, headers) = match &self.response {
            Ok(response) => (
                response.status(),
                response.version(),
                response.headers().clone(),
            ),
            // The connection ended before the head, which is as good as an error later on.
            Err(_) => (StatusCode::OK, http::Version::HTTP_11, HeaderMap::new()),
        };
        let mut content = Vec::new();
        let body = loop {
            match self.next().await {
                Ok(Some(bytes)) => content.extend(bytes),
                Ok(None) => break Ok(content),
                Err(error) => break Err(error),
            }
        };
        Reply {
            status,
            version,
            headers,
            body,
        }
    }
}
