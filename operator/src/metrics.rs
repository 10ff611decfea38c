//! What the operator counts.

mod conditions;

use crds::registry_cache::RegistryCache;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Why the metrics can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to register a metric")]
    Register { source: prometheus::Error },
    #[error("failed to write the metrics")]
    Encode { source: prometheus::Error },
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// 1 while this process works, 0 while it waits for its turn.
    pub leader: IntGauge,
    /// By controller and result: `ok`, `error` or `timeout`.
    pub reconciles: IntCounterVec,
    pub reconcile_seconds: Histogram,
    /// By verb and resource; everything that is not a read is counted, events too. Renewals of the Lease are not.
    pub api_writes: IntCounterVec,
    /// By verb and resource; what is answered from memory is none.
    pub api_reads: IntCounterVec,
    /// From the first time that a policy was wanted until all pods that run had it.
    pub propagation_seconds: Histogram,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Result<Self, Error> {
        let build = || {
            let registry = Registry::new();
            let leader = IntGauge::new(
                "larder_operator_leader",
                "Whether this operator works (1) or waits until another one ends (0)",
            )?;
            let reconciles = IntCounterVec::new(
                Opts::new(
                    "larder_operator_reconciles_total",
                    "Reconciles by result: ok, error, timeout",
                ),
                &["controller", "result"],
            )?;
            let reconcile_seconds = Histogram::with_opts(
                HistogramOpts::new(
                    "larder_operator_reconcile_duration_seconds",
                    "Duration of the reconciles of RegistryCaches, without waiting for pods",
                )
                .buckets(vec![
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
                ]),
            )?;
            let api_writes = IntCounterVec::new(
                Opts::new(
                    "larder_operator_api_writes_total",
                    "Writes to the API server by verb and resource",
                ),
                &["verb", "kind"],
            )?;
            let api_reads = IntCounterVec::new(
                Opts::new(
                    "larder_operator_api_reads_total",
                    "Reads that the API server had to answer, by verb and resource",
                ),
                &["verb", "kind"],
            )?;
            let propagation_seconds = Histogram::with_opts(
                HistogramOpts::new(
                    "larder_operator_policy_propagation_seconds",
                    "Time from a change of a policy until every running pod confirmed it",
                )
                .buckets(vec![
                    0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 15.0, 60.0,
                ]),
            )?;
            registry.register(Box::new(leader.clone()))?;
            registry.register(Box::new(reconciles.clone()))?;
            registry.register(Box::new(reconcile_seconds.clone()))?;
            registry.register(Box::new(api_writes.clone()))?;
            registry.register(Box::new(api_reads.clone()))?;
            registry.register(Box::new(propagation_seconds.clone()))?;
            Ok(Self {
                registry,
                leader,
                reconciles,
                reconcile_seconds,
                api_writes,
                api_reads,
                propagation_seconds,
            })
        };
        build().map_err(|source| Error::Register { source })
    }

    /// The text form that Prometheus reads, with the conditions of the caches as they are known.
    pub fn text<'a>(
        &self,
        caches: impl Iterator<Item = &'a RegistryCache>,
    ) -> Result<String, Error> {
        let mut buffer = Vec::new();
        let mut families = self.registry.gather();
        families.extend(conditions::families(caches).map_err(|source| Error::Register { source })?);
        TextEncoder::new()
            .encode(&families, &mut buffer)
            .map_err(|source| Error::Encode { source })?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }

    /// Counts a request to the API server.
    pub fn count_request(&self, method: &http::Method, uri: &http::Uri) {
        let (kind, one) = resource(uri.path());
        let watch = uri.query().is_some_and(|query| query.contains("watch="));
        let (verb, counter) = match *method {
            http::Method::POST => ("create", &self.api_writes),
            http::Method::PUT => ("update", &self.api_writes),
            http::Method::PATCH => ("patch", &self.api_writes),
            http::Method::DELETE => ("delete", &self.api_writes),
            _ if watch => ("watch", &self.api_reads),
            _ if one => ("get", &self.api_reads),
            _ => ("list", &self.api_reads),
        };
        counter.with_label_values(&[verb, &kind]).inc();
    }
}

