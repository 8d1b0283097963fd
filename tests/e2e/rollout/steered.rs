//! A rollout under way: steered from another terminal, met by another deploy, gone on with after a kill.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shop::{CANARY, ROLLING, Shop, harm};
use super::users::{Answers, Users};
use crate::sandbox::{Running, eventually};

/// A rollout that is serving its first step, paused, so that it stays there.
fn paused(shop: &Shop) -> (Running, Users) {
    shop.wants("", "second");
    let users = shop.users();
    let deploy = shop.sandbox.start(&["deploy", "--yes"]);
    eventually("it is under way", || {
        shop.sandbox.run(&["rollout", "pause"]).code == 0
    });
    eventually("it is paused", || shop.status()["paused_by"].is_string());
    (deploy, users)
}

#[test]
fn another_terminal_steers_it() {
    let shop = Shop::with(CANARY);
    let (deploy, users) = paused(&shop);
    // Twice is once.
    shop.sandbox.run(&["rollout", "pause"]).ok();
    shop.sandbox.run(&["rollout", "resume"]).ok();
    assert!(shop.status()["paused_by"].is_null());
    let again = shop.sandbox.run(&["rollout", "resume"]).ok();
    assert!(again.stderr.contains("it is not paused"), "{again:#?}");
    shop.sandbox.run(&["rollout", "abort", "--wait"]).ok();
    let ended = deploy.end("-0");
    assert_eq!(ended.code, 10, "{ended:#?}");
    shop.stands_on("r1");
    assert_eq!(harm(&users.end(), ""), Answers::new());
    for verb in ["pause", "resume", "next", "promote", "abort"] {
        let none = shop.sandbox.run(&["rollout", verb]);
        assert_eq!(none.code, 1, "{none:#?}");
        assert!(none.stderr.contains("rollout::none"), "{none:#?}");
    }
}

#[test]
fn it_is_sent_to_its_end_without_waiting() {
    let shop = Shop::with(CANARY);
    let (deploy, users) = paused(&shop);
    shop.sandbox.run(&["rollout", "promote", "--wait"]).ok();
    deploy.end("-0").ok();
    shop.stands_on("r2");
    assert_eq!(harm(&users.end(), ""), Answers::new());
}

#[test]
fn a_deploy_meets_a_rollout_and_refuses_waits_or_takes_its_place() {
    let shop = Shop::with(CANARY);
    let (deploy, users) = paused(&shop);
    shop.wants("", "third");
    let refused = shop.sandbox.run(&["deploy", "--yes"]);
    assert_eq!(refused.code, 75, "{refused:#?}");
    for said in [
        "rollout::under-way",
        "the canary rollout of r2",
        "--wait",
        "--replace",
        "tester@",
    ] {
        assert!(refused.stderr.contains(said), "`{said}` in {refused:#?}");
    }
    let both = shop
        .sandbox
        .run(&["deploy", "--yes", "--wait", "--replace"]);
    assert_eq!(both.code, 64, "{both:#?}");

    let replaced = shop.sandbox.run(&["deploy", "--yes", "--replace"]).ok();
    assert!(replaced.stderr.contains("taking back"), "{replaced:#?}");
    let first = deploy.end("-0");
    assert_eq!(first.code, 10, "{first:#?}");
    shop.stands_on("r3");
    assert_eq!(harm(&users.end(), ""), Answers::new());
}

#[test]
fn a_deploy_waits_for_a_rollout_and_a_rollback_does_not() {
    let shop = Shop::with(CANARY);
    let (deploy, users) = paused(&shop);
    let mut waits = shop.sandbox.start(&["deploy", "--yes", "--wait"]);
    waits.until_told("waiting until the canary rollout of r2");
    let back = shop.sandbox.run(&["rollback", "--yes"]).ok();
    assert!(back.stderr.contains("taking back"), "{back:#?}");
    let first = deploy.end("-0");
    assert_eq!(first.code, 10, "{first:#?}");
    // What it waited for is over, so it deploys what the blueprint asks for.
    waits.end("-0").ok();
    shop.stands_on("r3");
    assert_eq!(harm(&users.end(), ""), Answers::new());
}

