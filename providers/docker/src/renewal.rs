//! A newer gateway in place of the one that runs, without a gap.

use std::time::Duration;

use bollard::query_parameters::KillContainerOptions;
use platform_port::TargetError;
use tokio::time::Instant;

use crate::engine::fault;
use crate::gateway::{ANSWER_WITHIN, PROGRAMS};
use crate::inside::{Answer, CURRENT, GatewayAsk};
use crate::keeper::{Reach, unexpected};
use crate::program::USER;
use crate::site::Site;

/// The document that says which build a gateway's container runs by now.
const RENEWED: &str = "docker/gateway-program";
const LOOK: Duration = Duration::from_millis(30);
/// How long a gateway that was replaced is waited for.
const ALONE_WITHIN: Duration = Duration::from_secs(10);

/// A container and the build that took over in it.
type Renewed = Option<(String, String)>;

impl Site {
    /// The build that took over in a container, if one did.
    pub(crate) async fn renewed(&self, container: &str) -> Result<Option<String>, TargetError> {
        let (noted, _) = self.document::<Renewed>(RENEWED, Reach::Make).await?;
        Ok(noted
            .filter(|(id, _)| id == container)
            .map(|(_, build)| build))
    }

    /// Has this build's program take over in the gateway's container.
    pub(crate) async fn renew(&self, id: &str) -> Result<(), TargetError> {
        let action = "have a newer gateway take over";
        let before = match self.gateway(GatewayAsk::Status, Reach::Make).await? {
            Some(Answer::Status(status)) => status.epoch,
            other => return Err(unexpected(action, other)),
        };
        let program = self.program()?;
        program.upload(&self.engine, id, PROGRAMS).await?;
        let command = program.command(&format!("{PROGRAMS}/{}", program.build));
        let words = serde_json::to_vec(&command).unwrap_or_default();
        let current = (CURRENT.to_owned(), 0o644, USER, words);
        self.upload(id, PROGRAMS, &[current]).await?;
        let options = KillContainerOptions {
            signal: "SIGHUP".to_owned(),
        };
        let told = self.engine.docker.kill_container(id, Some(options)).await;
        told.map_err(|error| fault(action, error))?;
        let begun = Instant::now();
        loop {
            let answer = self.gateway(GatewayAsk::Status, Reach::Make).await?;
            match answer {
                Some(Answer::Status(status)) if status.epoch != before => break,
                other if begun.elapsed() > ANSWER_WITHIN => return Err(unexpected(action, other)),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        let noted: Renewed = Some((id.to_owned(), program.build.clone()));
        self.change(RENEWED, |renewed: &mut Renewed| renewed.clone_from(&noted))
            .await?;
        self.alone(id).await;
        Ok(())
    }

    /// Waits until the gateway before has answered what it took and ended, or for a while: it knows the instances of its time
    /// alone, so these are needed until then.
    async fn alone(&self, id: &str) {
        let begun = Instant::now();
        while begun.elapsed() < ALONE_WITHIN {
            let processes = self.engine.docker.top_processes(id, None).await;
            // Without `ps` on the engine's machine nobody tells.
            let rows = processes.ok().and_then(|seen| seen.processes);
            let gateways = rows.map(|rows| rows.iter().filter(|row| is_gateway(row)).count());
            if gateways.is_none_or(|gateways| gateways < 2) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a row of `ps` is a gateway, and not what keeps one running.
fn is_gateway(row: &[String]) -> bool {
    let command = row.last().map_or("", String::as_str);
    command.contains(" gateway --") && !command.contains(" inside front ")
}
