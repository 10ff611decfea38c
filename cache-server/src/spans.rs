//! What is told of requests to OpenTelemetry, if `tracing` in `static.yaml` says so. Leaf.
//!
//! They are spans of the level TRACE, so that without it they are never made. No context comes in from clients or goes
//! out to upstreams: the one could make anybody's requests be sampled, the other would tell upstreams who asks.

use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// By which they are told from other spans.
pub const TARGET: &str = "larder::spans";

/// A request on the data port, to the end of its body.
pub fn request(method: &str) -> Span {
    tracing::trace_span!(
        target: TARGET, "request",
        "otel.kind" = "server",
        "http.request.method" = method,
        "http.response.status_code" = Empty,
        "larder.kind" = Empty,
        "larder.upstream" = Empty,
        "larder.repository" = Empty,
        "larder.reference" = Empty,
        "larder.outcome" = Empty,
        "larder.bytes" = Empty,
    )
}

/// A fetch of a blob into the store, from the request that made it begin.
pub fn fill(upstream: &str, repository: &str, digest: &dyn std::fmt::Display) -> Span {
    apart(tracing::trace_span!(
        target: TARGET, parent: None, "fill",
        "larder.upstream" = upstream,
        "larder.repository" = repository,
        "larder.reference" = %digest,
        "larder.outcome" = Empty,
    ))
}

/// A question to an upstream that several requests wait for, from the first of them.
pub fn question() -> Span {
    apart(tracing::trace_span!(target: TARGET, parent: None, "question"))
}

/// One request to an upstream, to the head of its answer.
pub fn upstream(method: &str, upstream: &str, url: &reqwest::Url) -> Span {
    tracing::trace_span!(
        target: TARGET, "upstream request",
        "otel.kind" = "client",
        "http.request.method" = method,
        "http.response.status_code" = Empty,
        "larder.upstream" = upstream,
        // Without the query, which may be signed.
        "server.address" = url.host_str(),
        "url.path" = url.path(),
        "error.type" = Empty,
    )
}

/// Makes a span a child of the current one without keeping that from its end.
fn apart(span: Span) -> Span {
    if !span.is_disabled() {
        // Fails only where no span is told to anybody.
        let _ = span.set_parent(Span::current().context());
    }
    span
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    #[test]
    fn without_tracing_there_are_none() {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("info"))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let url = "http://a.example/".parse().unwrap();
            for span in [
                super::request("GET"),
                super::fill("a", "b", &"c"),
                super::question(),
                super::upstream("GET", "a", &url),
            ] {
                assert!(span.is_disabled());
            }
        });
    }
}
