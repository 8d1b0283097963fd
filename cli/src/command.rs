//! The verbs: one file each. A new one is a `mod` line, a variant with its help's place, and a line in `run`.

mod build;
mod completions;
mod deploy;
mod destroy;
mod doctor;
mod drift;
mod exec;
mod explain;
mod export;
mod fmt;
mod gateway;
mod import;
mod init;
mod logs;
mod new;
mod plan;
mod port_forward;
mod releases;
mod rollback;
mod rollout;
mod runs;
mod schema;
mod secrets;
mod status;
mod stop;
mod unlock;
mod validate;
mod version;
mod wait;

use clap::Subcommand;

use crate::error::CliError;
use crate::exit::Exit;
use crate::world::World;

/// What to do. The help of each is the first line of its arguments' documentation.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    New(new::NewArgs),
    Validate(validate::ValidateArgs),
    Fmt(fmt::FmtArgs),
    Schema(schema::SchemaArgs),
    Build(build::BuildArgs),
    Plan(plan::PlanArgs),
    Deploy(deploy::DeployArgs),
    Rollback(rollback::RollbackArgs),
    Rollout(rollout::RolloutArgs),
    Stop(stop::StopArgs),
    Destroy(destroy::DestroyArgs),
    Status(status::StatusArgs),
    Wait(wait::WaitArgs),
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    PortForward(port_forward::PortForwardArgs),
    Releases(releases::ReleasesArgs),
    Runs(runs::RunsArgs),
    Drift(drift::DriftArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Secrets(secrets::SecretsArgs),
    Unlock(unlock::UnlockArgs),
    Doctor(doctor::DoctorArgs),
    Gateway(gateway::GatewayArgs),
    Explain(explain::ExplainArgs),
    Completions(completions::CompletionsArgs),
    Version(version::VersionArgs),
}

impl Command {
    /// Carries the command out. A runtime is made only for those that need one.
    pub(crate) fn run(&self, world: &World) -> Result<Exit, CliError> {
        match self {
            Self::Init(args) => init::run(args, world),
            Self::New(args) => new::run(args, world),
            Self::Build(args) => world.block_on(build::run(args, world)),
            Self::Validate(args) => validate::run(args, world),
            Self::Fmt(args) => fmt::run(args, world),
            Self::Schema(args) => schema::run(args, world),
            Self::Plan(args) => world.look(plan::run(args, world)),
            Self::Deploy(args) => world.block_on(deploy::run(args, world)),
            Self::Rollback(args) => world.block_on(rollback::run(args, world)),
            Self::Rollout(args) => world.block_on(rollout::run(args, world)),
            Self::Stop(args) => world.block_on(stop::run(args, world)),
            Self::Destroy(args) => world.block_on(destroy::run(args, world)),
            Self::Status(args) => world.look(status::run(args, world)),
            Self::Wait(args) => world.look(wait::run(args, world)),
            Self::Logs(args) => world.look(logs::run(args, world)),
            Self::Exec(args) => world.block_on(exec::run(args, world)),
            Self::PortForward(args) => world.look(port_forward::run(args, world)),
            Self::Releases(args) => world.look(releases::run(args, world)),
            Self::Runs(args) => world.look(runs::run(args, world)),
            Self::Drift(args) => world.look(drift::run(args, world)),
            Self::Export(args) => world.look(export::run(args, world)),
            Self::Import(args) => import::run(args, world),
            Self::Secrets(args) => secrets::run(args, world),
            Self::Unlock(args) => world.look(unlock::run(args, world)),
            Self::Doctor(args) => world.look(doctor::run(args, world)),
            Self::Gateway(args) => gateway::run(args, world),
            Self::Explain(args) => explain::run(args, world),
            Self::Completions(args) => completions::run(args, world),
            Self::Version(args) => version::run(args, world),
        }
    }
}
