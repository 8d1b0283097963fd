//! Day-to-day verbs against services that really run.

mod asked;
mod reached;
mod stopped;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;

use crate::responder::{self, ask};
use crate::sandbox::{Sandbox, eventually, exists, free_port};

/// A project of two responders behind the gateway.
struct Shop {
    sandbox: Sandbox,
    port: u16,
}

impl Shop {
    fn new() -> Self {
        let port = free_port();
        let sandbox = Sandbox::empty();
        let shop = Self { sandbox, port };
        shop.answers("hello");
        shop
    }

    /// Has the service `api` answer this, from the next deploy on.
    fn answers(&self, answer: &str) {
        let command = responder::command();
        let port = self.port;
        let text = format!(
            r#"[project]
name = "shop"

[services.api]
command = {command}
port = 9000
replicas = 2
needs = ["db"]
health = {{ ready = "/health", start_within = "10s" }}
env = {{ RESPOND = "{answer}" }}

[services.web]
command = {command}
port = 9001
needs = ["api"]
health = {{ ready = "/health", start_within = "10s" }}
env = {{ RESPOND = "page" }}

[resources.db]
kind = "postgres"

[gateway]
port = {port}

[[routes]]
path = "/api"
service = "api"

[[routes]]
path = "/"
service = "web"
"#
        );
        self.sandbox.write("platform.toml", &text);
    }

    fn deployed() -> Self {
        let shop = Self::new();
        shop.sandbox.run(&["deploy", "--yes"]).ok();
        shop
    }
}

#[test]
fn before_the_first_deploy_nothing_is_there_and_all_say_so() {
    let shop = Shop::new();
    assert_snapshot!("empty_status", shop.sandbox.platform(&["status"]));
    assert_snapshot!("empty_releases", shop.sandbox.platform(&["releases"]));
    assert_snapshot!("empty_runs", shop.sandbox.platform(&["runs"]));
    assert_snapshot!(
        "empty_drift",
        shop.sandbox.platform(&["drift", "--detailed-exitcode"])
    );
    assert_snapshot!("empty_wait", shop.sandbox.platform(&["wait"]));
    assert_snapshot!("empty_unlock", shop.sandbox.platform(&["unlock"]));
    let seen = shop.sandbox.run(&["status", "--detailed-exitcode"]);
    assert_eq!(seen.code, 2, "{seen:#?}");
    let seen = shop.sandbox.run(&["rollback", "--yes", "--format", "json"]);
    assert_eq!(seen.code, 1, "{seen:#?}");
    assert_eq!(seen.line("diagnostic")["code"], "release::none");
    // What is to be stopped is, as for `destroy`.
    let seen = shop.sandbox.run(&["stop", "--yes"]).ok();
    assert!(seen.stderr.contains("nothing to stop"), "{seen:#?}");
    let seen = shop.sandbox.run(&["runs", "show", "--format", "json"]);
    assert_eq!(seen.line("diagnostic")["code"], "run::unknown", "{seen:#?}");
    // Whoever looks, or asks for what cannot be, leaves no trace.
    assert!(!exists(&shop.sandbox.project().join(".platform")));
}

#[test]
fn what_runs_is_seen_waited_for_and_found_without_drift() {
    let shop = Shop::deployed();
    let sandbox = &shop.sandbox;
    assert_eq!(ask(shop.port, "/api/x").as_deref(), Some("hello r1\n"));
    assert_eq!(ask(shop.port, "/").as_deref(), Some("page r1\n"));
    let status = sandbox
        .run(&["status", "--format", "json", "--detailed-exitcode"])
        .ok()
        .line("status");
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["release"]["number"], "r1");
    assert_eq!(status["services"][0]["ready"], 2);
    assert_eq!(status["resources"]["db"]["ready"], true);
    let shown = sandbox.run(&["status"]).ok().stdout;
    for text in ["SERVICE", "api", "2/2", "ready", "RESOURCE", "db"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    let waited = sandbox
        .run(&["wait", "--timeout", "20s", "--junit", "wait.xml"])
        .ok();
    assert!(waited.stderr.contains("all is ready"), "{waited:#?}");
    assert!(sandbox.read("wait.xml").contains("name=\"api\""));
    let drift = sandbox
        .run(&["drift", "--detailed-exitcode", "--format", "json"])
        .ok();
    assert_eq!(drift.line("change_summary")["drifted"], 0);
    let unknown = sandbox
        .run(&["wait", "appi", "--format", "json"])
        .line("diagnostic");
    assert_eq!(unknown["help"], "did you mean `api`?");
}

