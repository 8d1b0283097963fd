//! Gates: commands and webhooks that are asked on the way, and the smoke of a second colour.

use std::time::Duration;

use serde_json::Value;

use super::listener::{Answer, Listener};
use crate::sandbox::Seen;
use crate::withstand::project::{Api, Project};

const AT_ONCE: Duration = Duration::ZERO;

fn agrees() -> Answer {
    (204, String::new(), AT_ONCE)
}

/// A project that serves `one` and is going to be rolled out by this policy.
fn with(policy: &str) -> Project {
    let project = Project::deployed();
    wants(&project, &Api::good("two"), policy);
    project
}

fn wants(project: &Project, api: &Api, policy: &str) {
    project.change(api);
    let text = project.sandbox.read("platform.toml");
    let (head, _) = text.split_once("[rollout]").expect("a policy");
    let text = format!("{head}[rollout]\nanalysis = false\nbake = \"0s\"\n{policy}\n");
    project.sandbox.write("platform.toml", &text);
}

fn gates(url: &str) -> String {
    let gate = |when: &str| {
        format!(
            r#"{{ when = "{when}", name = "ask {when}", webhook = "{url}/{when}", timeout = "2s" }}"#
        )
    };
    let all = [
        "before-start",
        "per-step",
        "before-promote",
        "after-rollback",
    ]
    .map(gate);
    format!(
        "strategy = \"canary\"\nsteps = [\"20%\", \"50%\"]\nhold = \"0s\"\ngates = [{}]",
        all.join(", ")
    )
}

fn asked(listener: &Listener) -> Vec<String> {
    let asked = listener.asked().into_iter();
    asked.map(|(path, _)| path).collect()
}

#[test]
fn webhooks_are_asked_at_their_moments_and_told_what_it_is_about() {
    let listener = Listener::answering(|_| agrees());
    let url = format!("http://127.0.0.1:{}", listener.port());
    let project = with(&gates(&url));
    project.deploy().ok();
    assert_eq!(
        asked(&listener),
        [
            "/before-start",
            "/per-step",
            "/per-step",
            "/per-step",
            "/before-promote"
        ]
    );
    let letters = listener.asked();
    let letter: Value = serde_json::from_str(&letters[1].1).expect("JSON");
    for (field, value) in [
        ("when", "per-step"),
        ("gate", "ask per-step"),
        ("release", "r2"),
        ("stage", "20 %"),
        ("project", "shop"),
        ("environment", "local"),
    ] {
        assert_eq!(letter[field], value, "{letter:#}");
    }
    assert_eq!(letter["services"], serde_json::json!(["api"]));
    project.down();
}

#[track_caller]
fn goes_back(project: &Project, because: &[&str]) -> Seen {
    let seen = project.deploy();
    assert_eq!(seen.code, 10, "{seen:#?}");
    for text in because {
        assert!(seen.stderr.contains(text), "`{text}` in {seen:#?}");
    }
    assert_eq!(project.answer().as_deref(), Some("one"));
    seen
}

#[test]
fn a_webhook_that_refuses_sends_it_back_and_another_is_told() {
    for (refuses, expected) in [
        ("/before-start", vec!["/before-start", "/after-rollback"]),
        (
            "/per-step",
            vec!["/before-start", "/per-step", "/after-rollback"],
        ),
        (
            "/before-promote",
            vec![
                "/before-start",
                "/per-step",
                "/per-step",
                "/per-step",
                "/before-promote",
                "/after-rollback",
            ],
        ),
    ] {
        let listener = Listener::answering(move |(path, _)| {
            if path == refuses {
                (409, "not on a Friday".to_owned(), AT_ONCE)
            } else if path == "/after-rollback" {
                // Its answer changes nothing.
                (500, "too bad".to_owned(), AT_ONCE)
            } else {
                agrees()
            }
        });
        let project = with(&gates(&format!("http://127.0.0.1:{}", listener.port())));
        goes_back(&project, &["does not agree", "409", "not on a Friday"]);
        assert_eq!(asked(&listener), expected);
        project.down();
    }
}

#[test]
fn a_webhook_that_hangs_or_is_not_there_does_not_agree() {
    let listener = Listener::answering(|_| (204, String::new(), Duration::from_secs(20)));
    let project = with(&gates(&format!("http://127.0.0.1:{}", listener.port())));
    goes_back(&project, &["does not agree", "no answer within 2s"]);
    let nobody = crate::sandbox::free_port();
    wants(
        &project,
        &Api::good("three"),
        &gates(&format!("http://127.0.0.1:{nobody}")),
    );
    goes_back(&project, &["does not agree", "onnect"]);
    project.down();
}

