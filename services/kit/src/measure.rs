//! Metrics in the Prometheus text format.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::settings::Identity;

/// Upper bounds of the request duration buckets, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts to record metrics in this process; a second call changes nothing.
pub(crate) fn install(identity: &Identity) {
    HANDLE.get_or_init(|| {
        let durations = Matcher::Suffix("_duration_seconds".to_owned());
        // Fails only for an empty list of buckets.
        let mut builder = PrometheusBuilder::new()
            .set_buckets_for_metric(durations, &BUCKETS)
            .unwrap_or_default()
            .add_global_label("service", &identity.service);
        if let Some(release) = &identity.release {
            builder = builder.add_global_label("release", release);
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only where the process has another recorder, which then gets the metrics.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    });
}

fn describe() {
    metrics::describe_counter!("http_requests_total", "Requests answered");
    metrics::describe_histogram!(
        "http_request_duration_seconds",
        "Time from a request's head to its answer's head"
    );
    metrics::describe_gauge!("http_requests_in_flight", "Requests being answered");
    metrics::describe_counter!("http_panics_total", "Requests whose handler panicked");
    metrics::describe_gauge!("health_check_passed", "1 while the check passes");
    metrics::describe_counter!("log_lines_dropped_total", "Log lines nobody took in time");
    metrics::describe_counter!("client_requests_total", "Calls to other services");
    metrics::describe_gauge!("process_resident_memory_bytes", "Resident memory");
    metrics::describe_gauge!("process_open_fds", "Open file descriptors");
    metrics::describe_gauge!("process_threads", "Threads");
}

/// Returns all metrics as text.
pub(crate) fn render() -> String {
    measure_process();
    HANDLE
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}

/// Folds recorded values into their buckets now and then, or they would pile up where nobody scrapes.
pub(crate) async fn keep_up() {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        if let Some(handle) = HANDLE.get() {
            handle.run_upkeep();
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; memory stays far below 2^52"
)]
fn measure_process() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        status.lines().find_map(|line| {
            line.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
    };
    if let Some(kibibytes) = number("VmRSS:") {
        let kibibytes: u64 = kibibytes;
        metrics::gauge!("process_resident_memory_bytes").set((kibibytes * 1024) as f64);
    }
    if let Some(threads) = number("Threads:") {
        metrics::gauge!("process_threads").set(threads as f64);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(entries.count() as f64);
    }
}
