//! `larder-operator await-daemon-set`: waits until a `DaemonSet` is ready on every node, and may delete another one
//! before. For the chart's removal: Helm's hooks wait for Jobs only.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::DeleteParams;
use kube::{Api, Client};

use crate::args::AwaitArguments;
use crate::report::chain;

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the wait ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to make a client")]
    Client { source: Box<kube::Error> },
    #[error("failed to delete DaemonSet {name}")]
    Delete {
        name: String,
        source: Box<kube::Error>,
    },
    #[error("failed to see DaemonSet {name} ready within {seconds} s: {state}")]
    Timeout {
        name: String,
        seconds: u64,
        state: String,
    },
}

/// Waits.
pub async fn run(arguments: AwaitArguments) -> Result<(), Error> {
    let client = Client::try_default()
        .await
        .map_err(|source| Error::Client {
            source: Box::new(source),
        })?;
    let api: Api<DaemonSet> = Api::namespaced(client, &arguments.namespace);
    if let Some(name) = &arguments.delete {
        match api.delete(name, &DeleteParams::foreground()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => {
                return Err(Error::Delete {
                    name: name.clone(),
                    source: Box::new(source),
                });
            }
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(arguments.timeout);
    loop {
        let state = match api.get_opt(&arguments.name).await {
            Ok(Some(daemon_set)) => match missing(&daemon_set) {
                None => return Ok(()),
                Some(state) => state,
            },
            Ok(None) => "it does not exist".to_owned(),
            Err(error) => chain(&error),
        };
        if tokio::time::timeout_at(deadline, tokio::time::sleep(PAUSE))
            .await
            .is_err()
        {
            return Err(Error::Timeout {
                name: arguments.name,
                seconds: arguments.timeout,
                state,
            });
        }
    }
}

/// What there is to wait for. `None`: nothing.
fn missing(daemon_set: &DaemonSet) -> Option<String> {
    let status = daemon_set.status.clone().unwrap_or_default();
    if status.observed_generation < daemon_set.metadata.generation {
        return Some("Kubernetes has not taken it up yet".to_owned());
    }
    let (ready, total) = (status.number_ready, status.desired_number_scheduled);
    (ready < total).then(|| format!("{ready} of {total} pods are ready"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSetStatus;

    use super::*;

    #[test]
    fn a_daemon_set_that_nobody_looked_at_is_not_ready() {
        let mut daemon_set = DaemonSet::default();
        daemon_set.metadata.generation = Some(1);
        assert!(missing(&daemon_set).is_some());
        daemon_set.status = Some(DaemonSetStatus {
            observed_generation: Some(1),
            number_ready: 1,
            desired_number_scheduled: 2,
            ..DaemonSetStatus::default()
        });
        assert_eq!(
            missing(&daemon_set).as_deref(),
            Some("1 of 2 pods are ready")
        );
        daemon_set.status.as_mut().unwrap().number_ready = 2;
        assert_eq!(missing(&daemon_set), None);
    }
}
