//! The chassis each reference service stands on: configuration, health, telemetry, limits, graceful shutdown, and a
//! resilient client.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use platform_kit::{About, run};
//!
//! const ABOUT: About = About { name: "hello", version: env!("CARGO_PKG_VERSION") };
//!
//! fn main() -> std::process::ExitCode {
//!     run(ABOUT, |_| Some(()), async |(), chassis| {
//!         chassis.serve(Router::new().route("/", get(async || "hello"))).await
//!     })
//! }
//! ```

mod chassis;
pub mod client;
mod connection;
mod endpoints;
mod export;
pub mod extract;
mod fault;
pub mod health;
mod limits;
mod listener;
mod log;
mod measure;
pub mod problem;
pub mod quantity;
pub mod request;
mod secret;
mod secured;
mod settings;
pub mod trace_context;
mod variables;

pub use chassis::{Chassis, ServiceError, run};
pub use export::ExportError;
pub use fault::Faults;
pub use problem::Problem;
pub use secret::Secret;
pub use secured::Certificates;
pub use settings::{About, Identity, LogFormat, Settings};
pub use variables::{ByteSize, ConfigurationError, Setting, Variables};