/// `/apis/larder.dev/v1alpha1/namespaces/a/registrycaches/b/status` → `registrycaches/status`, and that it is one object
fn resource(path: &str) -> (String, bool) {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let version = match parts.next() {
        Some("api") => parts.next(),
        Some("apis") => parts.next().and_then(|_| parts.next()),
        _ => None,
    };
    if version.is_none() {
        return ("other".to_owned(), true);
    }
    let parts: Vec<&str> = parts.collect();
    let parts = match parts.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    match parts {
        [plural, _, subresource, ..] => (format!("{plural}/{subresource}"), true),
        [plural, _] => ((*plural).to_owned(), true),
        [plural] => ((*plural).to_owned(), false),
        [] => ("other".to_owned(), true),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use prometheus::core::Collector;

    use super::*;

    /// The page for people. It is written where snapshots are: by `INSTA_UPDATE=always cargo test -p operator`.
    #[test]
    fn the_reference_lists_every_metric() {
        let mut page = "<!-- Written by a test of `operator/src/metrics.rs`. Do not edit. -->\n\n# Metrics of the operator\n\nOn port 8080, at `/metrics`. The chart brings a `ServiceMonitor` and alerts for them (`serviceMonitor.enabled`, `prometheusRule.enabled`).\n\n| metric | labels | what it says |\n|---|---|---|\n".to_owned();
        let metrics = Metrics::new().unwrap();
        let conditions = conditions::gauge().unwrap();
        let all: [&dyn Collector; 6] = [
            &metrics.leader,
            &conditions,
            &metrics.reconciles,
            &metrics.reconcile_seconds,
            &metrics.api_writes,
            &metrics.propagation_seconds,
        ];
        for description in all.into_iter().flat_map(Collector::desc) {
            let labels = &description.variable_labels;
            let labels: Vec<_> = labels.iter().map(|name| format!("`{name}`")).collect();
            let (name, help) = (&description.fq_name, &description.help);
            let _ = writeln!(page, "| `{name}` | {} | {help}. |", labels.join(", "));
        }
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/operator-metrics.md");
        if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "{} is not what the metrics say; run with INSTA_UPDATE=always",
            path.display()
        );
    }

    #[test]
    fn requests_are_counted_by_verb_and_resource() {
        for (path, kind, one) in [
            (
                "/apis/larder.dev/v1alpha1/namespaces/a/registrycaches/b/status",
                "registrycaches/status",
                true,
            ),
            ("/api/v1/namespaces/a/pods/b", "pods", true),
            ("/api/v1/namespaces/a/configmaps", "configmaps", false),
            ("/api/v1/configmaps", "configmaps", false),
            (
                "/apis/events.k8s.io/v1/namespaces/a/events",
                "events",
                false,
            ),
            ("/api/v1/namespaces", "namespaces", false),
            ("/version", "other", true),
        ] {
            assert_eq!(resource(path), (kind.to_owned(), one), "{path}");
        }
        let metrics = Metrics::new().unwrap();
        let pod = http::Uri::from_static("/api/v1/namespaces/a/pods/b");
        metrics.count_request(&http::Method::GET, &pod);
        metrics.count_request(&http::Method::PATCH, &pod);
        let watch = http::Uri::from_static("/api/v1/pods?watch=true&resourceVersion=1");
        metrics.count_request(&http::Method::GET, &watch);
        let text = metrics.text(std::iter::empty()).unwrap();
        for line in [
            r#"larder_operator_api_writes_total{kind="pods",verb="patch"} 1"#,
            r#"larder_operator_api_reads_total{kind="pods",verb="get"} 1"#,
            r#"larder_operator_api_reads_total{kind="pods",verb="watch"} 1"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
