//! All metrics of the server, in one registry. Leaf.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError, Weak};

use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Counts that are kept apart until somebody reads the metrics.
pub trait Held: std::fmt::Debug + Send + Sync {
    /// Adds them to the metrics.
    fn release(&self);
}

/// Counters and gauges by the names in their help texts. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    held: Mutex<Vec<Weak<dyn Held>>>,
    descriptions: Vec<Description>,
    pub requests: IntCounterVec,
    pub response_bytes: IntCounterVec,
    pub upstream_bytes: IntCounterVec,
    pub upstream_requests: IntCounterVec,
    pub upstream_sign_ins: IntCounterVec,
    pub upstream_breaker_open: IntGaugeVec,
    pub upstream_rate_limit: IntGaugeVec,
    pub upstream_rate_limit_remaining: IntGaugeVec,
    pub fills_running: IntGauge,
    pub fills: IntCounterVec,
    pub digest_mismatches: IntCounterVec,
    pub time_to_first_byte: HistogramVec,
    pub policy: IntGaugeVec,
    pub policy_reload_successful: IntGauge,
    pub policy_reload_timestamp: Gauge,
    pub policy_from_last_good: IntGauge,
    pub store_used: IntGauge,
    pub store_capacity: IntGauge,
    pub store_free: IntGauge,
    pub store_max: IntGauge,
    pub store_blobs: IntGauge,
    pub store_write_failures: IntCounter,
    pub admission_stopped: IntGauge,
    pub evictions: IntCounterVec,
    pub evicted_bytes: IntCounterVec,
    pub eviction_age: HistogramVec,
    pub manifests: IntGaugeVec,
    pub scrubbed_bytes: IntCounter,
    pub scrub_wrong: IntCounter,
    pub stale_served: IntCounterVec,
    pub bucket_requests: IntCounterVec,
    pub bucket_bytes: IntCounterVec,
    pub bucket_wrong: IntCounter,
    pub bucket_left_alone: IntGauge,
    pub bucket_queue: IntGauge,
    pub bucket_dropped: IntCounter,
    pub bucket_behind: IntGauge,
    pub connections: IntGauge,
    pub connections_turned_away: IntCounter,
    pub connections_cut: IntCounter,
    pub accept_failures: IntCounter,
    pub tls_handshake_failures: IntCounter,
    pub tls_reload_successful: IntGauge,
    pub tls_certificate_expiry: IntGauge,
    pub sendfile_guard_failures: IntCounter,
    pub sendfile_read_aheads: IntCounter,
}

/// What is said of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

