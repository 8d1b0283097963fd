//! Keys that other tools know, and what to write here.

/// Keys of a service as Compose has them, and what to write here.
const OF_COMPOSE: &[(&str, &str)] = &[
    (
        "depends_on",
        "write `needs = [\"…\"]`: what is ready before it starts",
    ),
    ("environment", "write `env = { NAME = \"…\" }`"),
    (
        "env_file",
        "write the variables as `env = { NAME = \"…\" }`, and secrets as `{ secret = \"…\" }`",
    ),
    (
        "ports",
        "write the last number as `port`, where the program listens, and a route that leads there",
    ),
    ("expose", "write `port = 8080`, where the program listens"),
    ("healthcheck", "write `health = { ready = \"/health\" }`"),
    ("entrypoint", "write `command = [\"…\"]`"),
    ("cmd", "write `command = [\"…\"]`"),
    ("working_dir", "write `folder = \"…\"`"),
    ("scale", "write `replicas = 2`"),
    (
        "deploy",
        "write `replicas = 2` and `limits = { memory = \"128MiB\" }`",
    ),
    ("stop_grace_period", "write `stop = { grace = \"10s\" }`"),
    ("secrets", "write `env = { NAME = { secret = \"…\" } }`"),
];

/// What to write for a key that other tools know.
pub(crate) fn foreign_key(key: &str, expected: &[&str]) -> Option<&'static str> {
    let of_service = expected.contains(&"replicas") && expected.contains(&"needs");
    let known = OF_COMPOSE.iter().find(|(theirs, _)| *theirs == key);
    if let Some((_, here)) = known.filter(|_| of_service) {
        return Some(here);
    }
    let of_build = expected.contains(&"dockerfile") && expected.contains(&"image_with");
    (of_build && key == "context").then_some(
        "here `dockerfile` is the folder that is the context, and `file` the Dockerfile in it: \
         `{ dockerfile = \"app\", file = \"Dockerfile\" }`",
    )
}
