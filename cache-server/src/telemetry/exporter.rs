//! Sends spans to a collector: OTLP, protobuf over HTTP.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crds::static_config::Tracing;
use http::{Request, Response};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

const NAME: &str = "larder-cache-server";
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why no spans are told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to set up the client for the collector of traces: {0}")]
    Client(reqwest::Error),
    #[error("failed to set up the export of traces: {0}")]
    Exporter(String),
}

/// Collects spans and sends them every five seconds, from a thread of its own.
pub(super) fn provider(tracing: &Tracing, runtime: &Handle) -> Result<SdkTracerProvider, Error> {
    let builder = || {
        reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
    };
    let client = builder()
        .build()
        // Plain http must work in an image without ca-certificates.
        .or_else(|_| builder().tls_certs_only([]).build())
        .map_err(Error::Client)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector {
            client,
            runtime: runtime.clone(),
            is_failing: AtomicBool::new(false),
        })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", tracing.endpoint))
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| Error::Exporter(error.to_string()))?;
    let resource = Resource::builder_empty()
        .with_service_name(NAME)
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            tracing.sample_ratio.as_f64(),
        ))))
        .with_resource(resource)
        .build())
}

/// Makes spans of the provider from those of the program.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> OpenTelemetryLayer<S, SdkTracer>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // Where in the code and on which thread is nothing that operators ask.
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(NAME))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_level(false)
}

/// The exporter's thread has no runtime, so requests are made on the server's.
#[derive(Debug)]
struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    is_failing: AtomicBool,
}

impl Collector {
    /// Says the first failure, and the first success after it.
    fn note(&self, failure: Option<&str>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(reason) if !was_failing => {
                tracing::warn!(reason, "failed to send traces; they are lost");
            }
            None if was_failing => tracing::info!("traces are sent again"),
            _ => {}
        }
    }
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sent<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let status = answer.status();
            let body = answer.bytes().await?;
            let mut response = Response::new(body);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        Box::pin(async move {
            let response = match sending.await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    self.note(Some(&error.to_string()));
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            };
            let status = response.status();
            if status.is_success() {
                self.note(None);
            } else {
                self.note(Some(&format!("status {}", status.as_u16())));
            }
            Ok(response)
        })
    }
}
