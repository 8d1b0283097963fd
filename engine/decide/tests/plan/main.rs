//! Plans as text: what was observed, what is desired, and the steps between.

mod early;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use platform_blueprint::{Blueprint, ServiceName, Tls};
use platform_decide::desired::Desired;
use platform_decide::difference::Difference;
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, GroupId, Place};
use platform_decide::observed::{
    GatewaySeen, GroupSeen, InstanceSeen, InstanceState, Observed, ResourceSeen,
};
use platform_decide::plan::{Action, ChangeKind, Inputs, Member, Pace, Plan, plan};
use platform_decide::release::{Release, ReleaseNumber, ReleaseStatus};
use platform_decide::traffic::Share;

const TWO: &str = r#"
[project]
name = "shop"

[services.orders]
command = ["orders"]
port = 8080
needs = ["db"]
replicas = 2

[services.web]
command = ["web"]
port = 8081
needs = ["orders"]

[resources.db]
kind = "postgres"

[[routes]]
path = "/"
service = "web"
"#;

fn desired(text: &str) -> Desired {
    let blueprint = Blueprint::parse(text, "platform.toml")
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .blueprint;
    let resolved = blueprint.resolve(None).expect("an environment");
    let artifact = |name: &ServiceName| Artifact {
        key: Digest::of(name.as_str().as_bytes()),
        place: Place::Installed,
    };
    let artifacts = resolved
        .services
        .keys()
        .map(|name| (name.clone(), artifact(name)))
        .collect();
    Desired::new(&resolved, &artifacts, &BTreeMap::new()).expect("a desired state")
}

/// An environment that remembers what it was asked to run, as a target and its store do.
#[derive(Default)]
struct Scene {
    observed: Observed,
    current: Option<Release>,
    unfinished: Option<Release>,
    half_way: Vec<Member>,
    last: Option<ReleaseNumber>,
}

impl Scene {
    fn plan(&self, desired: &Desired) -> Plan {
        self.plan_at(desired, Pace::ByPolicy, None)
    }

    fn plan_at(&self, desired: &Desired, pace: Pace, back_to: Option<&Release>) -> Plan {
        plan(Inputs {
            desired,
            observed: &self.observed,
            current: self.current.as_ref(),
            unfinished: self.unfinished.as_ref(),
            half_way: &self.half_way,
            back_to,
            last: self.last,
            unbuilt: &BTreeSet::new(),
            pace,
        })
    }

    /// Applies a plan whole.
    fn apply(&mut self, plan: &Plan) {
        let mut release = plan.release.clone();
        release.status = ReleaseStatus::Active;
        self.last = self.last.max(Some(release.number));
        self.observed = Observed::default();
        for group in release.groups() {
            self.run(&group.id, &group.digest, group.replicas);
        }
        for (name, resource) in &release.resources {
            let seen = ResourceSeen {
                crash_looping: false,
                digest: resource.digest.clone(),
                ready: true,
                engine: "SQLite file".to_owned(),
                address: None,
                reason: None,
            };
            self.observed.resources.insert(name.clone(), seen);
        }
        self.observed.gateway = Some(GatewaySeen {
            url: "http://127.0.0.1:8080".to_owned(),
            ready: true,
            revision: 1,
            ingress: Digest::of_value(&release.ingress),
            splits: plan.traffic().splits,
            amiss: None,
        });
        self.current = Some(release);
        self.unfinished = None;
    }

    fn run(&mut self, group: &GroupId, digest: &Digest, replicas: u32) {
        let instances = (1..=replicas)
            .map(|number| InstanceSeen {
                id: format!("{group}.{number}"),
                state: InstanceState::Ready,
                address: None,
                handle: None,
                restarts: 0,
                started_at: None,
                last_exit: None,
                out_of_memory: false,
                reason: None,
                memory: None,
                zone: None,
            })
            .collect();
        let seen = GroupSeen {
            digest: digest.clone(),
            replicas,
            instances,
            changed: None,
        };
        self.observed.groups.insert(group.clone(), seen);
    }
}