impl Metrics {
    /// Metrics at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let of = Family {
            registry: &registry,
            descriptions: RefCell::default(),
        };
        let metrics = Self {
            requests: of.counters("requests_total", "Requests on the data port, by kind and by what was done.", &["kind", "outcome"])?,
            response_bytes: of.counters("response_bytes_total", "Bytes of bodies sent to clients, by upstream and by where they came from: cache or upstream.", &["upstream", "source"])?,
            upstream_bytes: of.counters("upstream_bytes_total", "Bytes of bodies received from upstreams.", &["upstream"])?,
            upstream_requests: of.counters("upstream_requests_total", "Requests to upstreams, by status code or, if there was no answer, error.", &["upstream", "code"])?,
            upstream_sign_ins: of.counters("upstream_sign_ins_total", "Sign-ins with a cloud's identity, by result: ok or failed.", &["upstream", "result"])?,
            upstream_breaker_open: of.gauges("upstream_breaker_open", "1 while an endpoint is left alone because it failed again and again, else 0.", &["upstream", "endpoint"])?,
            upstream_rate_limit: of.gauges("upstream_rate_limit", "Pulls that an upstream allows in its period, if it says so.", &["upstream"])?,
            upstream_rate_limit_remaining: of.gauges("upstream_rate_limit_remaining", "Pulls that an upstream still allows, if it says so.", &["upstream"])?,
            fills_running: of.gauge("fills_running", "Blobs being fetched into the store.")?,
            fills: of.counters("fills_total", "Ended fetches of blobs into the store, by result: stored, mismatch, upstream, store, full or dropped.", &["result"])?,
            digest_mismatches: of.counters("digest_mismatches_total", "Bodies from upstreams whose content was not what their digest says.", &["upstream"])?,
            time_to_first_byte: of.times("time_to_first_byte_seconds", "Time from the request's head to the first byte of the answer's body, or to its head if that is all, by what was done.", &["outcome"])?,
            policy: of.gauges("policy_info", "1 for the hash of the policy in force.", &["hash"])?,
            policy_reload_successful: of.gauge("policy_last_reload_successful", "1 if the last policy read could be taken, else 0.")?,
            policy_reload_timestamp: of.real("policy_last_reload_timestamp_seconds", "When a policy was last taken, in seconds since 1970.")?,
            policy_from_last_good: of.gauge("policy_from_last_good", "1 if the policy in force is the one that the store remembered, since the file could not be taken at start.")?,
            store_used: of.gauge("store_used_bytes", "Bytes of content in the store.")?,
            store_capacity: of.gauge("store_capacity_bytes", "Size of the store's filesystem.")?,
            store_free: of.gauge("store_free_bytes", "Bytes that can still be written to the store's filesystem.")?,
            store_max: of.gauge("store_max_bytes", "Bytes of content that the store may hold.")?,
            store_blobs: of.gauge("store_blobs", "Blobs and manifests in the store.")?,
            admission_stopped: of.gauge("admission_stopped", "1 while what must be kept fills the store, and new content is passed through without storing.")?,
            evictions: of.counters("evictions_total", "Blobs and manifests removed from the store, by reason: unused, superseded, capacity or disk.", &["reason"])?,
            evicted_bytes: of.counters("evicted_bytes_total", "Bytes removed from the store, by reason.", &["reason"])?,
            eviction_age: of.ages("eviction_age_seconds", "Time since the last use of what was removed from the store, by reason.", &["reason"])?,
            manifests: of.gauges("manifests", "Image manifests in the store, by state: complete, if everything that they refer to is there and they can be pulled without the upstream, or incomplete.", &["state"])?,
            scrubbed_bytes: of.counter("scrub_bytes_total", "Bytes of stored content that were read to compare them with their digests.")?,
            scrub_wrong: of.counter("scrub_corrupt_total", "Blobs and manifests that rotted on the disk, and were moved to quarantine.")?,
            store_write_failures: of.counter("store_write_failures_total", "Writes to the store that failed. Clients are then served without storing.")?,
            stale_served: of.counters("stale_served_total", "Tags answered with an old copy because the upstream failed or hung.", &["upstream"])?,
            bucket_requests: of.counters("bucket_requests_total", "Requests to the bucket, by operation (read, look, write, remove or list) and by result: ok, absent or failed.", &["operation", "result"])?,
            bucket_bytes: of.counters("bucket_bytes_total", "Bytes of objects, by direction: read from the bucket or written to it.", &["direction"])?,
            bucket_wrong: of.counter("bucket_corrupt_total", "Objects in the bucket whose content was not what their key says. They are never served, and are replaced.")?,
            bucket_left_alone: of.gauge("bucket_left_alone", "1 while the bucket is not asked because it failed again and again, else 0.")?,
            bucket_queue: of.gauge("bucket_queue", "What waits to be written to the bucket, or is being written.")?,
            bucket_dropped: of.counter("bucket_dropped_total", "What was not written to the bucket at once, because the queue was full or the bucket failed. It is written later.")?,
            bucket_behind: of.gauge("bucket_behind", "1 while something in the store may be missing in the bucket, 0 if there is nothing or no bucket.")?,
            connections: of.gauge("connections", "Open connections on the data port.")?,
            connections_turned_away: of.counter("connections_turned_away_total", "Connections answered 503 because all places were taken.")?,
            connections_cut: of.counter("connections_cut_total", "Connections cut because the client took less than the minimum rate.")?,
            accept_failures: of.counter("accept_failures_total", "Connections that could not be accepted, most likely because too many files are open.")?,
            tls_handshake_failures: of.counter("tls_handshake_failures_total", "TLS handshakes on the data port that failed or were too slow.")?,
            tls_reload_successful: of.gauge("tls_last_reload_successful", "1 if the data port's certificate is the one in its files, 0 if they can't be taken or there is no TLS.")?,
            tls_certificate_expiry: of.gauge("tls_certificate_expiry_timestamp_seconds", "When the data port's certificate ends, in seconds since 1970; 0 without TLS.")?,
            sendfile_guard_failures: of.counter("sendfile_guard_failures_total", "Connections closed because something else than the file to be sent was about to be written. Each is a bug.")?,
            sendfile_read_aheads: of.counter("sendfile_read_aheads_total", "Parts of stored files that were not in memory, and were read by a thread that may wait for the disk.")?,
            descriptions: Vec::new(),
            registry: registry.clone(),
            held: Mutex::default(),
        };
        Ok(Self {
            descriptions: of.descriptions.into_inner(),
            ..metrics
        })
    }

    /// All metrics, those without a value yet too.
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// Has counts added whenever somebody reads.
    pub fn hold(&self, held: Weak<dyn Held>) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(held);
    }

    fn release(&self) {
        let all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for held in all.iter().filter_map(Weak::upgrade) {
            held.release();
        }
    }

    /// How many requests had which labels.
    pub fn requests_by_label(&self) -> Vec<(Vec<String>, u64)> {
        self.release();
        let families = prometheus::core::Collector::collect(&self.requests);
        let metrics = families
            .iter()
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics
            .map(|metric| {
                let labels = metric.get_label().iter();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it counts from 0 by 1"
                )]
                let count = metric.get_counter().get_value() as u64;
                (
                    labels.map(|label| label.value().to_owned()).collect(),
                    count,
                )
            })
            .collect()
    }

    /// The page in Prometheus' text format.
    pub fn page(&self) -> Vec<u8> {
        self.release();
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!(%error, "failed to write the metrics page");
        }
        page
    }

    /// Shows which policy is in force.
    pub fn policy_taken(&self, hash: &str, seconds: f64, from_last_good: bool) {
        self.policy.reset();
        self.policy.with_label_values(&[hash]).set(1);
        self.policy_reload_timestamp.set(seconds);
        self.policy_from_last_good.set(i64::from(from_last_good));
    }
}

