//! A bucket with the API of S3 that replicas share: objects under keys, and how it is doing.
//! Knows digests, but no store, no upstream and no rules of a cache. What it gives is not believed: who asks compares digests.

mod client;
mod credentials;
mod health;
pub mod keys;
mod object;
mod trust;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crds::static_config::ObjectStorage;
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutPayload};

use crate::clock::{Clock, Moment};
use crate::metrics::Metrics;
use health::Health;
use keys::{Key, Keys};

pub use object::Object;

/// Times that tests shorten.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long a client waits for the bucket before the upstream is asked.
    pub answer: Duration,
    /// How long a body may stand still.
    pub stall: Duration,
    /// How often all that is stored is compared with the bucket.
    pub round: Duration,
    /// How soon that is done again when something did not get into the bucket.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(2),
            stall: Duration::from_secs(10),
            round: Duration::from_hours(1),
            retry: Duration::from_secs(30),
        }
    }
}

/// Why the bucket did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set up the bucket {bucket}: {reason}")]
    Setup { bucket: String, reason: String },
    #[error("failed to {operation} {key} in the bucket: {reason}")]
    Request {
        operation: &'static str,
        key: String,
        reason: String,
    },
    #[error("failed to {operation} {key} in the bucket: it is left alone after several failures")]
    LeftAlone {
        operation: &'static str,
        key: String,
    },
    #[error(
        "failed to upload {key} to the bucket: the content on the disk is not what its name says"
    )]
    Rotten { key: String },
}

/// The bucket of one cache.
#[derive(Debug)]
pub struct Bucket {
    objects: AmazonS3,
    keys: Keys,
    health: Health,
    metrics: Arc<Metrics>,
    times: Times,
}

/// Words of the metric and of errors.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Read,
    Look,
    Write,
    Remove,
    List,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Look => "look",
            Self::Write => "write",
            Self::Remove => "remove",
            Self::List => "list",
        }
    }

    const fn may_miss(self) -> bool {
        matches!(self, Self::Read | Self::Look | Self::Remove)
    }
}

impl Bucket {
    /// `said`: what the environment says of the pod's identity, by name. Nothing is asked of the bucket yet.
    pub fn new(
        config: &ObjectStorage,
        said: &dyn Fn(&str) -> Option<String>,
        times: Times,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let objects = client::client(config, said, times).map_err(|reason| Error::Setup {
            bucket: config.bucket.clone(),
            reason,
        })?;
        Ok(Self {
            objects,
            keys: Keys::new(&config.prefix),
            health: Health::new(clock, metrics.clone()),
            metrics,
            times,
        })
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn times(&self) -> Times {
        self.times
    }

    /// Size of the object; `None` if there is none.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        let head = self.objects.head(key);
        let found = self.soon(Operation::Look, key, head).await?;
        Ok(found.map(|object| object.size))
    }