#[test]
fn releases_and_runs_tell_what_changed() {
    let shop = Shop::deployed();
    let sandbox = &shop.sandbox;
    shop.answers("goodbye");
    sandbox.run(&["deploy", "--yes"]).ok();
    assert_eq!(ask(shop.port, "/api").as_deref(), Some("goodbye r2\n"));
    let releases = sandbox
        .run(&["releases", "--format", "json"])
        .ok()
        .line("releases");
    assert_eq!(releases["current"], "r2");
    assert_eq!(
        releases["releases"][1]["changed"],
        serde_json::json!(["api"])
    );
    let shown = sandbox.run(&["releases", "show", "r2"]).ok().stdout;
    assert!(
        shown.contains("~ services.api.env.RESPOND: hello -> goodbye"),
        "{shown}"
    );
    let runs = sandbox.run(&["runs", "--format", "json"]).ok().line("runs");
    let [_, second] = runs["runs"].as_array().expect("runs").as_slice() else {
        panic!("two runs in {runs:#}");
    };
    let id = second["run"].as_str().expect("an id");
    let run = sandbox
        .run(&["runs", "show", id, "--format", "json"])
        .ok()
        .line("run");
    assert_eq!(
        (&run["ending"], &run["release"]),
        (&"done".into(), &"r2".into())
    );
    for newest in [&["runs", "show"][..], &["runs", "show", "last"]] {
        let arguments = [newest, &["--format", "json"]].concat();
        assert_eq!(sandbox.run(&arguments).ok().line("run")["run"], id);
    }
    let none = sandbox.run(&["releases", "show", "r9", "--format", "json"]);
    assert_eq!(none.line("diagnostic")["code"], "release::unknown");
}

#[test]
fn logs_are_tailed_followed_and_told_apart() {
    let shop = Shop::deployed();
    let sandbox = &shop.sandbox;
    ask(shop.port, "/api/first");
    eventually("the log has the request", || {
        sandbox
            .run(&["logs", "api", "--raw"])
            .ok()
            .stdout
            .contains("asked for GET /api/first")
    });
    let lines = sandbox
        .run(&["logs", "--service", "api", "--format", "json"])
        .ok()
        .lines();
    let logs: Vec<_> = lines.iter().filter(|line| line["type"] == "log").collect();
    assert!(
        !logs.is_empty() && logs.iter().all(|line| line["service"] == "api"),
        "{lines:#?}"
    );
    let none = sandbox
        .run(&["logs", "--since", "2100-01-01T00:00:00Z"])
        .ok();
    assert_eq!(none.stdout, "");
    let mut following = sandbox.start(&["logs", "api", "-f", "--tail", "0"]);
    // Nobody tells when following has begun, so requests go on until one is seen.
    let over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ask(shop.port, "/api/second");
                thread::sleep(Duration::from_millis(50));
            }
        });
        let seen = following.until("/api/second");
        over.store(true, Ordering::Relaxed);
        seen
    });
    assert!(seen.contains("api@r1."), "{seen}");
    let ended = following.end("-INT");
    assert_eq!(ended.code, 0, "{ended:#?}");
}

