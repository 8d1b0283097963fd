//! Secrets: kept encrypted, listed without a key, shown to nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;

use crate::responder;
use crate::sandbox::{Sandbox, exists, free_port};

const BLUEPRINT: &str = r#"[project]
name = "shop"

[services.orders]
command = ["orders"]
env = { STRIPE_KEY = { secret = "stripe-key" } }
"#;

const VALUE: &str = "hunter2-very-secret";

#[test]
fn a_secret_is_set_listed_rotated_and_removed() {
    let sandbox = Sandbox::with(BLUEPRINT);
    assert_snapshot!("unset", sandbox.platform(&["secrets", "list"]));
    assert_snapshot!(
        "set",
        sandbox.piped(&["secrets", "set", "stripe-key"], VALUE)
    );
    assert_snapshot!("list", sandbox.platform(&["secrets", "list"]));
    assert_snapshot!(
        "list_json",
        sandbox.platform(&["secrets", "list", "--format", "json"])
    );
    assert_snapshot!(
        "rotate",
        sandbox.platform(&["secrets", "rotate", "stripe-key"])
    );
    assert_snapshot!(
        "remove_refused",
        sandbox.platform(&["secrets", "remove", "stripe-key"])
    );
    assert_snapshot!(
        "remove",
        sandbox.platform(&["secrets", "remove", "stripe-key", "--yes"])
    );
    assert_snapshot!(
        "rotate_unset",
        sandbox.platform(&["secrets", "rotate", "stripe-key"])
    );
    // A version is never used again, or a changed value would look like the old one.
    let again = sandbox
        .pipe(&["secrets", "set", "stripe-key", "--format", "json"], VALUE)
        .ok();
    assert_eq!(again.line("secret_set")["version"], 3);
}

#[test]
fn a_value_never_stands_on_the_command_line() {
    let sandbox = Sandbox::with(BLUEPRINT);
    let seen = sandbox.run(&["secrets", "set", "stripe-key", VALUE]);
    assert_eq!(seen.code, 64);
    assert!(!exists(&sandbox.project().join("secrets.local.toml")));
}

#[test]
fn no_stream_and_no_file_shows_a_value() {
    let sandbox = Sandbox::with(BLUEPRINT);
    sandbox.pipe(&["secrets", "set", "stripe-key"], VALUE).ok();
    for arguments in [
        &["secrets", "list"][..],
        &["secrets", "list", "--format", "json", "-vvv"],
        &["secrets", "recipients"],
        &["doctor"],
        &["validate", "-vvv"],
    ] {
        let seen = sandbox.run(arguments);
        assert!(!format!("{seen:?}").contains(VALUE), "{arguments:?}");
    }
    let file = sandbox.read("secrets.local.toml");
    assert!(
        !file.contains(VALUE) && file.contains("BEGIN AGE ENCRYPTED FILE"),
        "{file}"
    );
}

#[test]
fn values_that_cannot_be_handed_over_are_refused_without_being_shown() {
    let sandbox = Sandbox::with(BLUEPRINT);
    assert_snapshot!(
        "empty_value",
        sandbox.piped(&["secrets", "set", "stripe-key"], "\n")
    );
    assert_snapshot!(
        "bad_name",
        sandbox.piped(&["secrets", "set", "Stripe_Key"], VALUE)
    );
    let seen = sandbox.pipe(&["secrets", "set", "stripe-key"], "hunter2\0");
    assert_eq!(seen.code, 1);
    assert!(!seen.stderr.contains("hunter2"), "{seen:#?}");
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    let sandbox = Sandbox::with(BLUEPRINT);
    sandbox.pipe(&["secrets", "set", "stripe-key"], VALUE).ok();
    let identity = sandbox
        .project()
        .join("../home/.config/platform/identity.age-key");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).expect("permissions");
    let seen = sandbox.pipe(&["secrets", "set", "stripe-key", "--format", "json"], VALUE);
    assert_eq!(seen.line("diagnostic")["code"], "secrets::identity-exposed");
}

