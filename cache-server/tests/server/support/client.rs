//! What a registry client sees of answers.

use http::{HeaderMap, StatusCode};

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `Err`: the connection ended short of Content-Length.
    pub body: Result<Vec<u8>, String>,
}

impl Reply {
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
    response: reqwest::Response,
}

impl Download {
    pub fn new(response: reqwest::Response) -> Self {
        Self { response }
    }

    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece; `None` at a clean end, `Err` at a broken one.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.response.chunk().await {
            Ok(bytes) => Ok(bytes.map(|bytes| bytes.to_vec())),
            Err(error) => Err(error.to_string()),
        }
    }

    pub async fn rest(mut self) -> Reply {
        let (status, headers) = (self.response.status(), self.response.headers().clone());
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
            headers,
            body,
        }
    }
}
