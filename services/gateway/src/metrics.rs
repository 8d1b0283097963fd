//! The counts as Prometheus text.

use std::fmt::Write;

use platform_gateway_api::admin::Status;
use platform_gateway_api::{LATENCY_BOUNDS_MICROS, Tallies};

/// Writes everything that is counted.
///
/// Source: the text exposition format, version 0.0.4.
pub(crate) fn render(
    tallies: &Tallies,
    status: &Status,
    lost_lines: u64,
    lost_spans: u64,
) -> String {
    let mut text = Text::default();
    versions(&mut text, tallies);
    services(&mut text, tallies);
    routes(&mut text, tallies);
    process(&mut text, status, lost_lines, lost_spans);
    text.0
}

fn versions(text: &mut Text, tallies: &Tallies) {
    text.family(
        "gateway_requests_total",
        "counter",
        "Finished requests by version and result.",
    );
    for (service, tally) in &tallies.services {
        for (version, counts) in &tally.versions {
            for (result, count) in [
                ("good", counts.good),
                ("bad", counts.bad - counts.unreachable.min(counts.bad)),
                ("unreachable", counts.unreachable),
                ("aborted", counts.aborted),
            ] {
                let labels = [
                    ("service", service.as_str()),
                    ("version", version),
                    ("result", result),
                ];
                text.sample("gateway_requests_total", &labels, count);
            }
        }
    }
    text.family(
        "gateway_slow_requests_total",
        "counter",
        "Answered later than the service's threshold.",
    );
    text.per_version(tallies, "gateway_slow_requests_total", |counts| counts.slow);
    text.family(
        "gateway_retries_total",
        "counter",
        "Attempts repeated inside a version.",
    );
    text.per_version(tallies, "gateway_retries_total", |counts| counts.retried);
    text.family(
        "gateway_requests_in_flight",
        "gauge",
        "Requests under way by version.",
    );
    text.per_version(tallies, "gateway_requests_in_flight", |counts| {
        counts.in_flight
    });
    text.family(
        "gateway_latency_seconds",
        "histogram",
        "Time to the head of the answer by version.",
    );
    for (service, tally) in &tallies.services {
        for (version, counts) in &tally.versions {
            let labels = [("service", service.as_str()), ("version", version)];
            text.histogram(
                "gateway_latency_seconds",
                &labels,
                &counts.latency,
                counts.latency_sum_micros,
            );
        }
    }
}

fn services(text: &mut Text, tallies: &Tallies) {
    text.family(
        "gateway_unserved_total",
        "counter",
        "Requests for which no endpoint was ready.",
    );
    text.family(
        "gateway_shed_total",
        "counter",
        "Requests refused by a limit or breaker.",
    );
    for (service, tally) in &tallies.services {
        let labels = [("service", service.as_str())];
        text.sample("gateway_unserved_total", &labels, tally.unserved);
        text.sample("gateway_shed_total", &labels, tally.shed);
    }
    text.family(
        "gateway_endpoint_attempts_total",
        "counter",
        "Attempts by endpoint and result.",
    );
    for (service, tally) in &tallies.services {
        for (endpoint, counts) in &tally.endpoints {
            for (result, count) in [("good", counts.good), ("bad", counts.bad)] {
                let labels = [
                    ("service", service.as_str()),
                    ("version", &counts.version),
                    ("endpoint", endpoint),
                    ("result", result),
                ];
                text.sample("gateway_endpoint_attempts_total", &labels, count);
            }
        }
    }
    text.family(
        "gateway_endpoint_serving",
        "gauge",
        "Whether an endpoint takes requests.",
    );
    for (service, tally) in &tallies.services {
        for (endpoint, counts) in &tally.endpoints {
            let labels = [
                ("service", service.as_str()),
                ("version", &counts.version),
                ("endpoint", endpoint),
            ];
            text.sample(
                "gateway_endpoint_serving",
                &labels,
                u64::from(counts.serving),
            );
        }
    }
}