fn deployed(text: &str) -> Scene {
    let mut scene = Scene::default();
    let first = scene.plan(&desired(text));
    scene.apply(&first);
    scene
}

/// The changes and steps of a plan, a line each; steps with what they come after.
fn text(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.release.number);
    for change in &plan.changes {
        let because: Vec<&str> = change.because.iter().map(|d| d.path.as_str()).collect();
        let _ = writeln!(text, "{:?}: {} {because:?}", change.kind, change.summary);
    }
    for step in &plan.steps {
        let after: Vec<&str> = match step.action {
            Action::Record => vec!["all"],
            _ => step.after.iter().map(|id| id.0.as_str()).collect(),
        };
        let _ = writeln!(text, "- {} after {after:?}", step.id);
    }
    text
}

#[test]
fn a_first_plan_goes_along_needs() {
    insta::assert_snapshot!(text(&Scene::default().plan(&desired(TWO))));
}

#[test]
fn the_same_again_is_nothing_to_do() {
    let scene = deployed(TWO);
    let again = scene.plan(&desired(TWO));
    assert!(again.is_empty(), "{}", text(&again));
    assert_eq!(again.release.number, ReleaseNumber(1));
}

#[test]
fn more_instances_are_no_new_version() {
    let more = desired(&TWO.replace("replicas = 2", "replicas = 5"));
    insta::assert_snapshot!(text(&deployed(TWO).plan(&more)));
}

#[test]
fn a_renewed_certificate_is_told_by_its_file_and_replaces_no_instance() {
    let mut wanted = desired(TWO);
    wanted.ingress.gateway.tls = Some(Tls {
        client_ca: Some("clients.pem".to_owned()),
        ..Tls::default()
    });
    let holding = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        let digests = BTreeMap::from([("clients.pem".to_owned(), digest.clone())]);
        let short = digest.short().to_owned();
        (wanted.clone().with_certificates(&digests), short)
    };
    let ((first, before), (second, after)) = (holding("first"), holding("second"));
    let mut scene = Scene::default();
    let plan = scene.plan(&first);
    scene.apply(&plan);
    assert!(scene.plan(&first).is_empty());
    let plan = scene.plan(&second);
    let expected = Difference {
        path: "certificates.clients.pem".to_owned(),
        before: Some(before),
        after: Some(after),
    };
    let told: Vec<&Difference> = plan.changes.iter().flat_map(|c| &c.because).collect();
    assert_eq!(told, [&expected]);
    let steps: Vec<&str> = plan.steps.iter().map(|step| step.id.0.as_str()).collect();
    assert_eq!(steps, ["gateway", "route early", "route", "record r2"]);
}

#[test]
fn a_changed_command_is_a_rollout() {
    let changed = desired(&TWO.replace("command = [\"orders\"]", "command = [\"orders\", \"-v\"]"));
    insta::assert_snapshot!(text(&deployed(TWO).plan(&changed)));
}

