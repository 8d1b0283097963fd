//! Rollouts: values with which a rollout could only fail later.

use super::check;

/// What is refused, each with its code, its place, and what to write instead.
#[track_caller]
fn refuses(rollout: &str, code: &str, place: &str, message: &str, help: &str) {
    let shown = check(&format!("\n[rollout]\n{rollout}\n"));
    for said in [
        format!("Error: {code}"),
        format!("[platform.toml:{place}]"),
        format!("× {message}"),
        format!("help: {help}"),
    ] {
        assert!(shown.contains(&said), "`{said}` in {shown}");
    }
}

#[test]
fn what_chooses_a_side_can_be_sent() {
    for name in ["x y", "", "x:", "h\\n"] {
        refuses(
            &format!("opt_in = {{ header = \"{name}\" }}"),
            "blueprint::bad-value",
            "5:21",
            &format!("`{name}` is not the name of a header"),
            "write letters, digits and hyphens",
        );
    }
    refuses(
        "opt_in = { cookie = \"a=b\" }",
        "blueprint::bad-value",
        "5:21",
        "`a=b` is not the name of a cookie",
        "write letters, digits and hyphens",
    );
    assert_eq!(
        check("\n[rollout]\nopt_in = { header = 'x-canary', cookie = 'canary' }\n"),
        "valid"
    );
}

#[test]
fn gates_can_be_asked_and_can_answer() {
    for url in [
        "nope",
        "/hook",
        "ftp://ops.example",
        "https://",
        "http:// a",
    ] {
        refuses(
            &format!("gates = [{{ when = \"per-step\", webhook = \"{url}\" }}]"),
            "blueprint::bad-value",
            "5:41",
            &format!("`{url}` is not a URL"),
            "write one such as `https://ops.example/approve`",
        );
    }
    refuses(
        "gates = [{ when = \"per-step\", command = [\"true\"], timeout = \"0s\" }]",
        "blueprint::bad-value",
        "5:61",
        "a gate that may last for 0s can only fail",
        "write one in which it can answer, such as `1m`",
    );
    assert_eq!(
        check(
            "\n[rollout]\ngates = [{ when = 'per-step', webhook = 'http://127.0.0.1:1/hook', timeout = '1ms' }]\n"
        ),
        "valid"
    );
}

#[test]
fn a_rollout_has_time_to_end() {
    refuses(
        "at_most = \"0s\"",
        "blueprint::bad-value",
        "5:11",
        "a rollout that may last for 0s can only fail",
        "write one in which all of its steps end, such as `1h`",
    );
    let own =
        check("\n[services.web]\ncommand = ['web']\nport = 8081\nrollout = { at_most = '0m' }\n");
    assert!(own.contains("[platform.toml:7:23]"), "{own}");
}

#[test]
fn metrics_have_names_of_their_own() {
    let metric = |name: &str| {
        format!("[[rollout.analysis.metrics]]\nname = \"{name}\"\ncommand = [\"true\"]\n")
    };
    refuses(
        &format!("{}{}", metric("heap"), metric("heap")),
        "blueprint::contradiction",
        "9:8",
        "two metrics are called `heap`",
        "give one of them another name",
    );
    refuses(
        &metric(" "),
        "blueprint::bad-value",
        "6:8",
        "a metric without a name is none",
        "write what it counts, such as `heap`",
    );
    let apart = format!("\n{}{}", metric("heap"), metric("queue"));
    assert_eq!(check(&apart), "valid");
}
