//! A client that judges the bucket's certificate by authorities in a file, which may change at any time.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use reqwest::Certificate;

/// How long the file is not looked at again.
const KEPT: Duration = Duration::from_secs(10);

/// Makes a client that trusts these authorities and no others.
pub(super) type Make = fn(Vec<Certificate>, Duration) -> reqwest::Result<reqwest::Client>;

/// Reads the file when it is needed.
#[derive(Debug)]
pub(super) struct Authorities {
    path: PathBuf,
    make: Make,
    stall: Duration,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    looked: Instant,
    pem: Vec<u8>,
    client: reqwest::Client,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to take the authorities of the bucket from {path}: {reason}")]
struct Unusable {
    path: PathBuf,
    reason: String,
}

impl Authorities {
    pub(super) fn new(path: PathBuf, make: Make, stall: Duration) -> Self {
        Self {
            path,
            make,
            stall,
            made: Mutex::default(),
        }
    }

    /// A client by what the file says now. One that can't be taken leaves the last good one in use.
    async fn client(&self) -> Result<reqwest::Client, HttpError> {
        let known = {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.as_ref().map(|made| (made.looked, made.client.clone()))
        };
        if let Some((looked, client)) = &known
            && looked.elapsed() < KEPT
        {
            return Ok(client.clone());
        }
        let taken = tokio::fs::read(&self.path)
            .await
            .map_err(|error| error.to_string())
            .and_then(|pem| self.take(pem));
        match (taken, known) {
            (Ok(client), _) => Ok(client),
            (Err(reason), known) => {
                let unusable = Unusable {
                    path: self.path.clone(),
                    reason,
                };
                let Some((_, client)) = known else {
                    return Err(HttpError::new(HttpErrorKind::Unknown, unusable));
                };
                tracing::error!(error = %unusable, "the last good authorities stay in use");
                Ok(client)
            }
        }
    }

    fn take(&self, pem: Vec<u8>) -> Result<reqwest::Client, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_mut().filter(|made| made.pem == pem) {
            made.looked = Instant::now();
            return Ok(made.client.clone());
        }
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|found| !found.is_empty())
            .ok_or("it has no certificate in PEM")?;
        let client = (self.make)(certificates, self.stall).map_err(|error| error.to_string())?;
        *made = Some(Made {
            looked: Instant::now(),
            pem,
            client: client.clone(),
        });
        Ok(client)
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let client = self.client().await?;
        HttpService::call(&client, request).await
    }
}

impl HttpService for Authorities {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.send(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn what_can_not_be_taken_leaves_the_last_good_authorities_in_use() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let make: Make = |certificates, _| {
            reqwest::Client::builder()
                .tls_certs_only(certificates)
                .build()
        };
        let authorities = Authorities::new(path.clone(), make, Duration::from_secs(1));
        let error = authorities.client().await.unwrap_err().to_string();
        assert!(error.contains("ca.crt"), "{error}");
        fs::write(&path, "nothing").unwrap();
        assert!(authorities.client().await.is_err());
        fs::write(&path, pem()).unwrap();
        authorities.client().await.unwrap();
        fs::write(&path, "nothing").unwrap();
        authorities.made.lock().unwrap().as_mut().unwrap().looked -= KEPT;
        authorities.client().await.unwrap();
    }
}
