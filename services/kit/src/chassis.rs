//! The life of a service: start, serve, drain, end.

use std::io;
use std::io::Write as _;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use futures::FutureExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::endpoints::{self, HealthState};
use crate::export::{ExportError, Exporter};
use crate::fault::{Injector, inject};
use crate::health::{Health, Phase};
use crate::listener::{self, Ending, Limits};
use crate::request::{Observer, observe};
use crate::secured::Secured;
use crate::settings::{About, Identity, Settings};
use crate::variables::Variables;
use crate::{limits, log, measure};

/// Exit code when the configuration is not usable (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIGURATION: u8 = 78;

/// A service could not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The certificates could not be used.
    #[error("cannot speak TLS: {0}")]
    Certificates(String),
    /// Stop signals could not be received.
    #[error("cannot receive stop signals")]
    Signals(#[source] io::Error),
    /// Traces could not be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Requests were still running at the shutdown deadline.
    #[error("cut off {connections} connections at the shutdown deadline")]
    CutOff {
        /// Connections open when the listener closed.
        connections: usize,
    },
    /// The service itself failed.
    #[error(transparent)]
    Service(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// What a service stands on while it runs.
#[derive(Debug)]
pub struct Chassis {
    settings: Settings,
    health: Arc<Health>,
    openapi: Option<Arc<str>>,
}

/// Runs a service from its environment to its end; call it from `main` and return what it returns.
///
/// - `read`: reads the service's own settings; reading everything before giving up tells every problem at once
/// - `start`: builds the service and calls [`Chassis::serve`]
pub fn run<S, F>(
    about: About,
    read: impl FnOnce(&mut Variables) -> Option<S>,
    start: impl FnOnce(S, Chassis) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), ServiceError>>,
{
    let mut variables = Variables::of_process();
    let chassis = Settings::read(about, &mut variables);
    let own = read(&mut variables);
    let (settings, own) = match variables.finish(chassis.zip(own)) {
        Ok(both) => both,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", about.name);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if let Some(code) = settings.faults.as_ref().and_then(|faults| faults.exit) {
        let _ = writeln!(io::stderr(), "{}: fault: ending with {code}", about.name);
        return ExitCode::from(code);
    }
    let mut builder = if settings.workers == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(settings.workers)
        .max_blocking_threads(16)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(live(settings, own, start)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: cannot start: {error}", about.name);
            return ExitCode::FAILURE;
        }
    };
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn live<S, F>(
    settings: Settings,
    own: S,
    start: impl FnOnce(S, Chassis) -> F,
) -> Result<(), ServiceError>
where
    F: Future<Output = Result<(), ServiceError>>,
{
    let (layer, flush) = log::start(settings.log_format, &settings.identity);
    let filter: Targets = settings.log.parse().unwrap_or_default();
    let (exporter, tracer) = match Exporter::start(&settings) {
        Ok(started) => started.unzip(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot export traces: {error}");
            (None, None)
        }
    };
    let spans = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_filter(Targets::new().with_default(tracing::Level::INFO))
    });
    // A second service in one process, as in tests, keeps the first one's log.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(spans)
        .try_init();
    measure::install(&settings.identity);
    log_panics(flush.clone());
    let health = Arc::new(Health::default());
    let chassis = Chassis {
        settings,
        health,
        openapi: None,
    };
    let result = start(own, chassis).await;
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(error = error as &dyn std::error::Error, "failed"),
    }
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    flush.wait();
    result
}

/// Puts panics into the log, whichever thread they happen on.
fn log_panics(flush: log::Flush) {
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("panicked");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(target: "panic", place, "{message}");
        flush.wait();
    }));
}

impl Chassis {
    /// Returns who this instance is.
    pub fn identity(&self) -> &Identity {
        &self.settings.identity
    }

    /// Returns the health, to register checks and to see the phase.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Registers something the instance is not ready without, such as its database.
    pub fn require<F, C>(&self, name: &'static str, check: F)
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.health.register(name, true, check);
    }

    /// Registers something that is reported and without which the instance still serves.
    pub fn report<F, C>(&self, name: &'static str, check: F)
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.health.register(name, false, check);
    }

