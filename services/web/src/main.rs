//! Reference service: a small storefront that lists and places orders.

mod assets;
mod catalogue;
mod page;

use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};
use platform_kit::client::{Call, Client, ClientPolicy};
use platform_kit::{About, Chassis, ServiceError, Variables, run};
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::assets::Assets;
use crate::page::Page;

const ABOUT: About = About {
    name: "web",
    version: env!("CARGO_PKG_VERSION"),
};

/// The settings of the storefront.
#[derive(Debug)]
struct Settings {
    /// Where the orders service is reached (`ORDERS_URL`); without it the browser fetches the first orders itself.
    orders: Option<String>,
}

impl Settings {
    fn read(variables: &mut Variables) -> Self {
        let orders = variables.optional::<String>("ORDERS_URL");
        if let Some(url) = &orders
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            variables.problem("ORDERS_URL", "is not an http or https address");
        }
        Self { orders }
    }
}

fn main() -> ExitCode {
    run(ABOUT, |variables| Some(Settings::read(variables)), start)
}

async fn start(settings: Settings, chassis: Chassis) -> Result<(), ServiceError> {
    let client = |policy: ClientPolicy| {
        settings
            .orders
            .as_ref()
            .map(|base| Client::new("orders", base, policy))
            .transpose()
            .map_err(|error| ServiceError::Service(Box::new(error)))
    };
    let orders = client(Page::patience())?;
    // Its own client, so that probes neither trip nor heal the page's breaker.
    if let Some(probe) = client(ClientPolicy {
        attempts: 1,
        ..ClientPolicy::default()
    })? {
        chassis.report("orders", move || probe_orders(probe.clone()));
    }
    let identity = chassis.identity();
    let release = identity.release.as_deref().unwrap_or("a local build");
    let release = match &identity.release {
        Some(release) => format!("{}@{release}", identity.service),
        None => release.to_owned(),
    };
    // Made once and kept for as long as the program runs.
    let assets: &'static Assets = Box::leak(Box::new(Assets::load()));
    let page: &'static Page = Box::leak(Box::new(Page::new(assets, &release, orders)));
    let routes = Router::new()
        .route("/", get(page::page).with_state(page))
        .route("/assets/{name}", get(assets::asset).with_state(assets))
        .layer(CompressionLayer::new())
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "same-origin"));
    chassis.serve(routes).await
}

fn header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

/// The page works without orders, so they are reported and not required.
async fn probe_orders(client: Client) -> Result<(), String> {
    match client.send(Call::get("/health/ready")).await {
        Ok(reply) if reply.status.is_success() => Ok(()),
        Ok(reply) => Err(format!("answered {}", reply.status)),
        Err(error) => Err(error.to_string()),
    }
}
