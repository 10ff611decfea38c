//! Traces, as a collector gets them.

use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::support::{FakeCloud, FakeUpstream, Program, content};

fn configuration(directory: &Path, upstream: &FakeUpstream, tracing: &str) -> std::path::PathBuf {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let text = format!(
        "server: {{dataListen: '127.0.0.1:0', adminListen: '127.0.0.1:0', store: {}, logFormat: Json, tracing: {tracing}}}\npolicy:\n  allowAnonymousPrivate: true\n  defaultUpstream: r.test\n  upstreams:\n  - {{host: r.test, endpoints: [\"{}\"], credentials: [{{usernameFile: {}, passwordFile: {}}}]}}\n",
        directory.join("store").display(),
        upstream.endpoint(),
        write("username", "robot").display(),
        write("password", "S3cr3t").display(),
    );
    write("config.yaml", &text)
}

/// All spans that a collector got.
fn spans(collector: &FakeCloud) -> Vec<Span> {
    let mut all = Vec::new();
    for seen in collector.seen() {
        assert_eq!(seen.line, "POST /v1/traces");
        assert_eq!(seen.header("content-type"), "application/x-protobuf");
        let export = ExportTraceServiceRequest::decode(seen.bytes).unwrap();
        for resource in export.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            assert!(attributes.iter().any(|one| one.key == "service.name"));
            let scopes = resource.scope_spans.into_iter();
            all.extend(scopes.flat_map(|scope| scope.spans));
        }
    }
    all
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == key);
    let value = found.and_then(|one| one.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_its_fill_and_what_the_upstream_was_asked_are_one_trace() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("team/a", content(5000, 1));
    upstream.image("team/a", "v1", &[]);
    upstream.protect(|protection| protection.basic = Some(("robot".into(), "S3cr3t".into())));
    let collector = FakeCloud::start(|_| (200, String::new())).await;
    let directory = tempfile::tempdir().unwrap();
    let tracing = format!("{{endpoint: '{}'}}", collector.endpoint);
    let config = configuration(directory.path(), &upstream, &tracing);
    let program = Program::start(&config, "info").await;
    let blob = format!("/v2/team/a/blobs/{layer}");
    for path in [
        &blob,
        &blob,
        "/v2/team/a/manifests/v1",
        "/v2/team/a/manifests/v2",
    ] {
        program.get(path).await.bytes().await.unwrap();
    }
    program.end().await;

    let spans = spans(&collector);
    let named = |name: &str| -> Vec<&Span> {
        let mut found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        found.sort_by_key(|span| span.start_time_unix_nano);
        found
    };
    let requests = named("request");
    let outcomes: Vec<_> = requests
        .iter()
        .map(|span| {
            let keys = [
                "larder.kind",
                "larder.outcome",
                "http.response.status_code",
                "larder.bytes",
            ];
            keys.map(|key| attribute(span, key)).join(" ")
        })
        .collect();
    assert_eq!(outcomes[..2], ["blob miss 200 5000", "blob hit 200 5000"]);
    assert!(outcomes[2].starts_with("manifest miss 200"), "{outcomes:?}");
    assert!(
        outcomes[3].starts_with("manifest not_found 404"),
        "{outcomes:?}"
    );
    let miss = requests[0];
    assert_eq!(attribute(miss, "larder.upstream"), "r.test");
    assert_eq!(attribute(miss, "larder.repository"), "team/a");
    assert_eq!(attribute(miss, "larder.reference"), layer.to_string());
    let fills = named("fill");
    assert_eq!(fills.len(), 1);
    assert_eq!(attribute(fills[0], "larder.outcome"), "stored");
    assert_eq!(attribute(fills[0], "larder.reference"), layer.to_string());
    let is_within = |span: &Span, parent: &Span| {
        span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id
    };
    assert!(is_within(fills[0], miss));
    // 401 and then the blob; a manifest, and one that is not there.
    let asked = named("upstream request");
    assert_eq!(asked.len(), 4);
    assert!(is_within(asked[0], fills[0]) && is_within(asked[1], fills[0]));
    assert_eq!(attribute(asked[0], "http.response.status_code"), "401");
    assert_eq!(attribute(asked[1], "url.path"), blob);
    let questions = named("question");
    assert!(is_within(asked[2], questions[0]) && is_within(questions[0], requests[2]));
    assert_eq!(attribute(asked[3], "http.response.status_code"), "404");

    // Neither the secret nor who asks goes anywhere.
    for seen in collector.seen() {
        for secret in ["S3cr3t", "cm9ib3Q6UzNjcjN0"] {
            assert!(!seen.body.contains(secret));
        }
    }
    for headers in upstream.headers("") {
        assert!(!headers.contains_key("traceparent") && !headers.contains_key("tracestate"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ratio_of_nothing_traces_nothing_and_a_dead_collector_stops_nothing() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(5000, 1));
    let collector = FakeCloud::start(|_| (200, String::new())).await;
    let directory = tempfile::tempdir().unwrap();
    let tracing = format!("{{endpoint: '{}', sampleRatio: 0}}", collector.endpoint);
    let config = configuration(directory.path(), &upstream, &tracing);
    let path = format!("/v2/a/blobs/{layer}");
    let program = Program::start(&config, "info").await;
    assert_eq!(program.get(&path).await.status(), 200);
    program.end().await;
    assert!(collector.seen().is_empty());

    collector.answer(|_| (503, String::new()));
    let tracing = format!("{{endpoint: '{}'}}", collector.endpoint);
    let config = configuration(directory.path(), &upstream, &tracing);
    let program = Program::start(&config, "info").await;
    assert_eq!(program.get(&path).await.status(), 200);
    let log = program.end().await;
    assert!(!collector.seen().is_empty());
    assert!(log.contains("failed to send traces"), "{log}");
    // Lines of the log are as without traces.
    assert!(
        !log.contains("\"span\"") && !log.contains("\"spans\""),
        "{log}"
    );
}
