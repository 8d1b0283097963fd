//! Extra metrics: from a Prometheus that runs, and from a command.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::listener::Listener;
use crate::responder::ask;
use crate::sandbox::{eventually, free_port};
use crate::withstand::project::{Api, Project};
use crate::withstand::skipped;

/// A server that scrapes one address, ended when dropped.
struct Prometheus {
    server: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// `None` where it is not installed.
    fn scraping(target: u16) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 200ms }}\nscrape_configs:\n- job_name: shop\n  static_configs:\n  - targets: ['127.0.0.1:{target}']\n"
        );
        fs::write(&settings, text).expect("its settings");
        let port = free_port();
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self {
            server,
            port,
            _folder: folder,
        })
    }

    fn has_scraped(&self) -> bool {
        let answer = ask(self.port, "/api/v1/query?query=queue_length");
        answer.is_some_and(|answer| answer.contains("\"version\":\"r1\""))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What both releases export, by the version that they run.
fn exported() -> Listener {
    Listener::answering(|_| {
        let of = |version: &str, value: u32| {
            format!("queue_length{{service=\"api\",version=\"{version}\"}} {value}\n")
        };
        let text: String = [
            of("r1", 100),
            of("r1-baseline", 101),
            // Twice as long, and later as short as before.
            of("r2", 200),
            of("r3", 200),
            of("r4", 98),
        ]
        .concat();
        (200, text, Duration::ZERO)
    })
}

fn wants(project: &Project, answer: &str, metric: &str) {
    project.change(&Api::good(answer));
    let text = project.sandbox.read("platform.toml");
    let (head, _) = text.split_once("[rollout]").expect("a policy");
    let text = format!(
        r#"{head}[rollout]
strategy = "canary"
steps = ["50%"]
hold = "100ms"
bake = "100ms"

[rollout.analysis]
errors = "20%"
slow = "50%"
slow_after = "5s"
at_least = "100ms"
at_most = "2m"
min_samples = 10

[[rollout.analysis.metrics]]
name = "queue"
better = "lower"
margin = "20%"
every = "500ms"
{metric}
"#
    );
    project.sandbox.write("platform.toml", &text);
}

#[test]
fn a_metric_of_a_prometheus_is_compared_too() {
    let exported = exported();
    let Some(prometheus) = Prometheus::scraping(exported.port()) else {
        skipped("prometheus is not installed");
        return;
    };
    eventually("it has scraped", || prometheus.has_scraped());
    let query = format!(
        "prometheus = \"http://127.0.0.1:{}\"\nquery = 'max(queue_length{{service=\"${{SERVICE}}\",version=\"${{VERSION}}\"}})'",
        prometheus.port
    );
    let project = Project::deployed();
    let load = crate::load::Load::on(project.port, 60);
    wants(&project, "two", &query);
    let seen = project.deploy();
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert!(
        seen.stderr
            .contains("metric `queue` is worse than tolerated"),
        "{seen:#?}"
    );
    assert_eq!(project.answer().as_deref(), Some("one"));
    // The same, only reported.
    wants(&project, "three", &format!("{query}\ndry_run = true\n"));
    project.deploy().ok();
    assert_eq!(project.answer().as_deref(), Some("three"));
    load.end().unharmed();
    project.down();
}

#[test]
fn a_metric_of_a_command_is_compared_too() {
    let project = Project::deployed();
    let load = crate::load::Load::on(project.port, 60);
    let command =
        r#"command = ["sh", "-c", "case ${VERSION} in r2) echo 200;; *) echo 100;; esac"]"#;
    wants(&project, "two", command);
    let seen = project.deploy();
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert!(
        seen.stderr
            .contains("metric `queue` is worse than tolerated"),
        "{seen:#?}"
    );
    wants(&project, "three", command);
    project.deploy().ok();
    assert_eq!(project.answer().as_deref(), Some("three"));
    load.end().unharmed();
    project.down();
}

#[test]
fn an_authority_that_is_not_there_is_told_before_anything_is_touched() {
    let project = Project::deployed();
    let query = "prometheus = \"https://127.0.0.1:9\"\nquery = \"up\"\nca = \"gone.pem\"";
    wants(&project, "two", query);
    let seen = project.deploy();
    assert_eq!(seen.code, 1, "{seen:#?}");
    for said in [
        "preflight::certificate",
        "gone.pem",
        "No such file",
        "name a file of certificates in PEM as its `ca`",
    ] {
        assert!(seen.stderr.contains(said), "`{said}` in {seen:#?}");
    }
    assert_eq!(project.answer().as_deref(), Some("one"));
    project.down();
}
