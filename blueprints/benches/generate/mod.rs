//! Makes blueprints of any size.

use std::fmt::Write as _;

/// How many layers of `needs` a generated blueprint has.
const LAYERS: usize = 5;

/// Writes a valid blueprint of `count` services in five layers, each with a
/// database for every tenth service, a route, health, limits, variables and an
/// environment that changes some of them.
pub(crate) fn generate(count: usize) -> String {
    let mut text = String::from("[project]\nname = \"generated\"\n");
    let layer = count.div_ceil(LAYERS).max(1);
    for number in 0..count {
        let mut needs = Vec::new();
        if number >= layer {
            needs.push(format!("\"service-{}\"", number - layer));
        }
        if number % 10 == 0 {
            needs.push(format!("\"database-{number}\""));
        }
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            r#"
[services.service-{number}]
build = {{ cargo = "service-{number}" }}
port = {port}
needs = [{needs}]
replicas = 2
health = {{ ready = "/health/ready", live = "/health/live", start_within = "30s" }}
limits = {{ cpu = 0.5, memory = "128MiB" }}
env = {{ LOG = "info", ADDRESS = "${{HOST}}:${{PORT}}", API_KEY = {{ secret = "api-key" }} }}
"#,
            port = 10_000 + number,
            needs = needs.join(", "),
        );
        if number % 10 == 0 {
            let _ = write!(
                text,
                "\n[resources.database-{number}]\nkind = \"postgres\"\n\
                 backup = {{ every = \"15m\", keep = 96 }}\n"
            );
        }
        let _ = write!(
            text,
            "\n[[routes]]\npath = \"/api/v1/service-{number}\"\nservice = \"service-{number}\"\n\
             rate_limit = {{ requests = 100, every = \"1s\", per = \"client\" }}\ntimeout = \"2s\"\n"
        );
    }
    text.push_str(
        "\n[rollout]\nstrategy = \"canary\"\nsteps = [\"1%\", \"5%\", \"25%\", \"50%\"]\n\n\
         [environments.local]\nprovider = \"process\"\n\n\
         [environments.production]\nprovider = \"kubernetes\"\n",
    );
    for number in (0..count).step_by(20) {
        let _ = writeln!(text, "services.service-{number}.replicas = 6");
    }
    text
}
