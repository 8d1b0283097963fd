//! Validating, formatting, describing blueprints.

use insta::assert_snapshot;

use crate::sandbox::Sandbox;

const GOOD: &str = r#"[project]
name = "shop"

[services.orders]
command = ["orders"]
port = 9000
needs = ["orders-db"]

[resources.orders-db]
kind = "postgres"

[[routes]]
path = "/"
service = "orders"

[environments.local]
provider = "process"

[environments.production]
provider = "kubernetes"
services.orders.replicas = 6
"#;

fn bad() -> Sandbox {
    Sandbox::with(&GOOD.replace("port = 9000", "prot = 9000\nreplicas = \"two\""))
}

#[test]
fn a_good_blueprint_is_summed_up() {
    let sandbox = Sandbox::with(GOOD);
    assert_snapshot!("valid", sandbox.platform(&["validate"]));
    assert_snapshot!(
        "valid_json",
        sandbox.platform(&["validate", "--format", "json"])
    );
    assert_snapshot!(
        "valid_one",
        sandbox.platform(&["validate", "-e", "production"])
    );
}

#[test]
fn every_problem_of_a_bad_one_is_shown() {
    assert_snapshot!("invalid", bad().platform(&["validate"]));
    assert_snapshot!(
        "invalid_json",
        bad().platform(&["validate", "--format", "json"])
    );
}

#[test]
fn other_commands_refuse_a_bad_one_the_same_way() {
    let seen = bad().run(&["status", "--format", "json"]);
    assert_eq!(seen.code, 65);
    assert_eq!(seen.line("diagnostic")["code"], "blueprint::unknown-key");
}

#[test]
fn problems_become_sarif_with_the_code_as_rule() {
    let sandbox = bad();
    let seen = sandbox.run(&["validate", "--sarif", "out.sarif", "--junit", "out.xml"]);
    assert_eq!(seen.code, 65);
    let sarif: serde_json::Value = serde_json::from_str(&sandbox.read("out.sarif")).expect("JSON");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "blueprint::unknown-key");
    assert_eq!(
        result["locations"][0]["physicalLocation"]["region"]["startLine"],
        6
    );
    let junit = sandbox.read("out.xml");
    assert!(
        junit.contains("name=\"platform.toml:6:") && junit.contains("<failure"),
        "{junit}"
    );
}

#[test]
fn problems_become_annotations_under_github_actions() {
    let mut sandbox = bad();
    sandbox.set("GITHUB_ACTIONS", "true");
    let seen = sandbox.run(&["validate"]);
    let annotations: Vec<&str> = seen
        .stderr
        .lines()
        .filter(|line| line.starts_with("::"))
        .collect();
    assert_snapshot!(sandbox.normal(&annotations.join("\n")));
}

#[test]
fn formatting_keeps_comments_and_is_checked_without_writing() {
    let ugly = "[project]\n# Ours.\nname='shop'   # the name\n";
    let sandbox = Sandbox::with(ugly);
    assert_snapshot!("fmt_check", sandbox.platform(&["fmt", "--check"]));
    assert_eq!(sandbox.read("platform.toml"), ugly);
    assert_snapshot!("fmt", sandbox.platform(&["fmt"]));
    let pretty = sandbox.read("platform.toml");
    assert!(
        pretty.contains("# Ours.") && pretty.contains("# the name"),
        "{pretty}"
    );
    sandbox.run(&["fmt", "--check"]).ok();
    let piped = sandbox.pipe(&["fmt", "-"], ugly).ok();
    assert_eq!(piped.stdout, pretty);
}

#[test]
fn what_is_no_toml_cannot_be_formatted() {
    assert_snapshot!(Sandbox::empty().piped(&["fmt", "-"], "[project\n"));
}

#[test]
fn the_schema_is_json_and_knows_the_sections() {
    let seen = Sandbox::empty().run(&["schema"]).ok();
    let schema: serde_json::Value = serde_json::from_str(&seen.stdout).expect("JSON");
    for section in ["project", "services", "resources", "routes", "environments"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}