    /// A small object as a whole; `None` if there is none or if it has more than `limit` bytes.
    pub async fn read(&self, key: &Key, limit: u64) -> Result<Option<Bytes>, Error> {
        let reading = async {
            let found = self.objects.get(key).await?;
            if found.meta.size > limit {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        };
        let read = self.soon(Operation::Read, key, reading).await?.flatten();
        self.count_read(read.as_ref().map_or(0, Bytes::len));
        Ok(read)
    }

    /// An object of any size, to be read from its front; `None` if there is none.
    pub async fn open(self: &Arc<Self>, key: &Key) -> Result<Option<Object>, Error> {
        let found = self
            .soon(Operation::Read, key, self.objects.get(key))
            .await?;
        Ok(found.map(|found| Object::new(self.clone(), key.clone(), found)))
    }

    /// Writes a small object in the place of the one that may be there.
    pub async fn put(&self, key: &Key, content: Bytes) -> Result<(), Error> {
        let length = content.len() as u64;
        let put = self.objects.put(key, PutPayload::from_bytes(content));
        self.done(Operation::Write, key, put.await)?;
        self.count_written(length);
        Ok(())
    }

    /// Removes an object. None is left, whether there was one or not.
    pub async fn remove(&self, key: &Key) -> Result<(), Error> {
        let removed = self.objects.delete(key).await;
        self.done(Operation::Remove, key, removed).map(|_| ())
    }

    /// Calls for the name below the prefix, the size and the time of writing of each object there.
    pub async fn each(
        &self,
        prefix: &Key,
        mut each: impl FnMut(&str, u64, Moment),
    ) -> Result<(), Error> {
        let listing = async {
            let mut objects = self.objects.list(Some(prefix));
            while let Some(object) = objects.try_next().await? {
                let name = object.location.as_ref().strip_prefix(prefix.as_ref());
                if let Some(name) = name.and_then(|rest| rest.strip_prefix('/')) {
                    let written = Moment(object.last_modified.timestamp_millis());
                    each(name, object.size, written);
                }
            }
            Ok(())
        };
        let listed = listing.await;
        self.done(Operation::List, prefix, listed).map(|_| ())
    }

    /// Whether it has failed so often that writing is not worth a try.
    pub fn is_left_alone(&self) -> bool {
        self.health.is_left_alone()
    }

    /// What a client waits for: not for long, and not at all while the bucket is left alone.
    async fn soon<T>(
        &self,
        operation: Operation,
        key: &Key,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>, Error> {
        if !self.health.may_ask() {
            return Err(Error::LeftAlone {
                operation: operation.as_str(),
                key: key.to_string(),
            });
        }
        match tokio::time::timeout(self.times.answer, work).await {
            Ok(result) => self.done(operation, key, result),
            Err(_) => Err(self.failed(operation, key, "it did not answer in time".to_owned())),
        }
    }

    /// Counts what came of a request. `None`: there is no such object.
    fn done<T>(
        &self,
        operation: Operation,
        key: &Key,
        result: object_store::Result<T>,
    ) -> Result<Option<T>, Error> {
        let (found, word) = match result {
            Ok(found) => (Some(found), "ok"),
            // A bucket that is missing is no place to write to.
            Err(object_store::Error::NotFound { .. }) if operation.may_miss() => (None, "absent"),
            Err(error) => return Err(self.failed(operation, key, brief(&error))),
        };
        self.count(operation, word);
        self.health.answered();
        Ok(found)
    }

    fn failed(&self, operation: Operation, key: &Key, reason: String) -> Error {
        self.count(operation, "failed");
        // What may be read can be read, even if nothing may be written.
        if matches!(operation, Operation::Read | Operation::Look) {
            self.health.failed(&reason);
        }
        Error::Request {
            operation: operation.as_str(),
            key: key.to_string(),
            reason,
        }
    }

    fn count(&self, operation: Operation, result: &str) {
        let labels = [operation.as_str(), result];
        self.metrics
            .bucket_requests
            .with_label_values(&labels)
            .inc();
    }

    fn count_read(&self, bytes: usize) {
        let read = self.metrics.bucket_bytes.with_label_values(&["read"]);
        read.inc_by(bytes as u64);
    }

    fn count_written(&self, bytes: u64) {
        let written = self.metrics.bucket_bytes.with_label_values(&["written"]);
        written.inc_by(bytes);
    }
}

/// The beginning of a message. What follows is the body of the answer, which may speak of keys and signatures.
fn brief(error: &object_store::Error) -> String {
    let whole = match error {
        object_store::Error::PermissionDenied { .. } => {
            return "permission denied (403); keys need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket".to_owned();
        }
        object_store::Error::Unauthenticated { .. } => {
            return "the keys are not taken (401)".to_owned();
        }
        error => error.to_string(),
    };
    let text = whole.split('<').next().unwrap_or_default();
    text.trim_end_matches([' ', ':'])
        .chars()
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_the_body_of_an_answer_begins() {
        let error = object_store::Error::Generic {
            store: "S3",
            source: "Server returned non-2xx status code: 503 Slow: <?xml?><AWSAccessKeyId>AK</>"
                .into(),
        };
        assert_eq!(
            brief(&error),
            "Generic S3 error: Server returned non-2xx status code: 503 Slow"
        );
    }
}
