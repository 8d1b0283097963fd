//! What holds for every command: codes, formats, help.

use insta::assert_snapshot;

use crate::sandbox::Sandbox;

const BLUEPRINT: &str = "[project]\nname = \"shop\"\n";

#[test]
fn an_unknown_command_is_refused_with_the_nearest() {
    assert_snapshot!(Sandbox::empty().platform(&["deplyo"]));
}

#[test]
fn a_misuse_is_coded_json_where_json_is_asked_for() {
    let sandbox = Sandbox::empty();
    for arguments in [
        &["deplyo", "--format", "json"][..],
        &["--format=json", "status", "--foo"],
        &["status", "--color", "pink", "--format", "json"],
        &["explain", "--format", "json", "a", "b"],
        &["--format", "json"],
    ] {
        let seen = sandbox.run(arguments);
        assert_eq!((seen.code, seen.stderr.as_str()), (64, ""), "{arguments:?}");
        assert_eq!(seen.lines()[0]["type"], "version");
        let diagnostic = seen.line("diagnostic");
        assert!(
            diagnostic["code"]
                .as_str()
                .expect("a code")
                .starts_with("usage::")
        );
        assert!(diagnostic["help"].is_string(), "{diagnostic}");
    }
}

#[test]
fn every_flag_has_its_variable() {
    let mut sandbox = Sandbox::empty();
    let help = sandbox.run(&["status", "--help"]).ok().stdout;
    for flag in [
        "chdir",
        "file",
        "env",
        "format",
        "events",
        "color",
        "quiet",
        "verbose",
        "yes",
        "non-interactive",
        "lock-timeout",
        "parallelism",
        "junit",
        "sarif",
    ] {
        let variable = format!("PLATFORM_{}=", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&variable), "{flag} in {help}");
    }
    sandbox.write("elsewhere/platform.toml", BLUEPRINT);
    sandbox.set("PLATFORM_CHDIR", "elsewhere");
    sandbox.set("PLATFORM_FORMAT", "json");
    sandbox.set("PLATFORM_VERBOSE", "1");
    sandbox.set("PLATFORM_YES", "1");
    let seen = sandbox.run(&["validate"]).ok();
    assert_eq!(seen.line("validation")["valid"], true);
    // A flag goes before its variable.
    let seen = sandbox.run(&["validate", "--format", "human"]).ok();
    assert!(seen.stdout.starts_with("platform.toml: valid"), "{seen:#?}");
}

#[test]
fn the_version_is_one_line_of_json() {
    let sandbox = Sandbox::empty();
    let seen = sandbox.run(&["version", "--json"]).ok();
    let [line] = seen.lines().try_into().expect("one line");
    assert_eq!(line["schema"], "1.0");
    assert!(
        line["target"].is_string() && line["features"].is_array(),
        "{line}"
    );
    assert_snapshot!(sandbox.platform(&["version"]));
}

#[test]
fn what_has_no_server_has_nothing_to_be_looked_into() {
    let sandbox = Sandbox::with(
        "[project]\nname = \"shop\"\n[services.api]\ncommand = [\"api\"]\nneeds = [\"db\"]\n\
         [resources.db]\nkind = \"postgres\"\n[resources.cache]\nkind = \"redis\"\n\
         external = { secret = \"cache-url\" }\n\
         [resources.events]\nkind = \"nats\"\nengine = \"nats\"\n",
    );
    let check = |words: &[&str], code: &str, says: &str| {
        let seen = sandbox.run(words);
        assert_ne!(seen.code, 0, "{seen:#?}");
        assert!(seen.stderr.contains(code), "{seen:#?}");
        assert!(seen.stderr.contains(says), "{seen:#?}");
    };
    let no_server = "resource::no-server";
    check(&["logs", "db"], no_server, "embedded in what needs it");
    check(&["exec", "db", "--", "ls"], no_server, "embedded");
    check(&["logs", "cache"], no_server, "`cache-url`");
    let here = "port-forward events";
    check(&["exec", "events", "--", "ls"], "exec::impossible", here);
    check(
        &["logs", "cach"],
        "usage::unknown-service",
        "did you mean `cache`?",
    );
    check(&["wait", "db"], "usage::unknown-service", "it has `api`");
}