#[test]
fn a_teammate_is_let_in_and_out() {
    let sandbox = Sandbox::with(BLUEPRINT);
    sandbox.pipe(&["secrets", "set", "stripe-key"], VALUE).ok();
    let mut other = Sandbox::with(BLUEPRINT);
    other.write("secrets.local.toml", &sandbox.read("secrets.local.toml"));
    let refused = other.pipe(&["secrets", "set", "stripe-key", "--format", "json"], VALUE);
    let diagnostic = refused.line("diagnostic");
    assert_eq!(diagnostic["code"], "secrets::not-a-recipient");
    let listed = other
        .run(&["secrets", "recipients", "--format", "json"])
        .ok();
    let theirs = listed.line("recipients")["you"]
        .as_str()
        .expect("a recipient")
        .to_owned();
    sandbox
        .run(&["secrets", "recipients", "--add", &theirs])
        .ok();
    other.set("PLATFORM_SECRET_UNUSED", "x");
    other.write("secrets.local.toml", &sandbox.read("secrets.local.toml"));
    other.pipe(&["secrets", "set", "stripe-key"], VALUE).ok();
}

#[test]
fn ci_hands_secrets_over_in_variables() {
    let mut sandbox = Sandbox::with(BLUEPRINT);
    sandbox.set("PLATFORM_SECRET_STRIPE_KEY", VALUE);
    let listed = sandbox.run(&["secrets", "list", "--format", "json"]).ok();
    let secret = listed.line("secrets")["secrets"][0].clone();
    assert_eq!(secret["source"], "environment");
    assert!(!listed.stdout.contains(VALUE));
}

/// Every file below a folder that holds these bytes.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() {
            found.extend(holding(&entry.path(), bytes));
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap_or_default();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_service_is_handed_its_secret_and_nothing_else_holds_it() {
    let command = responder::command();
    let port = free_port();
    let sandbox = Sandbox::with(&format!(
        r#"[project]
name = "shop"

[services.orders]
command = {command}
port = 9000
health = {{ ready = "/health", start_within = "10s" }}
env = {{ RESPOND = "hello", STRIPE_KEY = {{ secret = "stripe-key" }} }}

[gateway]
port = {port}

[[routes]]
path = "/"
service = "orders"
"#
    ));
    let unset = sandbox.run(&["deploy", "--yes", "--format", "json"]);
    assert_eq!(unset.line("diagnostic")["code"], "preflight::secret-unset");
    sandbox.pipe(&["secrets", "set", "stripe-key"], VALUE).ok();
    let deployed = sandbox
        .run(&["deploy", "--yes", "--format", "json", "-vvv"])
        .ok();
    assert!(!format!("{deployed:?}").contains(VALUE));
    let print = ["exec", "orders", "--", "printenv", "STRIPE_KEY"];
    assert_eq!(sandbox.run(&print).ok().stdout.trim_end(), VALUE);
    for arguments in [
        &["status", "--format", "json"][..],
        &["releases", "show", "r1", "--format", "json"],
        &["runs", "--format", "json"],
        &["plan", "--format", "json"],
        &["drift", "--format", "json"],
        &["logs", "gateway"],
        &["doctor", "--format", "json"],
    ] {
        let seen = sandbox.run(arguments).ok();
        assert!(!format!("{seen:?}").contains(VALUE), "{arguments:?}");
    }
    let holders = holding(&sandbox.project().join(".."), VALUE.as_bytes());
    assert!(holders.is_empty(), "{holders:?}");
    // A rotation makes another spec, and so another release.
    sandbox.run(&["secrets", "rotate", "stripe-key"]).ok();
    sandbox.run(&["deploy", "--yes"]).ok();
    assert_ne!(sandbox.run(&print).ok().stdout.trim_end(), VALUE);
}
