//! Reference service: takes orders and keeps them in SQLite or PostgreSQL.

mod api;
mod currency;
mod cursor;
mod order;
mod precondition;
mod settings;
mod store;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use platform_kit::{About, Chassis, ServiceError, run};

use crate::settings::Settings;
use crate::store::Store;

const ABOUT: About = About {
    name: "orders",
    version: env!("CARGO_PKG_VERSION"),
};

/// How often old idempotency keys are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--openapi") {
        let document = api::openapi();
        return match writeln!(std::io::stdout(), "{document}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    run(ABOUT, Settings::read, start)
}

async fn start(settings: Settings, mut chassis: Chassis) -> Result<(), ServiceError> {
    let store = Store::open(&settings.database, settings.connections).map_err(boxed)?;
    let store = Arc::new(store);
    let checked = store.clone();
    chassis.require("database", move || {
        let store = checked.clone();
        async move { store.check().await.map_err(|error| told(&error)) }
    });
    chassis.openapi(&api::openapi());
    let sweeper = store.clone();
    chassis.background("sweep", async move {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = sweeper.sweep(settings.idempotency_keep).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot sweep");
            }
        }
    });
    let preparing = store.clone();
    let served = chassis.serve(api::routes(store.clone()));
    let result = tokio::select! {
        result = served => result,
        error = async {
            match preparing.prepare().await {
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        } => Err(boxed(error)),
    };
    store.close().await;
    result
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    ServiceError::Service(Box::new(error))
}

/// Puts an error and its causes into one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
