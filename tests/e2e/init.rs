//! What `init` and `new` write out builds, deploys and serves as written.

use crate::sandbox::{Sandbox, eventually, free_port};
use crate::scaffold::{get, installed, listen_on, post, run_in, workshop};

/// The states that `build` tells, by service.
fn states(sandbox: &Sandbox, arguments: &[&str]) -> Vec<(String, String)> {
    let mut all = vec!["build", "--format", "json"];
    all.extend(arguments);
    let shown = sandbox.run(&all).ok().line("artifacts");
    let rows = shown["artifacts"].as_array().expect("artifacts").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    rows.iter()
        .map(|row| (text(&row["service"]), text(&row["state"])))
        .collect()
}

fn is_gone(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn the_reference_project_builds_deploys_and_keeps_orders() {
    let sandbox = workshop();
    sandbox.run(&["init", "--name", "my-shop"]).ok();
    sandbox.run(&["validate"]).ok();
    sandbox.run(&["fmt", "--check"]).ok();
    let port = free_port();
    listen_on(&sandbox, port);
    let wanted = |state: &str| ["orders", "web"].map(|name| (name.to_owned(), state.to_owned()));
    assert_eq!(states(&sandbox, &["--dry-run"]), wanted("to build"));
    assert_eq!(states(&sandbox, &[]), wanted("built"));
    assert_eq!(states(&sandbox, &[]), wanted("unchanged"));

    sandbox.run(&["deploy", "--yes"]).ok();
    let page = get(port, "/");
    assert!(
        page.status == 200 && page.kind.starts_with("text/html"),
        "{page:?}"
    );
    let order = serde_json::json!({
        "customer": "Ada",
        "currency": "EUR",
        "items": [{ "sku": "tea", "quantity": 2, "unit_price": 450 }],
    });
    let placed = post(port, "/api/v1/orders", &order);
    assert_eq!(placed.status, 201, "{placed:?}");
    let id = placed.json()["id"].as_str().expect("an id").to_owned();
    let kept = || get(port, &format!("/api/v1/orders/{id}"));
    assert_eq!(kept().json()["customer"], "Ada");

    // A change of one service builds and replaces that one alone; what was stored stays.
    let main = sandbox.read("services/web/src/main.rs");
    sandbox.write(
        "services/web/src/main.rs",
        &format!("{main}\n// Changed.\n"),
    );
    let plan = sandbox.run(&["plan", "--format", "json"]).ok();
    assert!(
        plan.stdout.contains("web@r2") && !plan.stdout.contains("orders@r2"),
        "{plan:?}"
    );
    sandbox.run(&["deploy", "--yes", "--rolling"]).ok();
    assert_eq!(kept().json()["customer"], "Ada");

    sandbox.run(&["destroy", "--yes", "--data"]).ok();
    eventually("nothing listens any more", || is_gone(port));
}

#[test]
fn rust_templates_build_deploy_and_serve() {
    let sandbox = workshop();
    sandbox
        .run(&["init", "--template", "minimal", "--name", "tiny"])
        .ok();
    sandbox
        .run(&["new", "service", "site", "--template", "static"])
        .ok();
    sandbox.run(&["validate"]).ok();
    sandbox.run(&["fmt", "--check"]).ok();
    let port = free_port();
    listen_on(&sandbox, port);
    sandbox.run(&["deploy", "--yes"]).ok();
    let hello = get(port, "/?name=you");
    assert_eq!(hello.json()["message"], "hello you, this is hello");
    let page = get(port, "/site/");
    assert!(page.body.contains("<h1>site</h1>"), "{page:?}");
    assert_eq!(get(port, "/site/style.css").kind, "text/css; charset=utf-8");
    assert_eq!(get(port, "/site/nowhere").status, 404);

    // A page that is added is part of the next release.
    sandbox.write("services/site/public/about.html", "<h1>about</h1>");
    assert_eq!(
        states(&sandbox, &["--dry-run"]),
        [("hello", "unchanged"), ("site", "to build")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    sandbox.run(&["deploy", "--yes", "--rolling"]).ok();
    assert_eq!(get(port, "/site/about").body, "<h1>about</h1>");
    sandbox.run(&["destroy", "--yes"]).ok();
    eventually("nothing listens any more", || is_gone(port));
    run_in(
        &sandbox,
        ".",
        "cargo",
        &["test", "--release", "--workspace", "--quiet"],
    );
}

/// A project of one service from a template, deployed; then what it answers.
fn one_service(template: &str) -> Option<Sandbox> {
    let programs: &[&str] = match template {
        "fastapi" => &["python3"],
        _ => &["node", "npm"],
    };
    if !installed(&format!("the template {template}"), programs) {
        return None;
    }
    let sandbox = workshop();
    let port = free_port();
    sandbox.write(
        "platform.toml",
        &format!("# Mine.\n[project]\nname = \"one\"\n\n[gateway]\nport = {port}\n"),
    );
    sandbox
        .run(&["new", "service", "one", "--template", template])
        .ok();
    assert!(sandbox.read("platform.toml").starts_with("# Mine.\n"));
    sandbox.run(&["validate"]).ok();
    sandbox.run(&["fmt", "--check"]).ok();
    sandbox.run(&["deploy", "--yes"]).ok();
    let hello = get(port, "/?name=you");
    assert_eq!(hello.json()["message"], "hello you, this is one");
    let unchanged = [("one".to_owned(), "unchanged".to_owned())];
    assert_eq!(states(&sandbox, &[]), unchanged);
    sandbox.run(&["stop", "--yes"]).ok();
    eventually("nothing listens any more", || is_gone(port));
    // Its packages are there already, so it serves again at once.
    sandbox.run(&["deploy", "--yes"]).ok();
    assert_eq!(get(port, "/").status, 200);
    assert_eq!(
        states(&sandbox, &[]),
        unchanged,
        "running it does not change what was built"
    );
    sandbox.run(&["destroy", "--yes"]).ok();
    Some(sandbox)
}

#[test]
fn the_python_template_builds_deploys_and_serves() {
    let Some(sandbox) = one_service("fastapi") else {
        return;
    };
    run_in(
        &sandbox,
        "services/one",
        "python3",
        &["-m", "venv", ".venv"],
    );
    let python = ".venv/bin/python";
    let packages = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--requirement",
        "requirements-dev.txt",
    ];
    run_in(&sandbox, "services/one", python, &packages);
    run_in(
        &sandbox,
        "services/one",
        python,
        &["-m", "pytest", "--quiet"],
    );
}

#[test]
fn the_node_template_builds_deploys_and_serves() {
    let Some(sandbox) = one_service("express") else {
        return;
    };
    run_in(
        &sandbox,
        "services/one",
        "npm",
        &["ci", "--no-audit", "--no-fund"],
    );
    run_in(&sandbox, "services/one", "npm", &["test"]);
}

#[test]
fn nothing_is_ever_overwritten() {
    let sandbox = Sandbox::empty();
    sandbox.write("README.md", "mine");
    let refused = sandbox.run(&["init"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("template::in-the-way"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("README.md"), "{refused:?}");
    let there = std::fs::read_dir(sandbox.project())
        .expect("the folder")
        .count();
    assert_eq!(there, 1, "nothing was written");
    sandbox.run(&["init", "--keep", "--no-git"]).ok();
    assert_eq!(sandbox.read("README.md"), "mine");
    assert!(sandbox.read("platform.toml").contains("[services.orders]"));
    let again = sandbox.run(&["init", "--keep", "--template", "minimal"]);
    assert!(
        again.stderr.contains("template::project-exists"),
        "{again:?}"
    );
    let taken = sandbox.run(&["new", "service", "orders", "--template", "axum"]);
    assert!(
        taken.stderr.contains("template::service-exists"),
        "{taken:?}"
    );
}

#[test]
fn a_build_that_fails_shows_what_its_program_said() {
    let sandbox = Sandbox::with(
        "[project]\nname = \"x\"\n\n[services.api]\ncommand = [\"out\"]\n\
         build = { command = \"echo 'main.c:3: oops' >&2; exit 7\", output = \"out\" }\n",
    );
    let failed = sandbox.run(&["build"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    for said in ["main.c:3: oops", "build::failed", "exited with 7", "`api`"] {
        assert!(failed.stderr.contains(said), "{said}: {failed:?}");
    }
}
