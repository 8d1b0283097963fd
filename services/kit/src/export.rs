//! Spans for requests, exported over OTLP where an endpoint is configured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::client::transport;
use crate::settings::Settings;
use crate::trace_context::TraceContext;

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Sends traces to a collector until it is shut down.
#[derive(Debug)]
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
}

/// The exporter could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The collector's client could not be built.
    #[error("cannot build the client of the trace collector")]
    Client(#[from] reqwest::Error),
    /// The exporter could not be built.
    #[error("cannot build the trace exporter")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl Exporter {
    /// Starts exporting if an endpoint is configured. Call it within the runtime.
    pub(crate) fn start(settings: &Settings) -> Result<Option<(Self, SdkTracer)>, ExportError> {
        let Some(endpoint) = &settings.otlp_endpoint else {
            return Ok(None);
        };
        let client = CollectorClient {
            client: transport(endpoint).timeout(EXPORT_TIMEOUT).build()?,
            runtime: tokio::runtime::Handle::current(),
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let identity = &settings.identity;
        let mut attributes = vec![KeyValue::new("service.version", identity.version)];
        let given = [
            ("service.namespace", &identity.project),
            ("service.instance.id", &identity.instance),
            ("deployment.environment.name", &identity.environment),
            ("platform.release", &identity.release),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                attributes.push(KeyValue::new(name, value.clone()));
            }
        }
        let resource = Resource::builder()
            .with_service_name(identity.service.clone())
            .with_attributes(attributes)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("platform-kit");
        ENABLED.store(true, Ordering::Relaxed);
        Ok(Some((Self { provider }, tracer)))
    }

    /// Exports what is left.
    pub(crate) async fn stop(self) {
        ENABLED.store(false, Ordering::Relaxed);
        // The exporting thread needs this runtime to send, so the wait must not block it.
        let stopped = tokio::task::spawn_blocking(move || self.provider.shutdown()).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(error = &error as &dyn std::error::Error, "traces were lost");
        }
    }
}

/// The exporter works on a thread without a runtime; this hands its requests to ours.
#[derive(Debug)]
struct CollectorClient {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let response = client.execute(request).await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        });
        let (status, body) = sent.await??;
        Ok(Response::builder().status(status).body(body)?)
    }
}

/// Opens the span of a request, continuing the caller's trace; a disabled one where nothing is exported.
pub(crate) fn request_span(
    method: &'static str,
    route: &str,
    path: &str,
    caller: Option<&TraceContext>,
) -> Span {
    if !ENABLED.load(Ordering::Relaxed) {
        return Span::none();
    }
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method,
        http.route = route,
        url.path = path,
        http.response.status_code = tracing::field::Empty,
    );
    if let Some(caller) = caller {
        let (trace, parent, sampled) = caller.parts();
        let remote = SpanContext::new(
            TraceId::from_bytes(trace.to_be_bytes()),
            SpanId::from_bytes(parent.to_be_bytes()),
            TraceFlags::default().with_sampled(sampled),
            true,
            TraceState::default(),
        );
        // Fails only without the exporting layer, and then there is no trace to continue.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    }
    span
}

/// Opens the span of a call to another service; a disabled one where nothing is exported.
pub(crate) fn call_span(method: &Method, service: &str) -> Span {
    if !ENABLED.load(Ordering::Relaxed) {
        return Span::none();
    }
    tracing::info_span!(
        "call",
        otel.name = format!("{method} {service}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        http.request.method = method.as_str(),
        peer.service = service,
        http.response.status_code = tracing::field::Empty,
    )
}

/// Returns the identifiers of an exported span.
pub(crate) fn context_of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| {
        TraceContext::of(
            u128::from_be_bytes(context.trace_id().to_bytes()),
            u64::from_be_bytes(context.span_id().to_bytes()),
            context.is_sampled(),
            None,
        )
    })
}

/// Notes the answer on the span.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
