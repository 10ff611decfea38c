//! What requests are signed with, from files that may change at any time.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crds::static_config::ObjectStorageCredentials;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

/// How long the files are not looked at again.
const KEPT: Duration = Duration::from_secs(10);

/// Keys from files.
pub(super) struct Files {
    paths: ObjectStorageCredentials,
    read: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

// Not derived: a key must not be able to reach a log.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Files").field(&self.paths).finish()
    }
}

impl Files {
    pub(super) fn new(paths: ObjectStorageCredentials) -> Self {
        Self {
            paths,
            read: Mutex::default(),
        }
    }

    async fn get(&self) -> object_store::Result<Arc<AwsCredential>> {
        if let Some((at, keys)) = &*self.read.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < KEPT
        {
            return Ok(keys.clone());
        }
        let token = match &self.paths.session_token_file {
            Some(path) => match read(path).await {
                Ok(token) => Some(token),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(unreadable(path, &error)),
            },
            None => None,
        };
        let required =
            async |path: &Path| read(path).await.map_err(|error| unreadable(path, &error));
        let keys = Arc::new(AwsCredential {
            key_id: required(&self.paths.access_key_id_file).await?,
            secret_key: required(&self.paths.secret_access_key_file).await?,
            token,
        });
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), keys.clone()));
        Ok(keys)
    }
}

async fn read(path: &Path) -> io::Result<String> {
    let text = tokio::fs::read_to_string(path).await?;
    match text.trim() {
        "" => Err(io::Error::other("it is empty")),
        text => Ok(text.to_owned()),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> object_store::Error {
    refused(format!("failed to read {}: {error}", path.display()))
}

fn refused(reason: String) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: reason.into(),
    }
}

impl CredentialProvider for Files {
    type Credential = AwsCredential;

    fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<AwsCredential>>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.get().boxed()
    }
}

/// There are no keys and there is no identity: each request says so, and pulls go on without the bucket.
#[derive(Debug)]
pub(super) struct Nobody;

impl CredentialProvider for Nobody {
    type Credential = AwsCredential;

    fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<AwsCredential>>>
    where
        'a: 'b,
        Self: 'b,
    {
        let reason = "there is nothing to sign in with; name credentials, or give the pod a role";
        futures::future::ready(Err(refused(reason.to_owned()))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn keys_are_read_from_files_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = Files::new(ObjectStorageCredentials {
            access_key_id_file: path("id"),
            secret_access_key_file: path("secret"),
            session_token_file: Some(path("token")),
        });
        fs::write(path("id"), "AKID\n").unwrap();
        let error = files.get_credential().await.unwrap_err().to_string();
        assert!(error.contains("secret"), "{error}");
        fs::write(path("secret"), "hidden\n").unwrap();
        let keys = files.get_credential().await.unwrap();
        let read = (&*keys.key_id, &*keys.secret_key, &keys.token);
        assert_eq!(read, ("AKID", "hidden", &None));
        assert!(!format!("{files:?}").contains("hidden"));
    }

    #[tokio::test]
    async fn without_keys_a_request_says_what_is_missing() {
        let error = Nobody.get_credential().await.unwrap_err().to_string();
        assert!(error.contains("name credentials"), "{error}");
    }
}
