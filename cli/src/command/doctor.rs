mod machine;
mod report;

use std::path::Path;
use std::time::Duration;

use platform_blueprint::Resolved;
use platform_decide::desired::{secrets_of_gateway, secrets_of_rollouts};
use platform_drive::{releases, rollout};
use platform_image::Registry;
use platform_port::Severity;

use self::machine::{identity, machine, space, toolchain};
use self::report::{Check, Report};
use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::exit::Exit;
use crate::images;
use crate::view::{Case, Verdict};
use crate::world::World;

/// Check this machine, the project and the target for what would get in the way
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {}

pub(crate) async fn run(_: &DoctorArgs, world: &World) -> Result<Exit, CliError> {
    let mut report = Report(Vec::new());
    machine(&mut report);
    identity(&mut report);
    match world.resolved() {
        Ok(resolved) => {
            let project = world.project()?;
            report.well(
                "blueprint",
                format!(
                    "{}, environment {}",
                    project.shown, resolved.environment.name
                ),
            );
            toolchain(&mut report, resolved);
            space(&mut report, &project.folder);
            state(&mut report, &project.folder);
            secrets(&mut report, world, resolved);
            registries(&mut report, resolved).await;
            on_target(&mut report, world).await;
        }
        Err(error) => {
            space(&mut report, &world.here);
            for diagnostic in error.diagnostics() {
                report.found(
                    "blueprint",
                    Severity::Error,
                    &diagnostic.code,
                    diagnostic.message.clone(),
                    diagnostic
                        .help
                        .as_deref()
                        .unwrap_or("run `platform validate`"),
                );
            }
        }
    }
    for check in &report.0 {
        let verdict = match &check.finding {
            Some(finding) if finding.severity == Severity::Error => {
                Verdict::Failed(finding.message.clone())
            }
            _ => Verdict::Passed,
        };
        world.view.case(Case {
            suite: "doctor".to_owned(),
            name: check.name.clone(),
            verdict,
        });
    }
    world.view.show(&report);
    let failed = report.worst() == Some(Severity::Error);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// Whether what `platform` keeps in the project can be written.
fn state(report: &mut Report, folder: &Path) {
    let kept = folder.join(".platform");
    let probe = if kept.is_dir() { &kept } else { folder };
    match tempfile::tempfile_in(probe) {
        Ok(_) => report.well("state", format!("`{}` can be written", probe.display())),
        Err(error) => report.found(
            "state",
            Severity::Error,
            "doctor::state-read-only",
            format!("`{}` cannot be written: {error}", probe.display()),
            "give your user the right to write there",
        ),
    }
}

fn secrets(report: &mut Report, world: &World, resolved: &Resolved) {
    let asked: std::collections::BTreeSet<_> = resolved
        .services
        .values()
        .flat_map(|service| service.env.values())
        .filter_map(|value| value.secret())
        .map(|reference| reference.secret.clone())
        .chain(secrets_of_gateway(resolved).into_iter().cloned())
        .chain(secrets_of_rollouts(resolved).into_iter().cloned())
        .collect();
    let set = match world.secrets().and_then(|file| Ok(file.versions()?)) {
        Ok(set) => set,
        Err(error) => {
            for diagnostic in error.diagnostics() {
                let help = diagnostic
                    .help
                    .as_deref()
                    .unwrap_or("see `platform explain`");
                report.found(
                    "secrets",
                    Severity::Error,
                    &diagnostic.code,
                    diagnostic.message.clone(),
                    help,
                );
            }
            return;
        }
    };
    let unset: Vec<String> = asked
        .iter()
        .filter(|name| !set.contains_key(*name))
        .map(|name| format!("`{name}`"))
        .collect();
    if unset.is_empty() {
        report.well(
            "secrets",
            format!("{} of {} asked for are set", asked.len(), asked.len()),
        );
    } else {
        let message = format!("{} not set", unset.join(", "));
        let help = "run `platform secrets set NAME`";
        report.found(
            "secrets",
            Severity::Error,
            "secrets::not-set",
            message,
            help,
        );
    }
}

/// Whether the registries that images come from answer, with what Docker's configuration knows of them.
async fn registries(report: &mut Report, resolved: &Resolved) {
    const PATIENCE: Duration = Duration::from_secs(15);
    let asked = images::registries(resolved)
        .into_iter()
        .map(async |(host, image)| {
            let answer = async {
                let registry = Registry::of(&image).await?;
                registry.answers(&image).await
            };
            let answer = match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    let said = std::error::Error::source(&error);
                    let said = said.map(|said| format!(": {said}"));
                    Err(format!("{error}{}", said.unwrap_or_default()))
                }
                Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
            };
            (host, answer)
        });
    for (host, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(()) => report.well("registry", format!("`{host}` answers")),
            Err(why) => report.found(
                "registry",
                Severity::Warning,
                "doctor::no-registry",
                format!("`{host}`: {why}"),
                "an image that is on the engine already is not pulled; for others check the network, and `docker login`",
            ),
        }
    }
}

async fn on_target(report: &mut Report, world: &World) {
    let target = match world.target() {
        Ok(target) => target,
        Err(error) => {
            for diagnostic in error.diagnostics() {
                target_diagnostic(report, diagnostic);
            }
            return;
        }
    };
    let info = target.info();
    report.well("target", format!("{} at {}", info.provider, info.place));
    for finding in target.doctor().await {
        report.0.push(Check {
            name: finding
                .subject
                .clone()
                .unwrap_or_else(|| info.provider.clone()),
            seen: finding.message.clone(),
            finding: Some(finding),
        });
    }
    match releases::all(target.store()).await {
        Ok(all) => report.well("releases", format!("{} recorded", all.len())),
        Err(error) => {
            for diagnostic in CliError::from(error).diagnostics() {
                target_diagnostic(report, diagnostic);
            }
        }
    }
    for error in rollout::damaged(target.store(), None)
        .await
        .unwrap_or_else(|error| vec![error])
    {
        for diagnostic in CliError::from(error).diagnostics() {
            target_diagnostic(report, diagnostic);
        }
    }
}

fn target_diagnostic(report: &mut Report, diagnostic: &Diagnostic) {
    let help = diagnostic
        .help
        .as_deref()
        .unwrap_or("see `platform explain`");
    report.found(
        "target",
        Severity::Error,
        &diagnostic.code,
        diagnostic.message.clone(),
        help,
    );
}
