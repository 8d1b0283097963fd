use std::path::PathBuf;

use platform_blueprint::Period;
use platform_gateway::{LogTarget, Options};

use crate::error::CliError;
use crate::exit::Exit;
use crate::world::World;

/// Run the gateway by itself, in front of anything
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// File with the configuration, TOML or JSON by its name; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder where the last configuration is kept, and found at start
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Unix socket of the admin protocol
    #[arg(long, value_name = "SOCKET")]
    admin: Option<PathBuf>,
    /// Unix socket over which a successor takes the listening sockets
    #[arg(long, value_name = "SOCKET")]
    handover: Option<PathBuf>,
    /// Where the access log goes: none, stdout, stderr or a file
    #[arg(long, value_name = "WHERE", default_value = "none")]
    access_log: String,
    /// How long requests under way may take to finish at the end
    #[arg(long, value_name = "TIME", default_value = "30s")]
    drain: Period,
}

pub(crate) fn run(args: &GatewayArgs, world: &World) -> Result<Exit, CliError> {
    // Nothing else of ours speaks TLS without being asked to, so the provider is chosen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if world.globals.verbose == 0 {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_writer(std::io::stderr)
            .with_ansi(world.globals.color.for_stderr().colours())
            .with_target(false)
            .try_init();
    }
    let access_log = match args.access_log.as_str() {
        "none" => LogTarget::None,
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        file => LogTarget::File(PathBuf::from(file)),
    };
    let options = Options {
        state: args.state.clone(),
        admin: args.admin.clone(),
        handover: args.handover.clone(),
        config: args.config.clone(),
        access_log,
        drain_deadline: args.drain.duration(),
    };
    // The gateway has its own way of stopping, so it gets a runtime without ours.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            CliError::new("system::no-runtime", "cannot start threads").because(&error)
        })?;
    runtime
        .block_on(platform_gateway::run(options))
        .map_err(|error| {
            crate::diagnostic::Diagnostic::error("gateway::not-started", error.to_string())
                .behind(&error)
        })?;
    Ok(Exit::Done)
}