#[test]
fn killed_half_way_it_is_gone_on_with_or_taken_back() {
    for (next, end) in [
        (["deploy", "--yes"].as_slice(), "r2"),
        (&["rollout", "resume"], "r2"),
        (&["rollout", "status", "--resume"], "r2"),
        (&["rollout", "promote"], "r2"),
        (&["rollout", "abort"], "r1"),
        (&["rollback", "--yes"], "r1"),
    ] {
        let shop = Shop::with(CANARY);
        shop.wants("", "second");
        let users = shop.users();
        let deploy = shop.sandbox.start(&["deploy", "--yes"]);
        eventually("both serve", || shop.status()["phase"] == "serving");
        deploy.end("-KILL");
        let status = shop.status();
        assert_eq!(status["driver"], Value::Null, "{status:#}");
        assert_eq!(status["over"], false, "{status:#}");
        let deaf = shop.sandbox.run(&["rollout", "pause"]);
        assert!(deaf.stderr.contains("rollout::no-driver"), "{deaf:#?}");
        shop.sandbox.run(next).ok();
        shop.stands_on(end);
        assert_eq!(harm(&users.end(), ""), Answers::new(), "{next:?}");
        let ended = if end == "r1" {
            "rolled-back"
        } else {
            "promoted"
        };
        let status = shop.status();
        assert_eq!(status["phase"], ended, "{next:?}: {status:#}");
        let words = ["rollout", "report", "--format", "json"];
        let report = shop.sandbox.run(&words).ok().line("rollout_report")["report"].clone();
        let told = (&report["release"], &report["ended"]);
        assert_eq!(told, (&"r2".into(), &ended.into()), "{next:?}: {report:#}");
    }
}

/// A canary that stays at its steps until it is sent on.
const SLOWLY: &str = r#"strategy = "canary"
steps = ["25%", "50%"]
hold = "10m"
at_most = "1h"
"#;

/// The same where every change is asked about.
const GUARDED: &str = r#"strategy = "canary"
steps = ["25%", "50%"]
hold = "10m"
at_most = "1h"

[environments.local]
provider = "process"
protected = true
"#;

#[test]
fn whoever_aborts_is_asked_nothing_whether_its_run_lives_or_not() {
    let shop = Shop::with(GUARDED);
    let serves = |tag: &str| {
        shop.wants("", tag);
        let deploy = shop.sandbox.start(&["deploy", "--yes"]);
        eventually("both serve", || shop.status()["phase"] == "serving");
        deploy
    };
    let alive = serves("second");
    shop.sandbox.run(&["rollout", "abort", "--wait"]).ok();
    assert_eq!(alive.end("-0").code, 10);
    serves("third").end("-KILL");
    let seen = shop.sandbox.run(&["rollout", "abort"]).ok();
    assert!(
        seen.stderr.contains("this run goes back to r1"),
        "{seen:#?}"
    );
    shop.stands_on("r1");
    let seen = shop.sandbox.run(&["releases", "--format", "json"]).ok();
    let releases = seen.line("releases")["releases"].clone();
    let statuses = releases.as_array().expect("releases").iter();
    let statuses: Vec<&Value> = statuses.map(|release| &release["status"]).collect();
    assert_eq!(statuses, ["active", "rolled-back", "rolled-back"]);

    let promoted = serves("fourth");
    shop.sandbox.run(&["rollout", "promote", "--wait"]).ok();
    promoted.end("-0").ok();
    let refused = shop.sandbox.run(&["rollback"]);
    assert_eq!(refused.code, 64, "{refused:#?}");
    assert!(
        refused.stderr.contains("Go back to r1 in `local`?"),
        "{refused:#?}"
    );
    shop.sandbox.run(&["rollback", "--yes"]).ok();
    shop.stands_on("r1");
}

#[test]
fn a_rollout_that_nobody_decides_ends_with_the_time_of_its_run() {
    let shop = Shop::with(SLOWLY);
    shop.wants("", "second");
    let seen = shop.sandbox.run(&["deploy", "--yes", "--timeout", "15s"]);
    assert_eq!(seen.code, 13, "{seen:#?}");
    for said in [
        "no request in 10 s",
        "rollout::out-of-time",
        "it had not ended within the 15s of `--timeout`",
    ] {
        assert!(seen.stderr.contains(said), "`{said}` in {seen:#?}");
    }
    shop.stands_on("r1");
}

#[test]
fn whoever_goes_back_to_what_was_taken_back_is_told_why_and_asked() {
    let shop = Shop::with(CANARY);
    let (deploy, users) = paused(&shop);
    shop.sandbox.run(&["rollout", "abort", "--wait"]).ok();
    assert_eq!(deploy.end("-0").code, 10);
    let refused = shop.sandbox.run(&["rollback", "r2"]);
    assert_eq!(refused.code, 64, "{refused:#?}");
    for said in [
        "rollback::taken-back",
        "r2 was taken back: tester@",
        "asked for it",
        "usage::needs-yes",
        "Go back to r2 in `local`,",
        "--yes",
    ] {
        assert!(refused.stderr.contains(said), "`{said}` in {refused:#?}");
    }
    shop.stands_on("r1");
    let told = shop.sandbox.run(&["rollback", "r2", "--yes"]).ok();
    assert!(told.stderr.contains("r2 was taken back"), "{told:#?}");
    shop.stands_on("r2");
    // Nothing is known against one that had served well.
    shop.sandbox.run(&["rollback", "r1"]).ok();
    shop.stands_on("r1");
    assert_eq!(harm(&users.end(), ""), Answers::new());
}