    /// Runs a task beside the requests. If it panics, the instance is neither ready nor live any more.
    pub fn background(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let health = self.health.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                health.mark_dead(format!("the task `{name}` panicked"));
            }
        });
    }

    /// Serves this document at `/openapi.json`.
    pub fn openapi(&mut self, document: &str) {
        self.openapi = Some(document.into());
    }

    /// Adds to `routes` what every service has, as it is served; for tests without a listener too.
    pub fn router(&self, routes: Router) -> Router {
        let mut routes = routes;
        if let Some(faults) = self.settings.faults.clone() {
            let injector = Injector::new(faults);
            if injector.floods() {
                tokio::spawn(injector.clone().flood());
            }
            let patience = Arc::clone(&injector);
            self.require("patience", move || {
                let enough = patience.has_had_enough();
                async move {
                    if enough {
                        return Err("unready on purpose".to_owned());
                    }
                    Ok(())
                }
            });
            routes = routes.layer(from_fn_with_state(injector, inject));
        }
        let observer = Observer::new(&self.settings.identity, self.health.clone());
        let limit = usize::try_from(self.settings.max_body.0).unwrap_or(usize::MAX);
        let mut app = routes
            .route(
                "/health/live",
                get(endpoints::live).with_state(self.state()),
            )
            .route(
                "/health/ready",
                get(endpoints::ready).with_state(self.state()),
            )
            .route("/metrics", get(endpoints::metrics));
        if let Some(document) = self.openapi.clone() {
            let serve = move || async move {
                let kind = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
                ([kind], document.to_string())
            };
            app = app.route("/openapi.json", get(serve));
        }
        app.fallback(limits::no_route)
            .layer(DefaultBodyLimit::disable())
            .layer(RequestBodyLimitLayer::new(limit))
            .layer(CatchPanicLayer::custom(limits::panicked))
            .layer(from_fn_with_state(
                self.settings.request_timeout,
                limits::time_limit,
            ))
            .layer(from_fn(limits::explain))
            .layer(from_fn_with_state(observer, observe))
    }

    /// Serves `routes` until SIGTERM or SIGINT, then drains: unready but accepting for the drain delay, then finishing what
    /// was accepted until the deadline. A second signal skips the delay.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when it cannot listen, or had to cut requests off.
    pub async fn serve(self, routes: Router) -> Result<(), ServiceError> {
        let settings = &self.settings;
        let faults = settings.faults.clone().unwrap_or_default();
        if settings.faults.is_some() {
            tracing::warn!(
                ?faults,
                "FAULTS ARE ON: this instance misbehaves on purpose"
            );
        }
        if faults.unready {
            self.require("fault", async || Err("unready on purpose".to_owned()));
        }
        let port = settings.port.saturating_add(u16::from(faults.wrong_port));
        let address = SocketAddr::new(settings.host, port);
        // Signals first: from the moment the port answers, a stop must be graceful.
        let mut stop = StopSignals::new().map_err(ServiceError::Signals)?;
        let secured = settings.certificates.as_ref().map(Secured::open);
        let secured = secured.transpose().map_err(ServiceError::Certificates)?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServiceError::Listen { address, source })?;
        let address = listener.local_addr().unwrap_or(address);
        let app = self.router(routes);
        let identity = &settings.identity;
        let tls = secured.is_some();
        tracing::info!(%address, tls, version = identity.version, "listening");
        tokio::spawn(measure::keep_up());
        let health = self.health.clone();
        let delay = settings.drain_delay;
        tokio::spawn(async move {
            let signal = loop {
                let signal = stop.next().await;
                if !faults.ignore_stop {
                    break signal;
                }
                tracing::warn!(signal, "fault: not stopping");
            };
            tracing::info!(signal, "draining");
            health.enter(Phase::Draining);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = stop.next() => {}
            }
            health.enter(Phase::Closing);
        });
        let limits = Limits {
            header_timeout: settings.header_timeout,
            max_connections: settings.max_connections,
            shutdown_deadline: settings.shutdown_deadline,
        };
        match listener::serve(listener, secured, app, self.health.clone(), limits).await {
            Ending::Complete => Ok(()),
            Ending::CutOff(connections) => Err(ServiceError::CutOff { connections }),
        }
    }

    fn state(&self) -> Arc<HealthState> {
        Arc::new(HealthState {
            health: self.health.clone(),
            identity: self.settings.identity.clone(),
        })
    }
}

#[derive(Debug)]
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests;