/// Makes metrics of the family `larder_`.
struct Family<'a> {
    registry: &'a Registry,
    descriptions: RefCell<Vec<Description>>,
}

impl Family<'_> {
    fn add<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        metric: M,
    ) -> Result<M, prometheus::Error> {
        let described = metric.desc().into_iter().map(|one| Description {
            name: one.fq_name.clone(),
            kind,
            labels: one.variable_labels.clone(),
            help: one.help.clone(),
        });
        self.descriptions.borrow_mut().extend(described);
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add("counter", IntCounter::with_opts(options(name, help))?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add("counter", IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add("gauge", IntGauge::with_opts(options(name, help))?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add("gauge", IntGaugeVec::new(options(name, help), labels)?)
    }

    fn real(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add("gauge", Gauge::with_opts(options(name, help))?)
    }

    /// From minutes to months.
    fn ages(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let buckets = [
            60.0,
            600.0,
            3600.0,
            21_600.0,
            86_400.0,
            259_200.0,
            604_800.0,
            2_592_000.0,
            7_776_000.0,
        ];
        self.histogram(name, help, labels, &buckets)
    }

    /// From half a millisecond to half a minute.
    fn times(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let buckets = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            30.0,
        ];
        self.histogram(name, help, labels, &buckets)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help)
            .namespace("larder")
            .buckets(buckets.to_vec());
        self.add("histogram", HistogramVec::new(options, labels)?)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("larder")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    /// The page for people. It is written where snapshots are: by `INSTA_UPDATE=always cargo test -p cache-server`.
    #[test]
    fn the_reference_lists_every_metric() {
        let mut page = "<!-- Written by a test of `cache-server/src/metrics.rs`. Do not edit. -->\n\n# Metrics of the cache server\n\nOn the admin port, at `/metrics`. A hit ratio, and the bytes that were not fetched:\n\n```promql\nsum(rate(larder_requests_total{outcome=~\"hit|bucket|stale|revalidated|joined\"}[5m])) / sum(rate(larder_requests_total{kind!=\"other\"}[5m]))\nsum(larder_response_bytes_total) - sum(larder_upstream_bytes_total)\n```\n\n| metric | type | labels | what it says |\n|---|---|---|---|\n".to_owned();
        let metrics = Metrics::new().unwrap();
        for one in metrics.descriptions() {
            assert!(one.help.ends_with('.') && one.help.len() > 20, "{one:?}");
            let labels: Vec<_> = one.labels.iter().map(|name| format!("`{name}`")).collect();
            let (name, kind, labels, help) = (&one.name, one.kind, labels.join(", "), &one.help);
            let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
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
}
