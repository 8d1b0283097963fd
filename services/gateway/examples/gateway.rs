//! The gateway as a program of its own, for tests, suites and measurements.
//!
//! `gateway CONFIG [STATE]`; with a state folder it has an admin socket and hands over in it.

use std::path::PathBuf;

use platform_gateway::{LogTarget, Options, run};

#[tokio::main]
async fn main() -> Result<(), platform_gateway::Error> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let config = arguments.next();
    let state = arguments.next();
    let inside = |name: &str| state.as_ref().map(|state| state.join(name));
    run(Options {
        config: config.filter(|path| path.exists()),
        admin: inside("admin.sock"),
        handover: inside("handover.sock"),
        access_log: inside("access.log").map_or(LogTarget::None, LogTarget::File),
        state: inside("state"),
        ..Options::default()
    })
    .await
}
