//! What every service can be told through its environment.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Faults;
use crate::secured::Certificates;
use crate::variables::{ByteSize, Variables};

/// Who a program is, as it knows at compile time.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The program's name, such as `orders`.
    pub name: &'static str,
    /// The program's own version, from its manifest.
    pub version: &'static str,
}

/// Who an instance is, as its platform told it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Service name from `PLATFORM_SERVICE`, else the program's name.
    pub service: String,
    /// The program's own version.
    pub version: &'static str,
    /// Release from `PLATFORM_RELEASE`, such as `r5`.
    pub release: Option<String>,
    /// Instance from `PLATFORM_INSTANCE`.
    pub instance: Option<String>,
    /// Environment from `PLATFORM_ENVIRONMENT`.
    pub environment: Option<String>,
    /// Project from `PLATFORM_PROJECT`.
    pub project: Option<String>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Words for a person at a terminal.
    Text,
}

/// The settings of the chassis, the same for each service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who this instance is.
    pub identity: Identity,
    /// Address to listen on (`HOST`, default 127.0.0.1).
    pub host: IpAddr,
    /// Port to listen on (`PORT`); 0 takes a free one and logs it.
    pub port: u16,
    /// Certificates (`TLS_CERTIFICATE_FILE`, `TLS_KEY_FILE`, `TLS_CLIENT_CA_FILE`); with them it speaks TLS, and only with
    /// clients that show one.
    pub certificates: Option<Certificates>,
    /// Threads that run requests (`WORKERS`, default 2); 1 runs everything on the main thread.
    pub workers: usize,
    /// Log filter (`LOG`, default `info`), such as `info,orders=debug`.
    pub log: String,
    /// Log format (`LOG_FORMAT`: `json`, the default, or `text`).
    pub log_format: LogFormat,
    /// Largest request body (`MAX_BODY`, default `1MiB`).
    pub max_body: ByteSize,
    /// Longest time for one request (`REQUEST_TIMEOUT`, default `10s`).
    pub request_timeout: Duration,
    /// Longest time for the head of a request to arrive (`HEADER_TIMEOUT`, default `10s`).
    pub header_timeout: Duration,
    /// Most connections held at once (`MAX_CONNECTIONS`, default 10000).
    pub max_connections: usize,
    /// How long to go on accepting, no longer ready, after a stop signal (`DRAIN_DELAY`, default
    /// `PLATFORM_DRAIN_DELAY`, which says whether who stops it has sent its clients elsewhere before, and else `300ms`).
    pub drain_delay: Duration,
    /// How long requests in flight may take after that (`SHUTDOWN_DEADLINE`, default `25s`).
    pub shutdown_deadline: Duration,
    /// What goes wrong on purpose (`<PROGRAM>_FAULT`, such as `ORDERS_FAULT`), for drills and demonstrations.
    pub faults: Option<Faults>,
    /// Where traces are exported to (`OTEL_EXPORTER_OTLP_ENDPOINT`), over OTLP/HTTP.
    pub otlp_endpoint: Option<String>,
}