/// The version that answers each of many clients behind a proxy.
fn met(shop: &Shop) -> BTreeMap<u8, String> {
    let client = |number: u8| {
        let version = shop.answered_by(&format!("x-forwarded-for: 10.7.0.{number}\r\n"));
        (number, version)
    };
    (1..=80).map(client).collect()
}

#[test]
fn users_stay_with_the_release_they_met_and_may_choose() {
    let shop = Shop::with(SLOWLY);
    shop.wants("", "second");
    let users = shop.users();
    let deploy = shop.sandbox.start(&["deploy", "--yes"]);
    let serving = |stage: u64| {
        let status = shop.status();
        status["phase"] == "serving" && status["stage_number"] == stage
    };
    eventually("both serve", || serving(1));
    // The state is saved before the gateway is told.
    eventually("the new one can be chosen", || {
        shop.answered_by("x-platform-release: new\r\n") == "r2"
    });
    for (chooses, version) in [
        ("x-platform-release: new\r\n", "r2"),
        ("x-platform-release: old\r\n", "r1"),
        ("cookie: a=b; platform-release=new\r\n", "r2"),
        ("cookie: platform-release=old\r\n", "r1"),
    ] {
        for _ in 0..5 {
            assert_eq!(shop.answered_by(chooses), version, "{chooses}");
        }
    }
    let first = met(&shop);
    assert_eq!(met(&shop), first, "each stays where it was");
    let new = |met: &BTreeMap<u8, String>| met.values().filter(|one| *one == "r2").count();
    assert!(
        (5..40).contains(&new(&first)),
        "{} of 80 at 25 %",
        new(&first)
    );
    shop.sandbox.run(&["rollout", "next"]).ok();
    eventually("half of them are on either side", || serving(2));
    let second = met(&shop);
    assert!(new(&second) > new(&first), "{first:?} {second:?}");
    for (client, version) in &first {
        if version == "r2" {
            assert_eq!(second[client], "r2", "client {client} went back and forth");
        }
    }
    shop.sandbox.run(&["rollout", "abort", "--wait"]).ok();
    assert_eq!(deploy.end("-0").code, 10);
    shop.stands_on("r1");
    assert_eq!(harm(&users.end(), ""), Answers::new());
    report_for_people_and_ci(&shop);
}

#[track_caller]
fn report_for_people_and_ci(shop: &Shop) {
    let seen = shop
        .sandbox
        .run(&["rollout", "report", "--junit", "rollout.xml"])
        .ok();
    for said in ["# ", "rolled back", "asked for it", "| orders"] {
        assert!(seen.stdout.contains(said), "`{said}` in {seen:#?}");
    }
    let junit = shop.sandbox.read("rollout.xml");
    for said in ["<testsuites", "<failure", "asked for it"] {
        assert!(junit.contains(said), "`{said}` in {junit}");
    }
}

#[test]
fn who_watches_sees_it_line_by_line_and_as_json() {
    let shop = Shop::with(CANARY);
    let (deploy, users) = paused(&shop);
    let mut watch = shop.sandbox.start(&["rollout", "status", "--watch"]);
    watch.until("paused by tester@");
    let page = shop.sandbox.run(&["rollout", "status"]).ok();
    for said in ["GROUP", "orders@r2", "orders@r1", "rollout resume"] {
        assert!(page.stdout.contains(said), "`{said}` in {page:#?}");
    }
    shop.sandbox.run(&["rollout", "abort", "--wait"]).ok();
    deploy.end("-0");
    watch.end("-0").ok();
    drop(users);
}

#[test]
fn who_watches_from_before_the_rollout_sees_all_of_it() {
    let shop = Shop::with(ROLLING);
    shop.wants("", "second");
    let job = "[services.first]\nkind = \"job\"\ncommand = [\"sh\", \"-c\", \"touch began; until [ -e go ]; do sleep 0.1; done\"]\n\n[services.orders]";
    let text = shop.sandbox.read("platform.toml");
    let text = text.replace("[services.orders]", job);
    let text = text.replace("needs = [", "needs = [\"first\", ");
    shop.sandbox.write("platform.toml", &text);
    let deploy = shop.sandbox.start(&["deploy", "--yes"]);
    let began = shop.sandbox.project().join("began");
    eventually("the job runs", || began.exists());
    let mut watch = shop.sandbox.start(&["rollout", "status", "--watch"]);
    watch.until_told("no rollout of it has begun yet");
    shop.sandbox.write("go", "");
    watch.until("batch 2 of 2");
    // What a new instance has taken the place of is not missed.
    let page = shop.sandbox.run(&["status"]).ok();
    assert!(!page.stdout.contains("missing"), "{page:#?}");
    deploy.end("-0").ok();
    watch.end("-0").ok();
}