#[test]
fn other_zones_are_a_rollout_and_another_place_of_the_gateway_is_none() {
    let zoned = |zones: &str, own: &str| {
        let text = TWO.replace("replicas = 2", &format!("replicas = 2\nzones = {zones}"));
        format!("{text}\n[gateway]\nzone = \"{own}\"\n")
    };
    let scene = deployed(&zoned(r#"["a", "b"]"#, "a"));
    let told = |zones: &str, own: &str| {
        let plan = scene.plan(&desired(&zoned(zones, own)));
        let tell = |change: &platform_decide::plan::Change| {
            let paths: Vec<&str> = change.because.iter().map(|d| d.path.as_str()).collect();
            format!("{:?} {}", change.kind, paths.join(" "))
        };
        plan.changes.iter().map(tell).collect::<Vec<_>>()
    };
    assert_eq!(told(r#"["a", "b"]"#, "a"), [""; 0]);
    assert_eq!(told(r#"["a", "c"]"#, "a"), ["Replace zones"]);
    assert_eq!(told(r#"["a", "b"]"#, "b"), ["Update gateway.zone"]);
}

/// Every instance of a service is given up on.
fn given_up(scene: &mut Scene, service: &str) {
    for (id, seen) in &mut scene.observed.groups {
        if id.service.as_str() == service {
            for instance in &mut seen.instances {
                instance.state = InstanceState::CrashLooping;
            }
        }
    }
}

#[test]
fn what_does_not_serve_is_replaced_at_once_and_judges_nobody() {
    let changed = desired(&TWO.replace("[\"web\"]", "[\"web\", \"--new\"]"));
    let is_rollout = |plan: &Plan| {
        plan.steps
            .iter()
            .any(|step| matches!(step.action, Action::Rollout { .. }))
    };
    let mut scene = deployed(TWO);
    assert!(is_rollout(&scene.plan(&changed)));
    given_up(&mut scene, "web");
    let plan = scene.plan(&changed);
    assert!(!is_rollout(&plan), "{}", text(&plan));
    let early = plan.early_traffic(&scene.observed, scene.current.as_ref());
    let shares = |service: &str| {
        let service: ServiceName = service.parse().unwrap();
        early.splits[&service]
            .shares
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    // It takes over as soon as it is ready; who calls `orders` still meets the old one.
    assert_eq!(
        (shares("web"), shares("orders")),
        (vec!["web@r2".to_owned()], vec!["orders@r1".to_owned()])
    );

    // A first release that never came up is no measure for the second, even where a part of it is up.
    let mut scene = deployed(TWO);
    scene.unfinished = scene.current.take();
    let plan = scene.plan(&changed);
    assert!(!is_rollout(&plan), "{}", text(&plan));
}

#[test]
fn what_is_gone_from_the_blueprint_goes_against_needs_and_keeps_its_data() {
    let alone = r#"
[project]
name = "shop"

[services.about]
command = ["about"]
port = 8082

[[routes]]
path = "/"
service = "about"
"#;
    insta::assert_snapshot!(text(&deployed(TWO).plan(&desired(alone))));
}

#[test]
fn a_group_that_somebody_removed_is_started_again_under_its_name() {
    let mut scene = deployed(TWO);
    scene
        .observed
        .groups
        .remove(&"orders@r1".parse().expect("a group"));
    insta::assert_snapshot!(text(&scene.plan(&desired(TWO))));
}

#[test]
fn a_rollback_brings_the_old_version_back_at_once() {
    let mut scene = deployed(TWO);
    let first = scene.current.clone().expect("a release");
    let changed = desired(&TWO.replace("command = [\"web\"]", "command = [\"web\", \"-v\"]"));
    let second = scene.plan(&changed);
    scene.apply(&second);
    let back = scene.plan_at(&Desired::of_release(&first), Pace::AtOnce, Some(&first));
    assert_eq!(back.release.rollback_of, Some(ReleaseNumber(1)));
    insta::assert_snapshot!(text(&back));
}

#[test]
fn a_stopped_run_is_gone_on_with_by_the_same_blueprint_and_taken_back_by_the_old_one() {
    let mut scene = deployed(TWO);
    let changed = desired(&TWO.replace("command = [\"orders\"]", "command = [\"orders\", \"-v\"]"));
    let stopped = scene.plan(&changed);
    let half = stopped
        .group(&"orders@r2".parse().expect("a group"))
        .expect("the new group");
    scene.run(&half.id, &half.digest, 1);
    scene.last = Some(stopped.release.number);
    scene.unfinished = Some(stopped.release.clone());
    insta::assert_snapshot!(text(&scene.plan(&changed)));
    insta::assert_snapshot!(text(&scene.plan(&desired(TWO))));
}

/// As after a crash of the machine, or a stop of everything: the rollout goes on or is taken back, and nothing is promoted unjudged.
#[test]
fn a_rollout_of_which_nothing_runs_any_more_is_gone_on_with_or_taken_back() {
    let mut scene = deployed(TWO);
    let changed = desired(&TWO.replace("command = [\"orders\"]", "command = [\"orders\", \"-v\"]"));
    let stopped = scene.plan(&changed);
    scene.half_way = stopped.members().cloned().collect();
    scene.last = Some(stopped.release.number);
    scene.unfinished = Some(stopped.release);
    scene.observed = Observed::default();
    let forward = scene.plan(&changed);
    assert_eq!(
        forward.members().cloned().collect::<Vec<_>>(),
        scene.half_way
    );
    let early = forward.early_traffic(&scene.observed, scene.current.as_ref());
    let orders: GroupId = "orders@r1".parse().unwrap();
    assert_eq!(early.splits[&orders.service].share(&orders), Share::FULL);
    insta::assert_snapshot!(text(&forward));
    insta::assert_snapshot!(text(&scene.plan(&desired(TWO))));
    let another = TWO.replace("command = [\"orders\"]", "command = [\"orders\", \"-vv\"]");
    insta::assert_snapshot!(text(&scene.plan(&desired(&another))));
}

/// What a stopped run left is no measure for the next, also where it is newer than what serves.
#[test]
fn what_serves_is_replaced_and_not_what_a_stopped_run_left() {
    let mut scene = deployed(TWO);
    let with = |flag: &str| {
        let flagged = format!("command = [\"orders\", \"{flag}\"]");
        desired(&TWO.replace("command = [\"orders\"]", &flagged))
    };
    let left = scene.plan(&with("-v")).group(&"orders@r2".parse().unwrap());
    let left = left.expect("the new group");
    scene.run(&left.id, &left.digest, 1);
    scene.last = Some(ReleaseNumber(2));
    let next = scene.plan(&with("-vv"));
    let summary = &next.changes[0].summary;
    assert!(summary.starts_with("orders@r1 → orders@r3"), "{summary}");
}

#[test]
fn every_step_comes_after_steps_that_come_before_it() {
    let changed = TWO.replace("command = [\"orders\"]", "command = [\"orders\", \"-v\"]");
    let emptied = "[project]\nname = \"shop\"\n[services.about]\ncommand = [\"about\"]\n";
    let scenes = [
        (Scene::default(), TWO),
        (deployed(TWO), changed.as_str()),
        (deployed(TWO), emptied),
    ];
    for (scene, wanted) in scenes {
        let plan = scene.plan(&desired(wanted));
        let mut seen = BTreeSet::new();
        for step in &plan.steps {
            for before in &step.after {
                assert!(seen.contains(before), "{} comes after {before}", step.id);
            }
            seen.insert(step.id.clone());
        }
    }
}

#[test]
fn what_was_done_by_hand_is_told_and_put_right() {
    let check = |done: &dyn Fn(&mut Observed), told: &str| {
        let mut scene = deployed(TWO);
        done(&mut scene.observed);
        let plan = scene.plan(&desired(TWO));
        let [change] = plan.changes.as_slice() else {
            panic!("{}", text(&plan));
        };
        assert_eq!(
            (change.kind, change.summary.as_str()),
            (ChangeKind::Repair, told)
        );
    };
    let orders = "orders@r1".parse().expect("a group");
    check(
        &|seen| {
            let group = seen.groups.get_mut(&orders).expect("orders");
            group.digest = Digest::of(b"changed");
            group.changed = Some("changed by hand: its memory limit".to_owned());
        },
        "orders@r1 was changed by hand: its memory limit",
    );
    check(
        &|seen| {
            let group = seen.groups.get_mut(&orders).expect("orders");
            group.replicas -= 1;
        },
        "orders@r1 has lost instances: 1 of 2 are left",
    );
    check(
        &|seen| {
            let gateway = seen.gateway.as_mut().expect("a gateway");
            gateway.amiss = Some("it is paused".to_owned());
        },
        "it is paused",
    );
}

#[test]
fn a_service_without_instances_has_nothing_to_show() {
    let none = desired(&TWO.replace("replicas = 2", "replicas = 0"));
    let mut scene = deployed(TWO);
    let down = scene.plan(&none);
    scene.apply(&down);
    // Some targets know a group by its instances alone.
    let orders = "orders@r1".parse().expect("a group");
    scene.observed.groups.remove(&orders);
    let again = scene.plan(&none);
    assert!(again.is_empty(), "{}", text(&again));
    let up = scene.plan(&desired(TWO));
    let summaries: Vec<&str> = up.changes.iter().map(|c| c.summary.as_str()).collect();
    assert_eq!(summaries, ["orders@r1, 0 → 2 instances"]);
}

#[test]
fn a_change_to_no_instances_is_made_at_once_and_a_change_of_their_number_is_told() {
    let with = |flag: &str, replicas: u32| {
        let text = TWO.replace(
            "command = [\"orders\"]",
            &format!("command = [\"orders\", \"{flag}\"]"),
        );
        desired(&text.replace("replicas = 2", &format!("replicas = {replicas}")))
    };
    let mut scene = deployed(TWO);
    let none = scene.plan(&with("-v", 0));
    insta::assert_snapshot!(text(&none));
    scene.apply(&none);
    let orders: GroupId = "orders@r2".parse().expect("a group");
    assert_eq!(scene.observed.groups[&orders].replicas, 0);
    let again = scene.plan(&with("-v", 0));
    assert!(again.is_empty(), "{}", text(&again));

    // Also where an unfinished release is what the number changes of.
    let mut scene = deployed(TWO);
    let stopped = scene.plan(&with("-v", 1));
    scene.run(&orders, &stopped.group(&orders).expect("a group").digest, 1);
    scene.last = Some(stopped.release.number);
    scene.unfinished = Some(stopped.release);
    let next = scene.plan(&with("-v", 4));
    let told = next.changes[0]
        .because
        .iter()
        .find(|one| one.path == "replicas");
    let told = told.and_then(|one| Some((one.before.as_deref()?, one.after.as_deref()?)));
    assert_eq!(told, Some(("2", "4")));
}

#[test]
fn a_job_of_the_release_that_serves_does_not_run_again() {
    let shop = |log: &str| {
        format!(
            "[project]\nname = 'shop'\n\n[services.migrate]\ncommand = ['migrate']\nkind = 'job'\nreplicas = 2\n\
             env = {{ LOG = '{log}' }}\n\n[services.orders]\ncommand = ['orders']\nport = 8080\nneeds = ['migrate']\n"
        )
    };
    let starts = |plan: &Plan| {
        let groups = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Start { group, .. } => Some(group.to_string()),
            _ => None,
        });
        groups.collect::<Vec<_>>()
    };
    let job: GroupId = "migrate@r1".parse().unwrap();
    let mut scene = deployed(&shop("info"));
    let same = desired(&shop("info"));

    // Its instances are gone, one of them or all.
    let seen = scene.observed.groups.get_mut(&job).unwrap();
    seen.instances.pop();
    seen.replicas = 1;
    assert!(scene.plan(&same).is_empty(), "{}", text(&scene.plan(&same)));
    scene.observed.groups.remove(&job);
    assert!(scene.plan(&same).is_empty(), "{}", text(&scene.plan(&same)));
    // Everything was stopped.
    scene.observed.groups.clear();
    assert_eq!(starts(&scene.plan(&same)), ["orders@r1"]);

    // Another release runs its own, and until it serves, that is nothing that was done.
    let changed = desired(&shop("debug"));
    let next = scene.plan(&changed);
    assert_eq!(starts(&next), ["migrate@r2", "orders@r1"]);
    scene.unfinished = Some(next.release);
    assert_eq!(starts(&scene.plan(&changed)), ["migrate@r2", "orders@r1"]);
    // On the way back from it the one that serves has nothing to do again.
    let migrate = same.services.keys().next().unwrap().clone();
    let other: GroupId = format!("{migrate}@r2").parse().unwrap();
    let digest = changed.services[&migrate].digest.clone();
    scene.run(&other, &digest, 2);
    let back = scene.plan_at(&same, Pace::AtOnce, None);
    assert_eq!(starts(&back), ["orders@r1"]);
    assert!(text(&back).contains("remove migrate@r2"), "{}", text(&back));
}
