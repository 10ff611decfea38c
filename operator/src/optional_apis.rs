//! Which APIs of others the cluster has. They may be installed, or removed, while the operator runs.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use tokio::sync::watch;

use crate::report::chain;

/// Time between two looks at which kinds exist.
const DISCOVERY: Duration = Duration::from_secs(30);

/// Longest wait for one group. The client itself asks again and again while whoever serves it is away.
const LIMIT: Duration = Duration::from_secs(3);

/// A kind of somebody else's that is used where it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptionalKind {
    /// Of the Prometheus operator.
    ServiceMonitor,
    /// Of the Prometheus operator.
    PrometheusRule,
    /// Of cert-manager.
    Certificate,
    /// Of the Gateway API.
    HttpRoute,
}

impl OptionalKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::ServiceMonitor,
        Self::PrometheusRule,
        Self::Certificate,
        Self::HttpRoute,
    ];

    /// The `kind` of its objects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceMonitor => "ServiceMonitor",
            Self::PrometheusRule => "PrometheusRule",
            Self::Certificate => "Certificate",
            Self::HttpRoute => "HTTPRoute",
        }
    }

    /// How the API server calls it.
    pub fn resource(self) -> ApiResource {
        let (group, plural) = match self {
            Self::ServiceMonitor => ("monitoring.coreos.com", "servicemonitors"),
            Self::PrometheusRule => ("monitoring.coreos.com", "prometheusrules"),
            Self::Certificate => ("cert-manager.io", "certificates"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "httproutes"),
        };
        let kind = GroupVersionKind::gvk(group, "v1", self.name());
        ApiResource::from_gvk_with_plural(&kind, plural)
    }
}

/// The kinds that exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionalApis(BTreeSet<OptionalKind>);

impl OptionalApis {
    fn extend(&mut self, version: &str, list: &APIResourceList) {
        self.0.extend(OptionalKind::ALL.into_iter().filter(|kind| {
            let resource = kind.resource();
            let is_there = list.resources.iter().any(|one| one.name == resource.plural);
            resource.api_version == version && is_there
        }));
    }

    pub fn has(&self, kind: OptionalKind) -> bool {
        self.0.contains(&kind)
    }

    /// How the API server calls those that exist.
    pub fn resources(&self) -> impl Iterator<Item = ApiResource> {
        self.0.iter().map(|kind| kind.resource())
    }
}

impl FromIterator<OptionalKind> for OptionalApis {
    fn from_iter<I: IntoIterator<Item = OptionalKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().collect())
    }
}

/// Asks the API server which kinds exist. Of a group that it can't tell about, because whoever serves it is away for instance,
/// those that were `known` still count.
pub async fn discover(client: &Client, known: &OptionalApis) -> OptionalApis {
    let mut found = OptionalApis::default();
    let versions: BTreeSet<String> = OptionalKind::ALL
        .map(|kind| kind.resource().api_version)
        .into();
    let ask = |version| tokio::time::timeout(LIMIT, client.list_api_group_resources(version));
    let answers = join_all(versions.iter().map(|version| ask(version))).await;
    for (version, answer) in versions.iter().zip(answers) {
        let failure = match answer {
            Ok(Ok(list)) => {
                found.extend(version, &list);
                continue;
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => continue,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        tracing::warn!(%version, error = failure, "failed to look which optional kinds exist");
        let still = known.0.iter().copied();
        let of_group = |kind: &OptionalKind| kind.resource().api_version == *version;
        found.0.extend(still.filter(of_group));
    }
    found
}

/// Looks again and again which kinds exist, and tells when it is others than before. Never ends.
pub async fn follow(client: &Client, sender: watch::Sender<OptionalApis>) {
    loop {
        tokio::time::sleep(DISCOVERY).await;
        let known = sender.borrow().clone();
        let found = discover(client, &known).await;
        sender.send_if_modified(|known| {
            let changed = *known != found;
            if changed {
                tracing::info!(?found, "the optional kinds of the cluster changed");
                *known = found;
            }
            changed
        });
    }
}
