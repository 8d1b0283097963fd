//! What tests of whole projects share: the tools that build them, and requests to what they run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sandbox::Sandbox;

/// Variables by which compilers and package managers find their stores, certificates and proxies.
const PASSED_ON: [&str; 22] = [
    "ALL_PROXY",
    "CARGO_NET_OFFLINE",
    "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "NPM_CONFIG_REGISTRY",
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "REQUESTS_CA_BUNDLE",
    "RUSTUP_TOOLCHAIN",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "npm_config_cache",
    "npm_config_registry",
];

/// A sandbox in which packages can be built. What is fetched and compiled is kept from one run of the tests to the next.
pub(crate) fn workshop() -> Sandbox {
    let mut sandbox = Sandbox::empty();
    for name in PASSED_ON {
        if let Ok(value) = std::env::var(name) {
            sandbox.set(name, value);
        }
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    for (name, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let place = std::env::var_os(name).map_or_else(|| home.join(usual), PathBuf::from);
        sandbox.set(name, place.display().to_string());
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, folder) in [
        ("CARGO_TARGET_DIR", "projects"),
        ("PIP_CACHE_DIR", "pip"),
        ("npm_config_cache", "npm"),
    ] {
        if name == "CARGO_TARGET_DIR" || std::env::var_os(name).is_none() {
            sandbox.set(name, kept.join(folder).display().to_string());
        }
    }
    sandbox
}

/// Whether all programs are there; says which are not, as the test is skipped then.
#[expect(
    clippy::print_stderr,
    reason = "whoever reads the test's output learns that it was skipped"
)]
pub(crate) fn installed(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|at| at.join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|program| !there(program)).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED {test}: {missing:?} not installed");
    }
    missing.is_empty()
}

/// Runs a program in a folder of the project, in the sandbox's surroundings; what it wrote, if it failed.
pub(crate) fn run_in(sandbox: &Sandbox, folder: &str, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    for (name, value) in sandbox.command(&["version"]).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command
        .args(arguments)
        .current_dir(sandbox.project().join(folder))
        .output()
        .expect("the program runs");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An answer through the gateway.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Asks for a path.
pub(crate) fn get(port: u16, path: &str) -> Answer {
    request(port, reqwest::Method::GET, path, None)
}

/// Sends JSON to a path.
pub(crate) fn post(port: u16, path: &str, body: &serde_json::Value) -> Answer {
    request(port, reqwest::Method::POST, path, Some(body))
}

fn request(
    port: u16,
    method: reqwest::Method,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Answer {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let mut request = client.request(method, format!("http://127.0.0.1:{port}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        Answer {
            status: answer.status().as_u16(),
            kind: kind.to_owned(),
            body: answer.text().await.expect("a body"),
        }
    })
}

/// Has the gateway listen on a free port, whatever the blueprint says.
pub(crate) fn listen_on(sandbox: &Sandbox, port: u16) {
    let text = sandbox.read("platform.toml");
    let mut blueprint: toml_edit::DocumentMut = text.parse().expect("a blueprint");
    blueprint["gateway"]["port"] = toml_edit::value(i64::from(port));
    sandbox.write("platform.toml", &blueprint.to_string());
}
