use std::env;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use platform_blueprint::{Build, Resolved};
use platform_decide::desired::{secrets_of_gateway, secrets_of_rollouts};
use platform_drive::releases;
use platform_image::Registry;
use platform_port::{Finding, Severity};
use platform_secrets::Keyring;
use serde::Serialize;
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::exit::Exit;
use crate::images;
use crate::moment;
use crate::paint::Paint;
use crate::view::{Case, Shown, Verdict};
use crate::world::World;

/// Check this machine, the project and the target for what would get in the way
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: String,
    /// What was found, in a few words.
    seen: String,
    /// What is wrong, if anything is.
    finding: Option<Finding>,
}

struct Report(Vec<Check>);

impl Report {
    fn well(&mut self, name: &str, seen: impl Into<String>) {
        self.0.push(Check {
            name: name.to_owned(),
            seen: seen.into(),
            finding: None,
        });
    }

    fn found(
        &mut self,
        name: &str,
        severity: Severity,
        code: &str,
        message: impl Into<String>,
        help: &str,
    ) {
        let message = message.into();
        self.0.push(Check {
            name: name.to_owned(),
            seen: message.clone(),
            finding: Some(Finding {
                code: code.to_owned(),
                severity,
                subject: None,
                message,
                help: Some(help.to_owned()),
            }),
        });
    }

    fn worst(&self) -> Option<Severity> {
        let findings = self.0.iter().filter_map(|check| check.finding.as_ref());
        findings.map(|finding| finding.severity).max()
    }
}

impl Shown for Report {
    fn kind(&self) -> &'static str {
        "doctor"
    }

    fn json(&self) -> Value {
        json!({ "checks": self.0, "worst": self.worst() })
    }

    fn human(&self, paint: Paint) -> String {
        let mut text = String::new();
        let width = self
            .0
            .iter()
            .map(|check| check.name.chars().count())
            .max()
            .unwrap_or(0);
        for check in &self.0 {
            let mark = match check.finding.as_ref().map(|finding| finding.severity) {
                None => paint.green("✓"),
                Some(Severity::Note) => paint.dim("·"),
                Some(Severity::Warning) => paint.yellow("!"),
                Some(Severity::Error) => paint.red("✗"),
            };
            let _ = writeln!(text, "{mark} {:width$}  {}", check.name, check.seen);
            if let Some(help) = check
                .finding
                .as_ref()
                .and_then(|finding| finding.help.as_ref())
            {
                let _ = writeln!(text, "  {:width$}  {}", "", paint.dim(help));
            }
        }
        text
    }
}

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

/// What a program says of its version; `None` where it is not installed.
fn version_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    output.status.success().then_some(line)
}

fn machine(report: &mut Report) {
    report.well("platform", env!("CARGO_PKG_VERSION"));
    match version_of("git", "--version") {
        Some(version) => report.well("git", version.replace("git version ", "")),
        None => report.found(
            "git",
            Severity::Note,
            "doctor::no-git",
            "git is not installed, so releases carry no commit",
            "install git",
        ),
    }
    memory(report);
    clock(report);
    match fs::read_to_string("/proc/self/cgroup") {
        Ok(text) if text.lines().any(|line| line.starts_with("0::")) => {
            let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
            report.well("cgroups", if unified { "version 2" } else { "version 1" });
        }
        Ok(_) => report.well("cgroups", "version 1"),
        Err(_) => report.found(
            "cgroups",
            Severity::Warning,
            "doctor::no-cgroups",
            "there are none, so limits of cpu and memory are not kept",
            "mount /sys/fs/cgroup, or leave limits to the services",
        ),
    }
}

fn memory(report: &mut Report) {
    const ENOUGH: u64 = 256 << 20;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map(|kibibytes| kibibytes << 10);
    match available {
        Some(available) if available < ENOUGH => report.found(
            "memory",
            Severity::Warning,
            "doctor::little-memory",
            format!("only {} are available", moment::bytes(available)),
            "end something, or run fewer replicas",
        ),
        Some(available) => report.well("memory", format!("{} available", moment::bytes(available))),
        None => {}
    }
}

/// A clock far off breaks certificates, ages and the order of runs.
fn clock(report: &mut Report) {
    let built = env::current_exe()
        .and_then(fs::metadata)
        .and_then(|metadata| metadata.modified())
        .unwrap_or(UNIX_EPOCH);
    let now = SystemTime::now();
    match built.duration_since(now) {
        Ok(ahead) if 60 < ahead.as_secs() => report.found(
            "clock",
            Severity::Warning,
            "doctor::clock-behind",
            format!(
                "this program was installed {} s in the future",
                ahead.as_secs()
            ),
            "set the clock, for instance with `timedatectl set-ntp true`",
        ),
        _ => report.well(
            "clock",
            chrono::Utc::now()
                .format("%Y-%m-%d %H:%M:%S UTC")
                .to_string(),
        ),
    }
}

fn identity(report: &mut Report) {
    match Keyring::load_existing() {
        Ok(Some(keyring)) => report.well("identity", keyring.recipient().to_string()),
        Ok(None) => report.well("identity", "none yet; the first secret makes one"),
        Err(error) => report.found(
            "identity",
            Severity::Error,
            error.code(),
            error.to_string(),
            error.help().as_deref().unwrap_or("see `platform explain`"),
        ),
    }
}

/// The programs that this blueprint's builds and commands need.
fn toolchain(report: &mut Report, resolved: &Resolved) {
    let builds = || {
        resolved
            .services
            .values()
            .filter_map(|service| service.build.as_ref())
    };
    if builds().any(|build| matches!(build, Build::Cargo(_))) {
        tool(
            report,
            "cargo",
            "--version",
            "install Rust from https://rustup.rs",
        );
    }
    let commands = builds().filter_map(|build| match build {
        Build::Command(build) => build.command.split_whitespace().next(),
        _ => None,
    });
    let mut programs: Vec<&str> = commands.filter(|program| !program.contains('/')).collect();
    programs.sort_unstable();
    programs.dedup();
    for program in programs {
        match which(program) {
            Some(path) => report.well(program, path.display().to_string()),
            None => missing(
                report,
                program,
                "install it, or correct the build's command",
            ),
        }
    }
}

fn tool(report: &mut Report, program: &str, argument: &str, help: &str) {
    match version_of(program, argument) {
        Some(version) => report.well(program, version),
        None => missing(report, program, help),
    }
}

fn missing(report: &mut Report, program: &str, help: &str) {
    let message = format!("`{program}` is not installed, and a build needs it");
    report.found(
        program,
        Severity::Error,
        "doctor::no-program",
        message,
        help,
    );
}

fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

fn space(report: &mut Report, folder: &Path) {
    const ENOUGH: u64 = 512 << 20;
    let Ok(disk) = statvfs(folder) else {
        return;
    };
    let free = disk.blocks_available() * disk.fragment_size();
    if free < ENOUGH {
        report.found(
            "disk",
            Severity::Warning,
            "doctor::little-space",
            format!(
                "only {} are free for builds, logs and data",
                moment::bytes(free)
            ),
            "make room on the file system of the project's folder",
        );
    } else {
        report.well("disk", format!("{} free", moment::bytes(free)));
    }
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