#[test]
fn who_may_open_too_few_files_is_told_before_anything_is_begun() {
    let mut shop = Shop::new();
    shop.sandbox.limit_open_files(20);
    let refused = shop.sandbox.run(&["deploy", "--format", "json"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    let told = refused.line("diagnostic");
    assert_eq!(told["code"], "preflight::open-files", "{told}");
    let message = told["message"].as_str().expect("a message");
    assert!(message.contains("no more than 20 files"), "{message}");
    let lines = refused.lines();
    let begun = lines.iter().any(|line| line["type"] == "apply_start");
    assert!(!begun, "{refused:#?}");
}

#[test]
fn a_place_that_drift_is_to_ignore_has_to_be_there() {
    let shop = Shop::deployed();
    let drift = |place: &str| {
        let arguments = ["drift", "--format", "json", "--ignore", place];
        shop.sandbox.run(&arguments)
    };
    for place in [
        "services.api",
        "services.*.env.RESPOND",
        "services.api.env.ADDED_BY_HAND",
        "services.*.replicas",
        "services.*",
        "gateway.routes[/api].timeout",
        "resources.db",
        "*",
    ] {
        drift(place).ok();
    }
    for (place, there) in [
        (
            "services.apii",
            "`gateway`, `resources.db`, `services.api`, `services.web`",
        ),
        ("services.api.replcas", "`replicas`"),
        ("api", "`services.api`"),
    ] {
        let seen = drift(place);
        assert_eq!(seen.code, 64, "{place}: {seen:#?}");
        let told = seen.line("diagnostic");
        assert_eq!(told["code"], "usage::unknown-place", "{told}");
        let help = told["help"].as_str().expect("what there is");
        assert!(help.contains(there), "{place}: {help}");
    }
}

#[test]
fn who_wants_quiet_is_told_the_release_alone() {
    let shop = Shop::new();
    let quiet = |arguments: &[&str]| {
        let seen = shop.sandbox.run(&[&["-q"], arguments].concat()).ok();
        (seen.stdout, seen.stderr)
    };
    let told = |release: &str| (format!("{release}\n"), String::new());
    let nothing = (String::new(), String::new());
    assert_eq!(quiet(&["validate"]), nothing);
    assert_eq!(quiet(&["deploy"]), told("r1"));
    shop.answers("goodbye");
    assert!(quiet(&["plan"]).0.contains("hello → goodbye"));
    assert_eq!(quiet(&["deploy"]), told("r2"));
    assert_eq!(quiet(&["wait"]), nothing);
    assert_eq!(quiet(&["rollback"]), told("r3"));
    assert_eq!(quiet(&["stop"]), nothing);
}

#[test]
fn who_moves_the_gateway_is_told_whom_that_leaves_behind() {
    let shop = Shop::deployed();
    let moved = Shop {
        port: free_port(),
        sandbox: shop.sandbox,
    };
    moved.answers("hello");
    let words = format!(
        "the gateway leaves 127.0.0.1:{} for 127.0.0.1:{}",
        shop.port, moved.port
    );
    for verb in ["plan", "deploy"] {
        let seen = moved.sandbox.run(&[verb, "--format", "json"]).ok();
        let told = seen.line("diagnostic");
        assert_eq!(told["code"], "preflight::address-left", "{told}");
        assert_eq!(told["severity"], "warning");
        let message = told["message"].as_str().expect("a message");
        assert!(message.starts_with(&words), "{message}");
    }
    // That is what becomes of them.
    assert_eq!(ask(moved.port, "/api").as_deref(), Some("hello r1\n"));
    eventually("nobody listens on the old port", || {
        ask(shop.port, "/api").is_none()
    });
    let again = moved.sandbox.run(&["plan"]).ok();
    assert!(!again.stderr.contains("address-left"), "{again:#?}");
}

#[test]
fn a_rollback_that_only_a_secret_is_in_the_way_of_says_so() {
    let shop = Shop::new();
    let text = shop.sandbox.read("platform.toml");
    let secret = r#"RESPOND = { secret = "greeting" }"#;
    let text = text.replace(r#"RESPOND = "hello""#, secret);
    shop.sandbox.write("platform.toml", &text);
    for greeting in ["good", "bad"] {
        let set = ["secrets", "set", "greeting"];
        shop.sandbox.pipe(&set, greeting).ok();
        shop.sandbox.run(&["deploy", "--yes"]).ok();
    }
    let refused = shop.sandbox.run(&["rollback", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    let told = &refused.stderr;
    assert!(told.contains("rollback::only-secrets"), "{refused:#?}");
    assert!(told.contains("`greeting`"), "{refused:#?}");
    // With more that differs it goes back, and says what does not.
    shop.sandbox.write(
        "platform.toml",
        &text.replace("replicas = 2", "replicas = 1"),
    );
    shop.sandbox.run(&["deploy", "--yes"]).ok();
    let back = shop.sandbox.run(&["rollback", "r1", "--yes"]).ok();
    assert!(
        back.stderr.contains("`greeting` changed since r1"),
        "{back:#?}"
    );
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let sandbox = Sandbox::empty();
    let full = || std::fs::File::create("/dev/full").expect("a full device");
    let status = sandbox.command(&["schema"]).stdout(full()).status();
    assert_eq!(status.expect("the program runs").code(), Some(1));
    // Whoever closes the pipe has seen enough.
    let mut gone = sandbox.start(&["schema"]);
    drop(gone.child().stdout.take());
    assert_eq!(gone.end("-0").code, 0);
}

#[test]
fn watching_goes_on_until_told_to_stop() {
    let shop = Shop::deployed();
    let mut watching = shop
        .sandbox
        .start(&["status", "--watch", "--format", "json"]);
    watching.until("\"type\":\"status\"");
    let ended = watching.end("-INT");
    assert_eq!(ended.code, 0, "{ended:#?}");
}
