//! Servers that nobody here wrote, from the registries, in one blueprint.

use crate::sandbox::{eventually, free_port};
use crate::scaffold::{get, installed, workshop};

/// httpbin from `PyPI` under gunicorn, twice; http-server from npm; Debian's Caddy in front of both.
const BLUEPRINT: &str = r#"[project]
name = "foreign"

[services.httpbin]
build = { command = "python3 -m venv --clear venv && venv/bin/python -m pip install --quiet -r requirements.txt", folder = "httpbin", inputs = "requirements.txt", output = "venv" }
command = ["venv/bin/python", "-m", "gunicorn", "httpbin:app", "--bind", "${HOST}:${PORT}", "--workers", "1", "--graceful-timeout", "5"]
port = 9101
replicas = 2
health = { ready = "/status/204", live = "/status/204", start_within = "60s" }

[services.pages]
build = { command = "npm install --omit=dev --no-audit --no-fund --no-package-lock", folder = "pages", inputs = ["package.json", "public"], output = ["node_modules", "public"] }
command = ["node", "node_modules/http-server/bin/http-server", "public", "-a", "${HOST}", "-p", "${PORT}", "-s"]
port = 9102
health = { ready = "/", start_within = "60s" }

[services.edge]
command = ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
folder = "edge"
port = 9103
needs = ["httpbin", "pages"]
health = { ready = "/healthy", start_within = "30s" }

[gateway]
port = 0

[[routes]]
path = "/"
service = "edge"

[[routes]]
path = "/bin"
service = "httpbin"
rewrite = { path = "/" }
"#;

const CADDYFILE: &str = r"{
    admin off
    auto_https off
}

http://:{$PORT} {
    bind {$HOST}
    handle /healthy {
        respond 204
    }
    handle_path /through/* {
        reverse_proxy {$HTTPBIN_URL}
    }
    handle {
        reverse_proxy {$PAGES_URL}
    }
}
";

#[test]
fn servers_from_the_registries_run_side_by_side() {
    if !installed("foreign servers", &["python3", "node", "npm", "caddy"]) {
        return;
    }
    let sandbox = workshop();
    let port = free_port();
    sandbox.write(
        "platform.toml",
        &BLUEPRINT.replace("port = 0", &format!("port = {port}")),
    );
    sandbox.write(
        "httpbin/requirements.txt",
        "gunicorn==23.0.0\nhttpbin==0.10.2\nsetuptools<81\n",
    );
    sandbox.write(
        "pages/package.json",
        r#"{ "name": "pages", "private": true, "dependencies": { "http-server": "14.1.1" } }"#,
    );
    sandbox.write("pages/public/index.html", "<h1>pages</h1>");
    sandbox.write("edge/Caddyfile", CADDYFILE);
    sandbox.run(&["validate"]).ok();
    sandbox.run(&["deploy", "--yes"]).ok();

    assert_eq!(get(port, "/").body, "<h1>pages</h1>");
    assert_eq!(get(port, "/bin/get?x=1").json()["args"]["x"], "1");
    assert_eq!(get(port, "/through/anything/y").json()["method"], "GET");
    assert_eq!(get(port, "/bin/status/418").status, 418);
    let status = sandbox.run(&["status", "--format", "json"]).ok();
    let ready = status.stdout.matches("\"ready\"").count();
    assert!(
        ready >= 4,
        "two of httpbin and one of each other: {}",
        status.stdout
    );

    // A page changes: that service alone is built and replaced.
    sandbox.write("pages/public/index.html", "<h1>changed</h1>");
    let plan = sandbox.run(&["plan", "--format", "json"]).ok().stdout;
    assert!(
        plan.contains("pages@r2") && !plan.contains("httpbin@r2"),
        "{plan}"
    );
    sandbox.run(&["deploy", "--yes", "--rolling"]).ok();
    eventually("the new page is served", || {
        get(port, "/").body == "<h1>changed</h1>"
    });

    // A configuration that a command names changes: what runs with it is replaced.
    sandbox.write("edge/Caddyfile", &CADDYFILE.replace("/through/", "/via/"));
    sandbox.run(&["deploy", "--yes", "--rolling"]).ok();
    assert_eq!(get(port, "/via/anything/y").json()["method"], "GET");
    let plan = sandbox.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(plan.code, 0, "nothing is left to do: {plan:?}");
    sandbox.run(&["destroy", "--yes"]).ok();
}