impl Settings {
    /// Reads the settings of the chassis.
    pub fn read(about: About, variables: &mut Variables) -> Option<Self> {
        let port = variables.required("PORT", "the port to listen on, or 0 for a free one");
        let log_format = match variables.optional::<String>("LOG_FORMAT").as_deref() {
            None | Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            Some(other) => {
                variables.problem("LOG_FORMAT", format!("`{other}` is not `json` or `text`"));
                LogFormat::Json
            }
        };
        let log = variables.or("LOG", "info".to_owned());
        if let Err(error) = log.parse::<tracing_subscriber::filter::Targets>() {
            variables.problem("LOG", format!("`{log}` is not a log filter: {error}"));
        }
        let workers = variables.or("WORKERS", 2);
        if workers == 0 {
            variables.problem("WORKERS", "must be at least 1");
        }
        let otlp_endpoint = variables.optional::<String>("OTEL_EXPORTER_OTLP_ENDPOINT");
        if let Some(endpoint) = &otlp_endpoint
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            variables.problem(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("`{endpoint}` is not an http or https address"),
            );
        }
        let certificates = certificates(variables);
        let drain_delay = variables.or("PLATFORM_DRAIN_DELAY", Duration::from_millis(300));
        let settings = Self {
            identity: Identity {
                service: variables.or("PLATFORM_SERVICE", about.name.to_owned()),
                version: about.version,
                release: variables.optional("PLATFORM_RELEASE"),
                instance: variables.optional("PLATFORM_INSTANCE"),
                environment: variables.optional("PLATFORM_ENVIRONMENT"),
                project: variables.optional("PLATFORM_PROJECT"),
            },
            host: variables.or("HOST", IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: port.unwrap_or_default(),
            certificates,
            workers,
            log,
            log_format,
            max_body: variables.or("MAX_BODY", ByteSize(1 << 20)),
            request_timeout: variables.or("REQUEST_TIMEOUT", Duration::from_secs(10)),
            header_timeout: variables.or("HEADER_TIMEOUT", Duration::from_secs(10)),
            max_connections: variables.or("MAX_CONNECTIONS", 10_000),
            drain_delay: variables.or("DRAIN_DELAY", drain_delay),
            shutdown_deadline: variables.or("SHUTDOWN_DEADLINE", Duration::from_secs(25)),
            faults: variables.optional(&format!("{}_FAULT", about.name.to_uppercase())),
            otlp_endpoint,
        };
        port.map(|_| settings)
    }
}

/// Certificate and key, or none; with the authorities of clients only who shows a certificate is answered.
fn certificates(variables: &mut Variables) -> Option<Certificates> {
    let names = ["TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"];
    let given = names.map(|name| (name, variables.optional::<PathBuf>(name)));
    if given.iter().any(|(_, path)| path.is_some()) {
        for (name, path) in &given[..2] {
            if path.is_none() {
                variables.problem(name, format!("not set; {} go together", names.join(", ")));
            }
        }
    }
    let [certificate, key, client_ca] = given.map(|(_, path)| path);
    Some(Certificates {
        certificate: certificate?,
        key: key?,
        client_ca,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About {
        name: "orders",
        version: "1.0.0",
    };

    #[test]
    fn a_port_is_enough() {
        let mut variables = Variables::new([("PORT", "8080")]);
        let settings = Settings::read(ABOUT, &mut variables);
        let settings = variables.finish(settings).unwrap();
        assert_eq!(settings.host.to_string(), "127.0.0.1");
        assert_eq!(settings.identity.service, "orders");
    }

    #[test]
    fn who_stops_it_may_say_that_no_delay_is_needed() {
        let check = |given: &[(&str, &str)], expected: u64| {
            let port = [("PORT", "8080")];
            let mut variables = Variables::new(port.iter().chain(given).copied());
            let settings = Settings::read(ABOUT, &mut variables);
            let settings = variables.finish(settings).unwrap();
            assert_eq!(settings.drain_delay, Duration::from_millis(expected));
        };
        check(&[], 300);
        check(&[("PLATFORM_DRAIN_DELAY", "0s")], 0);
        let both = [("PLATFORM_DRAIN_DELAY", "0s"), ("DRAIN_DELAY", "2s")];
        check(&both, 2000);
    }

    #[test]
    fn wrong_values_are_all_told() {
        let mut variables = Variables::new([
            ("LOG", "orders=loud"),
            ("LOG_FORMAT", "xml"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("WORKERS", "0"),
            ("TLS_KEY_FILE", "/run/key"),
        ]);
        let settings = Settings::read(ABOUT, &mut variables);
        let error = variables.finish(settings).unwrap_err().to_string();
        assert!(error.starts_with("6 problems"), "{error}");
    }
}