#[test]
fn a_command_sees_the_new_release_through_the_preview() {
    let project = with(
        r#"strategy = "blue-green"
hold = "0s"
gates = [{ when = "before-promote", command = ["sh", "-c", "curl -fsS -H \"$PLATFORM_PREVIEW_HEADER\" $PLATFORM_GATEWAY_URL | grep two"] }]"#,
    );
    project.deploy().ok();
    assert_eq!(project.answer().as_deref(), Some("two"));
    wants(
        &project,
        &Api::good("three"),
        r#"strategy = "blue-green"
hold = "0s"
gates = [{ when = "before-promote", name = "look", command = ["sh", "-c", "echo $PLATFORM_SERVICES of $PLATFORM_RELEASE look ill >&2; exit 4"] }]"#,
    );
    let seen = project.deploy();
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert!(seen.stderr.contains("api of r3 look ill"), "{seen:#?}");
    assert_eq!(project.answer().as_deref(), Some("two"));
    project.down();
}

#[test]
fn a_gate_of_a_step_sees_the_release_that_the_step_is_about() {
    const LOOK: &str = r#"curl -fsS -H \"$PLATFORM_PREVIEW_HEADER\" $PLATFORM_GATEWAY_URL | grep"#;
    for strategy in [
        "strategy = \"canary\"\nsteps = [\"20%\", \"50%\"]\nhold = \"0s\"",
        "strategy = \"blue-green\"\nhold = \"0s\"",
        "strategy = \"rolling\"\nhold = \"0s\"",
    ] {
        let gate = |answer: &str| {
            format!(
                "{strategy}\ngates = [{{ when = \"per-step\", command = [\"sh\", \"-c\", \"{LOOK} {answer}\"] }}]"
            )
        };
        let project = with(&gate("two"));
        project.deploy().ok();
        assert_eq!(project.answer().as_deref(), Some("two"));
        project.down();
    }
}

#[test]
fn a_second_colour_whose_routes_fail_is_not_switched_to() {
    let project = with("strategy = \"blue-green\"\nhold = \"0s\"");
    let api = Api {
        manner: "ill",
        ..Api::good("two")
    };
    wants(&project, &api, "strategy = \"blue-green\"\nhold = \"0s\"");
    goes_back(&project, &["gate `smoke` does not agree", "answered 500"]);
    wants(
        &project,
        &Api::good("two"),
        "strategy = \"blue-green\"\nhold = \"0s\"",
    );
    project.deploy().ok();
    assert_eq!(project.answer().as_deref(), Some("two"));
    project.down();
}

#[test]
fn a_second_colour_is_asked_over_tls_whatever_the_certificate_is_called() {
    const COLOURS: &str = "strategy = \"blue-green\"\nhold = \"0s\"";
    let project = Project::deployed();
    let named = rcgen::generate_simple_self_signed(vec!["shop.test".to_owned()]);
    let named = named.expect("a certificate");
    project.sandbox.write("shop.pem", &named.cert.pem());
    let key = named.signing_key.serialize_pem();
    project
        .sandbox
        .pipe(&["secrets", "set", "shop-key"], &key)
        .ok();
    let secured = crate::sandbox::free_port();
    let tls = format!(
        "\ntls = {{ port = {secured}, redirect = false, certificates = [{{ certificate = \"shop.pem\", key = \"shop-key\" }}] }}"
    );
    let port = format!("[gateway]\nport = {}", project.port);
    let route =
        "[[routes]]\nhost = \"shop.test\"\npath = \"/shop\"\nservice = \"api\"\n\n[rollout]";
    let deploy = |api: &Api| {
        wants(&project, api, COLOURS);
        let text = project.sandbox.read("platform.toml");
        let text = text.replace(&port, &format!("{port}{tls}"));
        let text = text.replace("[rollout]", route);
        project.sandbox.write("platform.toml", &text);
        project.deploy()
    };
    for answer in ["two", "three"] {
        deploy(&Api::good(answer)).ok();
        assert_eq!(project.answer().as_deref(), Some(answer));
    }
    // It is the release that is asked: one that is ill is heard.
    let ill = Api {
        manner: "ill",
        ..Api::good("four")
    };
    let seen = deploy(&ill);
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert!(seen.stderr.contains("answered 500"), "{seen:#?}");
    assert_eq!(project.answer().as_deref(), Some("three"));
    project.down();
}
