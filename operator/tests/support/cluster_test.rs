//! A cache in the cluster of `api_server`, and what can be asked about it.

use std::sync::Arc;

use crate::api_server::{self, ApiServer};
use operator::confirm::PodAccess;
use operator::context::Context;
use operator::metrics::Metrics;
use operator::optional_apis::OptionalApis;
use operator::reconcile::reconcile;
use operator::resolve::Settings;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) const CACHE: &str = "/apis/larder.dev/v1alpha1/namespaces/team-a/registrycaches/cache";
pub(crate) const POLICY: &str = "/apis/larder.dev/v1alpha1/namespaces/team-a/cachepolicies/ours";

/// The cluster, and an operator's context.
pub(crate) struct Test {
    pub(crate) server: ApiServer,
    context: Context,
    pub(crate) apis: watch::Sender<OptionalApis>,
}

impl Test {
    /// A cache with two replicas that has come to rest.
    pub(crate) async fn settled() -> Self {
        let test = Self::declared().await;
        test.reconcile().await.unwrap();
        test.server.with(|cluster| {
            cluster.start_pod("cache", "cache-0");
            cluster.start_pod("cache", "cache-1");
        });
        // The first met no pods.
        test.reconcile().await.unwrap();
        test.take_writes();
        test
    }

    /// The same before anything was done about it.
    pub(crate) async fn declared() -> Self {
        let (server, client) = ApiServer::start().await;
        let (sender, apis) = watch::channel(OptionalApis::default());
        let context = Context::new(
            client.clone(),
            Settings {
                cache_server_image: "larder/cache-server:0.1.0".to_owned(),
                cache_server_pull_policy: None,
                namespace: Some("larder-system".to_owned()),
            },
            PodAccess::Proxy(client),
            Arc::new(Metrics::new().unwrap()),
            apis,
        );
        let test = Self {
            server,
            context,
            apis: sender,
        };
        test.server.with(|cluster| {
            cluster.put(
                CACHE,
                json!({
                    "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache",
                    "metadata": {"name": "cache", "namespace": "team-a", "generation": 1},
                    "spec": {
                        "upstreams": [{"host": "docker.io"}], "policyRefs": [{"name": "ours"}],
                        "replicas": 2, "storage": {"volume": {"size": "1024Mi"}},
                    },
                }),
            );
            cluster.put(POLICY, policy("library/*"));
        });
        test
    }

    pub(crate) async fn reconcile(
        &self,
    ) -> Result<std::time::Duration, operator::reconcile::Error> {
        let turn = self.context.turn().await.unwrap();
        Box::pin(reconcile(&self.context, turn, "team-a", "cache")).await
    }

    pub(crate) fn status(&self) -> Value {
        self.server
            .with(|cluster| cluster.objects[CACHE]["status"].clone())
    }

    pub(crate) fn condition(&self, type_: &str) -> String {
        let status = self.status();
        let hash = status["policy"]["desiredHash"].as_str().unwrap_or("none");
        let conditions = status["conditions"].as_array().unwrap();
        conditions
            .iter()
            .find(|condition| condition["type"] == type_)
            .map_or("absent".to_owned(), |condition| {
                let text = |key: &str| condition[key].as_str().unwrap().to_owned();
                let message = text("message").replace(&hash[..hash.len().min(12)], "HASH");
                format!("{} {}: {message}", text("status"), text("reason"))
            })
    }

    /// UID of an object.
    pub(crate) fn uid(&self, path: &str) -> Value {
        self.server
            .with(|cluster| cluster.objects[path]["metadata"]["uid"].clone())
    }

    /// What was written since the last call.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        self.server.with(api_server::Cluster::take_writes)
    }
}

/// A policy with one rule.
pub(crate) fn policy(glob: &str) -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "CachePolicy",
        "metadata": {"name": "ours", "namespace": "team-a", "generation": 1},
        "spec": {"rules": [{"action": "Cache", "match": {"repositories": [glob]}}]},
    })
}
