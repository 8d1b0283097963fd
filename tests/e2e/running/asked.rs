//! What is asked on a terminal, and what becomes of the answer.

use super::Shop;
use crate::terminal::Asking;

#[test]
fn the_word_to_stop_is_heard_while_a_question_is_asked() {
    let shop = Shop::deployed();
    let asked = Asking::until(&shop.sandbox, &["destroy"]);
    let ended = asked.running.end("-INT");
    assert_eq!(ended.code, 130, "{ended:#?}");
    assert!(shop.sandbox.run(&["status"]).ok().stdout.contains("api"));
}

#[test]
fn what_is_agreed_to_in_a_fresh_environment_is_planned_once() {
    let shop = Shop::new();
    let text = shop.sandbox.read("platform.toml");
    let guarded =
        format!("{text}\n[environments.local]\nprovider = \"process\"\nprotected = true\n");
    shop.sandbox.write("platform.toml", &guarded);
    let (deployed, seen) = Asking::until(&shop.sandbox, &["-vv", "deploy"]).agree();
    deployed.ok();
    let plans = seen.lines().filter(|line| line.contains("planned"));
    let plans: Vec<&str> = plans.collect();
    assert_eq!(plans.len(), 1, "{plans:#?}");
    shop.sandbox.run(&["wait", "--timeout", "20s"]).ok();
}
