//! An instance's life on an engine: hardened, handed its secrets, found again after whatever happens to it.

use platform_blueprint::{ByteSize, Check, Limits, Period, ServiceKind};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState};
use platform_port::{LogQuery, Party, SecretValue, SecretValues, Target};

use futures::StreamExt;
use futures::future::join_all;

use crate::world::{WITHIN, World, docker, end, traffic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_hardened_and_its_secrets_are_its_own() {
    let Some(world) = World::new("hard") else {
        return;
    };
    let mut service = World::service(&["say=hello"]);
    service.limits = Limits {
        memory: Some(ByteSize::from_mib(64)),
        ..Limits::default()
    };
    service.env = serde_json::from_value(serde_json::json!({
        "TOKEN": { "secret": "token" },
        "KEY": { "secret": "token", "as": "file" },
        "PLAIN": "port ${PORT}",
    }))
    .expect("variables");
    let mut orders = world.group("orders@r1", 1, service);
    orders.spec.secrets = [("token".parse().expect("a name"), 1)].into();
    let secrets = SecretValues::from([(
        "token".parse().expect("a name"),
        SecretValue::new("hunter2"),
    )]);
    world.front(&orders.id).await;
    let started = world.target.ensure_group(&orders, &secrets).await;
    started.expect("a group");
    world.until_ready(&orders).await;

    assert_eq!(world.ask("/env/TOKEN").await, (200, "hunter2".to_owned()));
    assert_eq!(world.ask("/env/KEY").await.1, "/dev/shm/secrets/KEY");
    assert_eq!(world.ask("/file/dev/shm/secrets/KEY").await.1, "hunter2");
    assert_eq!(world.ask("/env/PLAIN").await.1, "port 8080");
    assert!(world.ask("/write/app/x").await.1.contains("Read-only"));
    assert!(world.ask("/write/run/handed/x").await.1.contains("denied"));
    let name = world.container("orders-r1-1");
    let inspected = docker(&["inspect", &name]);
    assert!(!inspected.contains("hunter2"), "a secret is shown");
    let seen: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let host = &seen[0]["HostConfig"];
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(seen[0]["Config"]["User"], "65532:65532");
    let mounted = docker(&[
        "exec",
        &name,
        "/app/program",
        "service",
        "say=x",
        "exit-after=0",
    ]);
    assert_eq!(mounted, "x");
    let handed = [
        "exec",
        &name,
        "stat",
        "-c",
        "%a %u:%g",
        "/run/handed/orders@r1.1.json",
    ];
    assert_eq!(docker(&handed), "440 0:65532");
    let status = world.ask("/file/proc/1/status").await.1;
    for none in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(none), "{none} in {status}");
    }

    // It comes back with its secrets and its address, with nobody of ours there.
    let address = |seen: &platform_decide::observed::GroupSeen| seen.instances[0].address.clone();
    let before = address(&world.until_ready(&orders).await);
    docker(&["restart", "-t", "1", &name]);
    let after = address(&world.until_ready(&orders).await);
    assert_eq!(before, after);
    assert_eq!(world.ask("/env/TOKEN").await, (200, "hunter2".to_owned()));
    let query = LogQuery {
        parties: vec![Party::Service("orders".parse().expect("a name"))],
        ..LogQuery::default()
    };
    let lines = world.target.logs(&query).await.expect("logs");
    let lines: Vec<String> = lines.map(|line| line.expect("a line").text).collect().await;
    assert_eq!(lines, ["hello", "hello"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_an_instance_is_seen_and_mended() {
    let Some(world) = World::new("mend") else {
        return;
    };
    let orders = world.group("orders@r1", 2, World::service(&[]));
    world.front(&orders.id).await;
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let (first, second) = (
        world.container("orders-r1-1"),
        world.container("orders-r1-2"),
    );

    // It dies: the engine starts it again.
    end(&first);
    world
        .until("a restart", |seen| {
            seen.groups.values().any(|group| group.restarts() == 1)
        })
        .await;
    world.until_ready(&orders).await;

    // Paused: it is told, gets no requests, and is woken.
    docker(&["pause", &first]);
    let paused = world.until_state(&orders, InstanceState::Unready).await;
    assert_eq!(paused.reason.as_deref(), Some("it is paused"));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;

    // Removed by hand: one is missing, and comes again.
    docker(&["rm", "-f", &second]);
    let seen = world.target.observe().await.expect("a look");
    assert_eq!(seen.groups[&orders.id].replicas, 1);
    world.ensure(&orders).await;
    world.until_ready(&orders).await;

    // Renamed and paused: it is told, has its name back where it is, and is woken.
    let id = || docker(&["inspect", "-f", "{{.Id}} {{.State.Paused}}", &first]);
    let before = id();
    let other = format!("{first}-other");
    docker(&["rename", &first, &other]);
    docker(&["pause", &other]);
    let seen = world.target.observe().await.expect("a look");
    let group = &seen.groups[&orders.id];
    assert_ne!(group.digest, orders.digest);
    let told = format!("renamed by hand to `{other}`");
    assert_eq!(group.changed.as_deref(), Some(told.as_str()));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    assert_eq!(id(), before);

    // Changed by hand: the group is not what was asked for, until it is replaced.
    docker(&["update", "--memory", "32m", "--memory-swap", "64m", &first]);
    let seen = world.target.observe().await.expect("a look");
    let group = &seen.groups[&orders.id];
    assert_ne!(group.digest, orders.digest);
    let reason = group.instances[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("memory limit"), "{reason}");
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let left = docker(&["ps", "-aq", "--filter", &format!("name={first}")]);
    assert_eq!(left, "");

    // Its network taken away by hand.
    let network = format!("{}_docker", world.project);
    for name in docker(&["ps", "-q", "--filter", &format!("network={network}")]).lines() {
        docker(&["network", "disconnect", "-f", &network, name]);
    }
    docker(&["network", "rm", &network]);
    let seen = world.target.observe().await.expect("a look");
    assert_ne!(seen.groups[&orders.id].digest, orders.digest);
    world.front(&orders.id).await;
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    assert_eq!(world.ask("/").await.0, 200);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_told_as_they_were() {
    let Some(world) = World::new("ends") else {
        return;
    };
    let mut job = World::service(&["exit-after=10:0"]);
    job.port = None;
    job.health.ready = None;
    job.kind = ServiceKind::Job;
    let done = world.group("orders@r1", 1, job.clone());
    world.ensure(&done).await;
    world.until_state(&done, InstanceState::Completed).await;
    job.command = World::service(&["exit-after=10:3"]).command;
    let failed = world.group("orders@r2", 1, job);
    world.ensure(&failed).await;
    let seen = world.until_state(&failed, InstanceState::Failed).await;
    assert_eq!(seen.last_exit.as_deref(), Some("exit code 3"));

    let mut crashing = World::service(&["exit-after=10:7"]);
    crashing.restart.crash_loop = 2;
    let crashing = world.group("orders@r3", 1, crashing);
    world.ensure(&crashing).await;
    let seen = world
        .until_state(&crashing, InstanceState::CrashLooping)
        .await;
    assert!(seen.restarts >= 2, "{seen:?}");

    // Once, so that it stays as the kernel left it.
    let mut leaking = World::service(&["leak=200"]);
    leaking.limits.memory = Some(ByteSize::from_mib(48));
    leaking.port = None;
    leaking.health.ready = None;
    leaking.kind = ServiceKind::Job;
    let leaking = world.group("orders@r4", 1, leaking);
    world.ensure(&leaking).await;
    let seen = world.until_state(&leaking, InstanceState::Failed).await;
    assert!(seen.out_of_memory, "{seen:?}");
    assert_eq!(seen.last_exit.as_deref(), Some("out of memory"));

    let mut absent = World::service(&[]);
    absent.command = vec!["/app/nothing".to_owned()];
    absent.restart.crash_loop = 1;
    let absent = world.group("orders@r5", 1, absent);
    world.ensure(&absent).await;
    // The engine forgets how one ended while it runs again.
    world
        .until("it to end for want of a program", |seen| {
            seen.groups.get(&absent.id).is_some_and(|group| {
                group.instances.iter().any(|one| {
                    one.state == InstanceState::CrashLooping
                        && one.last_exit.as_deref() == Some("exit code 127")
                })
            })
        })
        .await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ran_out_of_memory_is_known_for_it_when_it_serves_again() {
    let Some(world) = World::new("memory") else {
        return;
    };
    let mut leaking = World::service(&[]);
    leaking.limits.memory = Some(ByteSize::from_mib(48));
    let leaking = world.group("orders@r1", 1, leaking);
    world.front(&leaking.id).await;
    world.ensure(&leaking).await;
    world.until_ready(&leaking).await;
    assert!(world.ask("/leak").await.0 >= 500, "it lives on");
    let seen = world
        .until("another life", |seen| {
            let mut instances = seen.groups.values().flat_map(|group| &group.instances);
            instances.any(|one| one.restarts > 0 && one.state == InstanceState::Ready)
        })
        .await;
    let [one] = &seen.groups[&leaking.id].instances[..] else {
        panic!("another one: {seen:?}");
    };
    assert!(one.out_of_memory, "{one:?}");
    assert_eq!(one.last_exit.as_deref(), Some("out of memory"));
    world.down().await;
}

/// A service that is asked by a command, which fails once there is a file. It may start for longer than any test waits.
fn commanded() -> platform_blueprint::Service {
    let mut service = World::service(&[]);
    service.health.ready = Some(Check::Command {
        command: ["test", "!", "-e", "/tmp/sick"].map(str::to_owned).into(),
    });
    service.health.failures = 2;
    service.health.start_within = Period::from_secs(600);
    service
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_by_command_that_fails_after_it_passed_is_no_start() {
    let Some(world) = World::new("command") else {
        return;
    };
    let mut worker = commanded();
    worker.port = None;
    let worker = world.group("orders@r1", 1, worker);
    world.ensure(&worker).await;
    world.until_ready(&worker).await;
    docker(&[
        "exec",
        &world.container("orders-r1-1"),
        "touch",
        "/tmp/sick",
    ]);
    let seen = world.until_state(&worker, InstanceState::Unready).await;
    let reason = seen.reason.as_deref();
    assert_eq!(reason, Some("its health check does not pass"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_passes_a_check_by_command_gets_requests() {
    let Some(world) = World::new("commanded") else {
        return;
    };
    let service = world.group("orders@r1", 1, commanded());
    world.front(&service.id).await;
    world.ensure(&service).await;
    world.until_ready(&service).await;
    assert_eq!(world.ask("/env/PORT").await, (200, "8080".to_owned()));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_of_less_than_a_second_is_a_grace() {
    let Some(world) = World::new("grace") else {
        return;
    };
    let mut service = World::service(&[]);
    service.stop.grace = Period::from_millis(900);
    let orders = world.group("orders@r1", 1, service);
    world.front(&orders.id).await;
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let name = world.container("orders-r1-1");
    let format = "{{.Config.StopTimeout}}";
    assert_eq!(docker(&["inspect", "-f", format, &name]), "1");
    // One request is under way when it is taken down.
    let port = world.port;
    let asked = tokio::spawn(platform_testkit::scene::ask(port, "/slow/500"));
    while world.ask("/file/tmp/slow").await.1 != "begun" {}
    let removed = world.target.remove_group(&orders.id).await;
    removed.expect("it is taken down");
    let answer = asked.await.expect("asked").expect("an answer");
    assert_eq!(answer, (200, "at last".to_owned()));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_leaves_nothing_behind() {
    let Some(world) = World::new("unstarted") else {
        return;
    };
    let mut service = World::service(&[]);
    service.user = Some("nobody-knows-whom".to_owned());
    let group = world.group("orders@r1", 3, service);
    let left = || {
        let own = format!("label=platform.project={}", world.project);
        docker(&[
            "ps",
            "-aq",
            "--filter",
            &own,
            "--filter",
            "label=platform.group",
        ])
    };
    let none = SecretValues::new();
    for _ in 0..2 {
        let tried = world.target.ensure_group(&group, &none);
        let error = tried.await.expect_err("there is no such user");
        let said = error.source.to_string();
        assert!(said.contains("nobody-knows-whom"), "{said}");
        assert_eq!(left(), "");
    }
    world.down().await;
}

/// An engine permits several networks of a name, and no lock keeps those apart who make what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_who_make_the_network_at_once_one_is_left() {
    let Some(world) = World::new("network") else {
        return;
    };
    let groups = ["orders@r1", "orders@r2", "orders@r3", "orders@r4"];
    let groups = groups.map(|id| world.group(id, 1, World::service(&[])));
    let own = format!("label=platform.project={}", world.project);
    let none = SecretValues::new();
    for _ in 0..4 {
        let prepare = groups.iter().map(|group| {
            let (target, none) = (world.another(), &none);
            async move { target.prepare_group(group, none).await }
        });
        for prepared in join_all(prepare).await {
            prepared.unwrap_or_else(|error| panic!("{error}: {}", error.source));
        }
        let networks = docker(&["network", "ls", "-q", "--filter", &own]);
        assert_eq!(networks.lines().count(), 1, "{networks}");
        let range = "{{range .IPAM.Config}}{{.IPRange}}{{end}}";
        let range = docker(&["network", "inspect", "-f", range, &networks]);
        assert!(range.contains('/'), "{range}");
        // A container that does not run does not hold it.
        docker(&["network", "rm", &networks]);
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_more_than_are_wanted_the_healthy_stay() {
    let Some(world) = World::new("sick") else {
        return;
    };
    let mut orders = world.group("orders@r1", 3, World::service(&[]));
    world.front(&orders.id).await;
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    docker(&["pause", &world.container("orders-r1-1")]);
    world.until_state(&orders, InstanceState::Unready).await;
    orders.replicas = 2;
    world.ensure(&orders).await;
    let seen = world.target.observe().await.expect("a look");
    let mut left: Vec<&str> = Vec::new();
    for one in &seen.groups[&orders.id].instances {
        assert_eq!(one.state, InstanceState::Ready, "{one:?}");
        left.push(&one.id);
    }
    assert_eq!(left, ["orders@r1.2", "orders@r1.3"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_stand_in_zones_whoever_of_them_is_lost() {
    let Some(world) = World::new("zones") else {
        return;
    };
    let mut service = World::service(&[]);
    service.zones = ["a", "b"].map(|zone| zone.parse().expect("a name")).into();
    let mut orders = world.group("orders@r1", 3, service);
    world.target.ensure_gateway().await.expect("a gateway");
    let mut traffic = traffic(world.port, &orders.id);
    traffic.ingress.gateway.zone = Some("b".parse().expect("a name"));
    let routed = world.target.route(&traffic, &SecretValues::new()).await;
    routed.expect("it is routed");
    world.ensure(&orders).await;
    let stand = |seen: &GroupSeen| {
        let place = |one: &InstanceSeen| {
            let zone = one.zone.as_ref().map(ToString::to_string);
            format!("{} {}", one.id, zone.unwrap_or_default())
        };
        seen.instances.iter().map(place).collect::<Vec<_>>()
    };
    let seen = world.until_ready(&orders).await;
    assert_eq!(
        stand(&seen),
        ["orders@r1.1 a", "orders@r1.2 b", "orders@r1.3 a"]
    );
    let label = "{{index .Config.Labels \"platform.zone\"}}";
    let second = world.container("orders-r1-2");
    assert_eq!(docker(&["inspect", "-f", label, &second]), "b");
    for _ in 0..20 {
        assert_eq!(world.ask("/env/PLATFORM_ZONE").await, (200, "b".to_owned()));
    }

    // Nobody of its zone is left, so another answers once the gateway has found that out.
    docker(&["rm", "-f", &second]);
    docker(&["pause", &world.container("orders-r1-1")]);
    world.until_state(&orders, InstanceState::Unready).await;
    let elsewhere =
        async { while world.ask("/env/PLATFORM_ZONE").await != (200, "a".to_owned()) {} };
    let answered = tokio::time::timeout(WITHIN, elsewhere).await;
    answered.expect("the other zone answers");

    // Of two the healthy one stays, and the other stands in the zone that has none.
    orders.replicas = 2;
    world.ensure(&orders).await;
    let seen = world.until_ready(&orders).await;
    assert_eq!(stand(&seen), ["orders@r1.2 b", "orders@r1.3 a"]);
    for _ in 0..20 {
        assert_eq!(world.ask("/env/PLATFORM_ZONE").await, (200, "b".to_owned()));
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_longer_lives_is_ended_and_started_anew() {
    let Some(world) = World::new("live") else {
        return;
    };
    let mut fading = World::service(&["live-for=1500"]);
    fading.health.live = Some(Check::Http("/live".to_owned()));
    fading.health.failures = 2;
    let fading = world.group("orders@r1", 1, fading);
    world.front(&fading.id).await;
    world.ensure(&fading).await;
    let first = world.until_ready(&fading).await;
    assert_eq!(first.instances[0].restarts, 0);
    world
        .until("another life", |seen| {
            seen.groups.get(&fading.id).is_some_and(|group| {
                group
                    .instances
                    .iter()
                    .any(|one| one.restarts > 0 && one.state == InstanceState::Ready)
            })
        })
        .await;
    let query = LogQuery::default();
    let lines = world.target.logs(&query).await.expect("logs");
    let lines: Vec<String> = lines.map(|line| line.expect("a line").text).collect().await;
    let told = "`live` failed 2 times in a row, so the service is ended: /live answered 500";
    assert!(lines.iter().any(|line| line == told), "{lines:?}");
    // What lives is told to stop in its own way, through the one that stands beside it.
    let mut patient = World::service(&["say=up"]);
    patient.health.live = Some(Check::Command {
        command: vec!["/bin/true".to_owned()],
    });
    patient.stop.grace = Period::from_secs(30);
    let patient = world.group("orders@r2", 1, patient);
    world.ensure(&patient).await;
    world.until_state(&patient, InstanceState::Ready).await;
    let begun = std::time::Instant::now();
    let name = world.container("orders-r2-1");
    docker(&["stop", &name]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    let code = docker(&["inspect", "-f", "{{.State.ExitCode}}", &name]);
    assert_eq!(code, "0");
    world.down().await;
}
