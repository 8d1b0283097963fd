//! An object store that is a real S3 server: asked with its generated key, kept over everything but the removal of data.

use std::process::Command;

use platform_testkit::needs;

use super::{Project, docker, has_engine};
use crate::sandbox::eventually;

const IMAGE: &str = "platform/object-store:2.5";

/// Where a bucket is now.
fn address(project: &Project, name: &str) -> String {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let host = docker(&["inspect", "-f", format, &project.container(name)]);
    format!("http://{host}:9000/{name}")
}

/// A bucket, and a key for it.
struct Bucket {
    address: String,
    key: String,
}

impl Bucket {
    fn of(project: &Project, name: &str) -> Self {
        let container = project.container(name);
        let secret = docker(&["exec", &container, "cat", "/dev/shm/secrets/password"]);
        Self {
            address: address(project, name),
            key: format!("platform:{secret}"),
        }
    }

    /// Status and body of a signed request.
    fn ask(&self, path: &str, words: &[&str]) -> String {
        let told = Command::new("curl")
            .args([
                "--silent",
                "--max-time",
                "20",
                "--write-out",
                " %{http_code}",
            ])
            .args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &self.key])
            .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(words)
            .arg(format!("{}{path}", self.address))
            .output()
            .expect("curl");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }
}

fn write(project: &Project) {
    let api = r#"build = { program = "api" }
needs = ["files"]
env = { RESPOND = "one" }"#;
    let files = format!(
        r#"
[resources.files]
kind = "object-store"
version = "2.5"
image = "{IMAGE}"
"#
    );
    project.blueprint(api, &files);
}

#[test]
fn objects_are_kept_by_a_real_server() {
    if !has_engine() || !needs::docker_image(IMAGE) {
        return;
    }
    let project = Project::new("objects");
    project.responder();
    write(&project);
    project.deploy();
    let status = project.run(&["status"]).ok().stdout;
    assert!(status.contains("S3 server 2.5"), "{status}");

    let bucket = Bucket::of(&project, "files");
    let text = project.sandbox.project().join("tea.txt");
    std::fs::write(&text, "sencha").expect("written");
    let text = text.display().to_string();
    let put = bucket.ask("/tea/green.txt", &["--upload-file", &text]);
    assert!(put.ends_with("200"), "{put}");
    assert_eq!(bucket.ask("/tea/green.txt", &[]), "sencha 200");
    let listed = bucket.ask("/?list-type=2", &[]);
    assert!(listed.contains("<Key>tea/green.txt</Key>"), "{listed}");

    // Nobody else is let in, and nobody is shown the key.
    let stranger = Bucket {
        key: "platform:0123456789abcdef0123456789abcdef".to_owned(),
        address: bucket.address.clone(),
    };
    assert!(stranger.ask("/tea/green.txt", &[]).ends_with("403"));
    let secret = bucket.key.trim_start_matches("platform:").to_owned();
    let all = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=platform.project={}", project.name),
    ]);
    let inspected = docker(&[&["inspect"], all.lines().collect::<Vec<_>>().as_slice()].concat());
    assert!(!inspected.contains(&secret), "its key is shown");

    // Killed, stopped, taken away: what was acknowledged is there again, under the same key.
    let container = project.container("files");
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &container]);
    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("kill").success());
    eventually("the object is there", || {
        let again = Bucket {
            address: address(&project, "files"),
            key: bucket.key.clone(),
        };
        again.ask("/tea/green.txt", &[]) == "sencha 200"
    });
    project.run(&["destroy", "--yes"]).ok();
    project.deploy();
    let again = Bucket::of(&project, "files");
    assert_eq!(again.key, bucket.key);
    assert_eq!(again.ask("/tea/green.txt", &[]), "sencha 200");
    project.down();
}