#[test]
fn a_service_that_is_not_there_is_told_with_the_one_that_was_meant() {
    let sandbox =
        Sandbox::with("[project]\nname = \"shop\"\n[services.api]\ncommand = [\"api\"]\n");
    for words in [
        &["build", "--service", "apo"][..],
        &["deploy", "--service", "apo"],
        &["plan", "--service", "apo"],
        &["rollout", "report", "apo"],
        &["wait", "apo"],
    ] {
        let seen = sandbox.run(words);
        assert_eq!(seen.code, 64, "{seen:#?}");
        let said = &seen.stderr;
        assert!(said.contains("usage::unknown-service"), "{seen:#?}");
        assert!(said.contains("did you mean `api`?"), "{seen:#?}");
    }
    let seen = sandbox.run(&["rollout", "report", "api"]);
    assert!(seen.stderr.contains("rollout::no-report"), "{seen:#?}");
}

#[test]
fn a_code_is_explained_and_a_wrong_one_corrected() {
    let sandbox = Sandbox::empty();
    assert_snapshot!("explain", sandbox.platform(&["explain", "lock::held"]));
    assert_snapshot!(
        "explain_wrong",
        sandbox.platform(&["explain", "lock::hold"])
    );
    let all = sandbox.run(&["explain", "--format", "json"]).ok();
    let codes = all.line("codes")["codes"].as_array().expect("codes").len();
    assert!(100 < codes, "{codes}");
}

#[test]
fn completions_are_written_for_each_shell() {
    let sandbox = Sandbox::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let seen = sandbox.run(&["completions", shell]).ok();
        assert!(seen.stdout.contains("port-forward"), "{shell}");
    }
}

#[test]
fn without_a_blueprint_it_says_what_to_run() {
    assert_snapshot!(Sandbox::empty().platform(&["status"]));
}

#[test]
fn an_environment_that_is_not_there_is_a_misuse() {
    let sandbox = Sandbox::with(BLUEPRINT);
    assert_snapshot!(sandbox.platform(&["status", "-e", "prod"]));
}

#[test]
fn a_provider_that_is_not_carried_is_said() {
    let blueprint = format!("{BLUEPRINT}[environments.cloud]\nprovider = \"terraform\"\n");
    assert_snapshot!(Sandbox::with(&blueprint).platform(&["status"]));
}

#[test]
fn a_blueprint_is_found_upwards_and_named_from_here() {
    let sandbox = Sandbox::with(BLUEPRINT);
    sandbox.write("deep/down/nothing", "");
    let seen = sandbox.run(&["-C", "deep/down", "validate"]).ok();
    assert!(seen.stdout.contains("platform.toml: valid"), "{seen:#?}");
    assert_snapshot!(sandbox.platform(&["-C", "nowhere", "validate"]));
}

#[test]
fn the_same_stream_goes_to_the_event_file() {
    let sandbox = Sandbox::with(BLUEPRINT);
    let seen = sandbox
        .run(&["validate", "--events", "events.jsonl", "--color", "always"])
        .ok();
    assert!(seen.stdout.contains("\u{1b}["), "{seen:#?}");
    let kinds: Vec<String> = sandbox
        .read("events.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line["type"].as_str().expect("a type").to_owned())
        .collect();
    assert_eq!(kinds, ["version", "validation"]);
}

#[test]
fn colour_is_left_out_where_it_is_not_wanted() {
    let mut sandbox = Sandbox::with("[projet]\n");
    sandbox.set("NO_COLOR", "1");
    for arguments in [&["validate"][..], &["validate", "--color", "never"]] {
        let seen = sandbox.run(arguments);
        assert_eq!(seen.code, 65);
        assert!(!seen.stderr.contains('\u{1b}') && !seen.stdout.contains('\u{1b}'));
    }
    let seen = sandbox.run(&["validate", "--color", "always"]);
    assert!(seen.stderr.contains('\u{1b}'));
}

#[test]
fn doctor_looks_at_the_machine_even_without_a_project() {
    let seen = Sandbox::empty().run(&["doctor", "--format", "json", "--junit", "doctor.xml"]);
    assert_eq!(seen.code, 1);
    let checks = seen.line("doctor")["checks"].clone();
    let named = |name: &str| {
        let mut checks = checks.as_array().expect("checks").iter();
        checks.any(|check| check["name"] == name)
    };
    assert!(
        named("disk") && named("clock") && named("blueprint"),
        "{checks}"
    );
}