fn routes(text: &mut Text, tallies: &Tallies) {
    text.family(
        "gateway_route_requests_total",
        "counter",
        "Requests by route, as clients saw the answers.",
    );
    for (route, counts) in &tallies.routes {
        for (result, count) in [
            ("good", counts.good),
            ("bad", counts.bad),
            ("aborted", counts.aborted),
        ] {
            let labels = [("route", route.as_str()), ("result", result)];
            text.sample("gateway_route_requests_total", &labels, count);
        }
    }
    text.family(
        "gateway_route_cached_total",
        "counter",
        "Requests answered with a kept answer, by route.",
    );
    for (route, counts) in &tallies.routes {
        let labels = [("route", route.as_str())];
        text.sample("gateway_route_cached_total", &labels, counts.cached);
    }
    text.family(
        "gateway_route_latency_seconds",
        "histogram",
        "Time to the head of the answer by route.",
    );
    for (route, counts) in &tallies.routes {
        let labels = [("route", route.as_str())];
        text.histogram(
            "gateway_route_latency_seconds",
            &labels,
            &counts.latency,
            counts.latency_sum_micros,
        );
    }
}

fn process(text: &mut Text, status: &Status, lost_lines: u64, lost_spans: u64) {
    for (name, kind, help, value) in [
        (
            "gateway_connections",
            "gauge",
            "Open client connections.",
            status.connections,
        ),
        (
            "gateway_config_revision",
            "gauge",
            "Revision of the configuration in force.",
            status.revision,
        ),
        (
            "gateway_config_unkept",
            "gauge",
            "Whether the configuration in force could not be written to disk.",
            u64::from(status.unkept),
        ),
        (
            "gateway_draining",
            "gauge",
            "Whether the process only finishes.",
            u64::from(status.draining),
        ),
        (
            "gateway_access_log_lost_total",
            "counter",
            "Log lines lost to a slow or full disk.",
            lost_lines,
        ),
        (
            "gateway_spans_lost_total",
            "counter",
            "Spans lost to a slow or absent collector.",
            lost_spans,
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        if labels.is_empty() {
            return;
        }
        self.0.push('{');
        for (index, (name, value)) in labels.iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{name}=\"{value}\"");
        }
        self.0.push('}');
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        self.labels(labels);
        let _ = writeln!(self.0, " {value}");
    }

    fn per_version(
        &mut self,
        tallies: &Tallies,
        name: &str,
        count: impl Fn(&platform_gateway_api::Tally) -> u64,
    ) {
        for (service, tally) in &tallies.services {
            for (version, counts) in &tally.versions {
                let labels = [("service", service.as_str()), ("version", version)];
                self.sample(name, &labels, count(counts));
            }
        }
    }

    /// Each second bound, to keep the number of series down.
    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], buckets: &[u64], sum_micros: u64) {
        let mut seen = 0;
        for (index, count) in buckets.iter().enumerate() {
            seen += count;
            if index % 2 == 1 {
                continue;
            }
            let Some(bound) = LATENCY_BOUNDS_MICROS.get(index) else {
                continue;
            };
            let bound = seconds(*bound);
            let mut all = labels.to_vec();
            all.push(("le", &bound));
            self.sample(&format!("{name}_bucket"), &all, seen);
        }
        let seen = buckets.iter().sum();
        let mut all = labels.to_vec();
        all.push(("le", "+Inf"));
        self.sample(&format!("{name}_bucket"), &all, seen);
        let _ = write!(self.0, "{name}_sum");
        self.labels(labels);
        let _ = writeln!(self.0, " {}", seconds(sum_micros));
        self.sample(&format!("{name}_count"), labels, seen);
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform_gateway_api::{ServiceTally, Tally};

    #[test]
    fn histograms_are_cumulative() {
        let mut tallies = Tallies::default();
        let mut latency = vec![0; 42];
        (latency[0], latency[1], latency[41]) = (2, 3, 1);
        let tally = Tally {
            good: 6,
            total: 6,
            latency,
            latency_sum_micros: 1_500_000,
            ..Tally::default()
        };
        let service = ServiceTally {
            versions: [("r5".to_string(), tally)].into(),
            ..ServiceTally::default()
        };
        tallies.services.insert("orders".into(), service);
        let text = render(&tallies, &Status::default(), 0, 0);
        for line in [
            r#"gateway_requests_total{service="orders",version="r5",result="good"} 6"#,
            r#"gateway_latency_seconds_bucket{service="orders",version="r5",le="0.000100"} 2"#,
            r#"gateway_latency_seconds_bucket{service="orders",version="r5",le="0.000200"} 5"#,
            r#"gateway_latency_seconds_bucket{service="orders",version="r5",le="+Inf"} 6"#,
            r#"gateway_latency_seconds_sum{service="orders",version="r5"} 1.500000"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
