//! Reference service: a small storefront.

use std::process::ExitCode;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use platform_kit::{About, run};

const ABOUT: About = About {
    name: "web",
    version: env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    run(
        ABOUT,
        |_| Some(()),
        async |(), chassis| {
            let page = get(async || Html("<!doctype html><title>Shop</title><h1>Shop</h1>"));
            chassis.serve(Router::new().route("/", page)).await
        },
    )
}
