//! Where a blueprint with mistakes is deployed.

use platform_blueprint::{Blueprint, EnvironmentName};

const GOOD: &str = r#"[project]
name = "shop"

[services.web]
command = ["web"]
port = 8081

[environments.local]
provider = "process"

[environments.staging]
provider = "docker"
host = "ssh://ops@staging"
"#;

/// Project, environment, kind of provider and whether it is protected; or that this cannot be told.
fn found(text: &str, environment: Option<&str>) -> String {
    let environment = environment.map(|name| EnvironmentName::new(name).unwrap());
    let Some(found) = Blueprint::whereabouts(text, environment.as_ref()) else {
        return "nobody knows".to_owned();
    };
    assert!(found.services.is_empty(), "{found:?}");
    let at = found.environment;
    let provider = at.provider.kind().as_str();
    let protected = if at.protected { ", protected" } else { "" };
    format!("{} {} {provider}{protected}", found.project.name, at.name)
}

#[track_caller]
fn check(right: &str, wrong: &str, local: &str, staging: &str) {
    let text = GOOD.replacen(right, wrong, 1);
    assert!(Blueprint::parse(&text, "platform.toml").is_err(), "{text}");
    assert_eq!(found(&text, None), local, "{text}");
    assert_eq!(found(&text, Some("staging")), staging, "{text}");
}

#[test]
fn what_does_not_fit_is_left_out() {
    const LOCAL: &str = "shop local process";
    const STAGING: &str = "shop staging docker";
    check("port", "prot", LOCAL, STAGING);
    check("port = 8081", "port = \"many\"", LOCAL, STAGING);
    check("port = 8081", "port =", LOCAL, STAGING);
    check("port = 8081", "port = 80 81", LOCAL, STAGING);
    check("[project]", "[porject]\na = 1\n[project]", LOCAL, STAGING);
    check(
        "provider = \"docker\"",
        "provider = \"docker\"\nprotetced = true",
        LOCAL,
        STAGING,
    );
    check(
        "provider = \"process\"",
        "provider = \"process\"\nprotected = ture",
        "shop local process, protected",
        "shop staging docker, protected",
    );
    check(
        "port = 8081",
        "prot = 8081\n[environments.local.services.web]\nreplicas = \"x\"",
        LOCAL,
        STAGING,
    );
}

#[test]
fn what_is_not_certain_is_not_told() {
    const UNKNOWN: &str = "nobody knows";
    const STAGING: &str = "shop staging docker";
    check("[project]", "[project", UNKNOWN, UNKNOWN);
    check("name", "nmae", UNKNOWN, UNKNOWN);
    // What is left might be another environment than the one that is meant.
    check("\"process\"", "\"proces\"", UNKNOWN, STAGING);
    check(
        "[environments.local]",
        "[environments.local",
        UNKNOWN,
        UNKNOWN,
    );
    let renamed = GOOD.replace("environments", "enviroments");
    assert_eq!(found(&renamed, None), UNKNOWN);
    assert_eq!(found(&GOOD.replace("port", "prot"), Some("none")), UNKNOWN);
}
