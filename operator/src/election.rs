//! Which of several operators works: the one that holds a Lease.
//!
//! The rules are those of Kubernetes' own controllers. Every write names the version of the Lease that it is based on, so two candidates can't both
//! take it. Whether the holder is still there is judged by how long the Lease has not changed, on this process's own clock: clocks that disagree take
//! the Lease from nobody. A holder that can't renew gives up well before another may take over, and its process ends, because work in flight can't
//! be called back one by one.
//!
//! Renewals are not counted as writes, and go over connections of their own: work that fills the others does not cost the Lease.

mod record;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep, timeout_at};

/// Why this process does not, or no longer, hold the Lease.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read or write Lease {lease}")]
    Request {
        lease: String,
        source: Box<kube::Error>,
    },
    #[error("failed to reach Lease {lease} within {} s", within.as_secs_f64())]
    Silent { lease: String, within: Duration },
    #[error("failed to keep Lease {lease}: it was taken by {holder}")]
    Taken { lease: String, holder: String },
    #[error("failed to keep Lease {lease}: it could not be renewed for {} s", after.as_secs_f64())]
    Expired { lease: String, after: Duration },
}

/// How long things may take. A holder gives up after `deadline`, others take over after `duration`: the difference must be ample.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// After that long without a renewal, others take the Lease. Whole seconds.
    pub duration: Duration,
    /// After that long without a renewal, the holder gives up.
    pub deadline: Duration,
    /// Between two renewals.
    pub renew: Duration,
    /// Between two looks of those who wait, and after a renewal that failed.
    pub retry: Duration,
    /// Longest request.
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            renew: Duration::from_secs(4),
            retry: Duration::from_secs(2),
            request: Duration::from_secs(4),
        }
    }
}

/// A candidate, or the holder.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
}

/// The Lease as it was last read.
#[derive(Debug)]
struct Seen {
    uid: Option<String>,
    version: Option<String>,
    /// Since when it is like that, as far as this process has seen.
    since: Instant,
}

/// What one look at the Lease comes to.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Leads,
    Follows {
        holder: String,
    },
    /// Somebody else wrote at the same time; the next look shows what.
    Contended,
}

impl Election {
    /// A candidate. `pod` is the readable part of its identity; a number makes it unique, so that no process is taken for another one that ran in the
    /// same pod before.
    pub fn new(client: Client, namespace: &str, name: &str, pod: &str, timing: Timing) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: format!("{pod}_{:016x}", fastrand::u64(..)),
            timing,
            seen: None,
            renewed: Instant::now(),
        }
    }

    /// What stands in the Lease while this candidate holds it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits for the Lease and takes it. `waiting` is called each time that the Lease was seen to be somebody else's.
    pub async fn acquire(&mut self, mut waiting: impl FnMut()) {
        let mut announced = None;
        loop {
            let asked = Instant::now();
            match self.look(asked + self.timing.request).await {
                Ok(Standing::Leads) => {
                    self.renewed = asked;
                    return;
                }
                Ok(Standing::Follows { holder }) => {
                    waiting();
                    if announced.as_ref() != Some(&holder) {
                        tracing::info!(lease = %self.lease(), %holder, "another operator works; this one waits");
                        announced = Some(holder);
                    }
                }
                Ok(Standing::Contended) => {}
                Err(error) => {
                    tracing::warn!(error = %crate::report::chain(&error), "the Lease is asked for again");
                }
            }
            // Candidates that started together don't ask together for ever.
            sleep(self.timing.retry.mul_f64(0.75 + fastrand::f64() * 0.5)).await;
        }
    }

    /// Renews the Lease until that fails for good, and returns why.
    pub async fn hold(&mut self) -> Error {
        let mut wait = self.timing.renew;
        loop {
            sleep(wait).await;
            let asked = Instant::now();
            let give_up = self.renewed + self.timing.deadline;
            match self.look(give_up.min(asked + self.timing.request)).await {
                Ok(Standing::Leads) => {
                    self.renewed = asked;
                    wait = self.timing.renew;
                    continue;
                }
                Ok(Standing::Follows { holder }) => {
                    return Error::Taken {
                        lease: self.lease(),
                        holder,
                    };
                }
                Ok(Standing::Contended) => {}
                Err(error) => {
                    tracing::warn!(error = %crate::report::chain(&error), "the Lease was not renewed");
                }
            }
            if Instant::now() >= give_up {
                return Error::Expired {
                    lease: self.lease(),
                    after: self.timing.deadline,
                };
            }
            wait = self.timing.retry.min(give_up - Instant::now());
        }
    }

    /// Gives the Lease back, so that the next operator need not wait. Does nothing if it is somebody else's.
    pub async fn release(&mut self) -> Result<(), Error> {
        let released = async {
            let Some(mut lease) = self.read().await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if record::holder(spec) == Some(&self.identity) {
                record::release(spec);
                self.write(&lease).await?;
            }
            Ok(())
        };
        timeout_at(Instant::now() + self.timing.request, released)
            .await
            .unwrap_or_else(|_| {
                Err(Error::Silent {
                    lease: self.lease(),
                    within: self.timing.request,
                })
            })
    }

    async fn look(&mut self, until: Instant) -> Result<Standing, Error> {
        let (lease, within) = (self.lease(), self.timing.request);
        timeout_at(until, self.take_or_renew())
            .await
            .unwrap_or(Err(Error::Silent { lease, within }))
    }

    async fn take_or_renew(&mut self) -> Result<Standing, Error> {
        let Some(mut lease) = self.read().await? else {
            let mut lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: None,
            };
            self.claim(&mut lease);
            let created = self.leases.create(&PostParams::default(), &lease).await;
            return self.standing(created);
        };
        let unchanged = self.note(&lease);
        let spec = lease.spec.clone().unwrap_or_default();
        if let Some(holder) = record::holder(&spec)
            && *holder != self.identity
            && unchanged < record::duration(&spec, self.timing.duration)
        {
            return Ok(Standing::Follows {
                holder: holder.clone(),
            });
        }
        self.claim(&mut lease);
        let written = self
            .leases
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        self.standing(written)
    }

    fn claim(&self, lease: &mut Lease) {
        let spec = lease.spec.get_or_insert_default();
        record::claim(spec, &self.identity, self.timing.duration, Timestamp::now());
    }

    /// Remembers the Lease, and returns for how long it has been as it is.
    fn note(&mut self, lease: &Lease) -> Duration {
        let (uid, version) = (lease.uid(), lease.resource_version());
        match &self.seen {
            Some(seen) if seen.uid == uid && seen.version == version => seen.since.elapsed(),
            _ => {
                self.seen = Some(Seen {
                    uid,
                    version,
                    since: Instant::now(),
                });
                Duration::ZERO
            }
        }
    }

    fn standing(&self, written: kube::Result<Lease>) -> Result<Standing, Error> {
        match written {
            Ok(_) => Ok(Standing::Leads),
            // Created or changed by another in between, or deleted.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {
                Ok(Standing::Contended)
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    async fn read(&self) -> Result<Option<Lease>, Error> {
        let found = self.leases.get_opt(&self.name).await;
        found.map_err(|source| self.failed(source))
    }

    async fn write(&self, lease: &Lease) -> Result<(), Error> {
        let written = self
            .leases
            .replace(&self.name, &PostParams::default(), lease)
            .await;
        written.map(drop).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: kube::Error) -> Error {
        Error::Request {
            lease: self.lease(),
            source: Box::new(source),
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
