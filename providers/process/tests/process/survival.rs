//! What is killed, harmed, or done twice at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use platform_decide::observed::InstanceState;
use platform_port::{SecretValues, Target};

use crate::world::{World, alive, example, group, kill_9, pid_of, service};

#[tokio::test]
async fn an_agent_that_is_killed_has_a_successor_that_adopts() {
    let world = World::new();
    let orders = group("orders@r1", 2, service(&[]));
    world.ensure(&orders).await;
    let before = world.until_ready(&orders).await;
    let agent = world.agent_pid();
    kill_9(agent);
    world.another_agent(agent).await;
    let after = world.until_ready(&orders).await;
    let pids = |seen: &platform_decide::observed::GroupSeen| -> Vec<i32> {
        seen.instances.iter().map(pid_of).collect()
    };
    assert_eq!(pids(&before), pids(&after));

    // What it adopted it supervises: an end is seen, with its exit code, and mended.
    let pid = pid_of(&after.instances[0]);
    kill_9(pid);
    let seen = world
        .until("a restart", |seen| {
            let group = &seen.groups[&orders.id];
            group.restarts() == 1 && group.settled()
        })
        .await;
    let one = &seen.groups[&orders.id].instances[0];
    assert_eq!(one.last_exit.as_deref(), Some("signal 9"));
    world.down().await;
}

#[tokio::test]
async fn a_keeper_that_is_killed_has_a_successor() {
    let world = World::new();
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    let pid = pid_of(&world.until_ready(&orders).await.instances[0]);
    let (agent, keeper) = (world.agent_pid(), world.keeper_pid());
    kill_9(keeper);
    world.another_agent(agent).await;
    assert_ne!(world.keeper_pid(), keeper);
    let seen = world.until_ready(&orders).await;
    assert_eq!(pid_of(&seen.instances[0]), pid);
    world.down().await;
}

#[tokio::test]
async fn with_both_killed_records_tell_and_the_next_agent_adopts() {
    let world = World::new();
    let orders = group("orders@r1", 2, service(&[]));
    world.ensure(&orders).await;
    let before = world.until_ready(&orders).await;
    let (agent, keeper) = (world.agent_pid(), world.keeper_pid());
    kill_9(keeper);
    kill_9(agent);
    let dead = || !alive(agent) && !alive(keeper);
    while !dead() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The agent may have called a new keeper in before it died, in which case there is nothing to look at without one.
    let seen = world.target.observe().await.expect("it can be observed");
    assert_eq!(seen.groups[&orders.id].replicas, 2);

    // One dies unseen; the other is adopted.
    kill_9(pid_of(&before.instances[1]));
    world.ensure(&orders).await;
    let after = world
        .until("both to be ready", |seen| {
            seen.groups.get(&orders.id).is_some_and(|seen| {
                seen.settled()
                    && seen.instances.len() == 2
                    && seen.instances[1].handle != before.instances[1].handle
            })
        })
        .await;
    let after = &after.groups[&orders.id];
    assert_eq!(pid_of(&after.instances[0]), pid_of(&before.instances[0]));
    assert_ne!(pid_of(&after.instances[1]), pid_of(&before.instances[1]));
    world.down().await;
}

#[tokio::test]
async fn a_reused_process_id_is_never_touched() {
    let world = World::new();
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    world.target.stop().await.expect("it stops");
    // As after a crash of the machine: a record whose number now is somebody else's.
    let mut bystander = std::process::Command::new("sleep")
        .arg("100")
        .spawn()
        .expect("a bystander");
    let own = std::fs::read_to_string(format!("/proc/{}/stat", bystander.id())).expect("a stat");
    let start: u64 = own
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .expect("a start time");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let folder = world.state().join("instances/orders@r1.1");
    fs::create_dir_all(&folder).expect("a folder");
    let record = serde_json::json!({
        "process": { "boot": boot.trim(), "pid": bystander.id(), "start": start - 1 },
        "ready": true,
    });
    fs::write(folder.join("record.json"), record.to_string()).expect("a record");
    world.ensure(&orders).await;
    let seen = world.until_ready(&orders).await;
    assert_ne!(pid_of(&seen.instances[0]), bystander.id().cast_signed());
    world
        .target
        .remove_group(&orders.id)
        .await
        .expect("it is removed");
    assert!(
        bystander.try_wait().expect("a look").is_none(),
        "the bystander lives"
    );
    bystander.kill().expect("it can be ended");
    bystander.wait().expect("its end");
    world.down().await;
}

#[tokio::test]
async fn strays_without_a_record_are_ended() {
    let world = World::new();
    let mut stray = std::process::Command::new("sleep")
        .arg("100")
        .env("PLATFORM_STATE_TAG", world.target.layout().tag())
        .env("PLATFORM_INSTANCE", "ghost@r1.1")
        .spawn()
        .expect("a stray");
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let status = stray.wait().expect("its end");
    assert!(!status.success());
    world.down().await;
}

#[tokio::test]
async fn a_damaged_state_file_is_set_aside_and_the_one_before_is_used() {
    let world = World::new();
    let orders = group("orders@r1", 1, service(&[]));
    let web = group("web@r1", 1, service(&[]));
    world.ensure(&orders).await;
    world.ensure(&web).await;
    world.until_ready(&web).await;
    let pid = pid_of(&world.until_ready(&orders).await.instances[0]);
    let path = world.state().join("desired.json");
    let mut bytes = fs::read(&path).expect("the file");
    bytes.truncate(bytes.len() / 2);
    let agent = world.agent_pid();
    fs::write(&path, bytes).expect("harm");
    kill_9(agent);
    world.another_agent(agent).await;
    let seen = world.until_ready(&orders).await;
    assert_eq!(pid_of(&seen.instances[0]), pid);
    let names: Vec<String> = fs::read_dir(world.state())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("desired.json.damaged-")),
        "{names:?}"
    );
    let findings = world.target.doctor().await;
    assert!(
        findings.iter().any(|one| one.code == "state::damaged"),
        "{findings:?}"
    );
    world.down().await;
}

#[tokio::test]
async fn of_two_agents_for_one_folder_one_works() {
    let world = World::new();
    let second = World::target_in(world.folder.path(), example("agent"));
    let (orders, web) = (
        group("orders@r1", 1, service(&[])),
        group("web@r1", 1, service(&[])),
    );
    let none = SecretValues::new();
    let (one, two) = tokio::join!(
        world.target.ensure_group(&orders, &none),
        second.ensure_group(&web, &none)
    );
    one.expect("the first is taken in");
    two.expect("the second is taken in");
    world.until_ready(&orders).await;
    world.until_ready(&web).await;
    let agents = || {
        fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
            .filter(|line| line.contains(&world.state().display().to_string()))
            .filter(|line| line.contains(" agent --state"))
            .count()
    };
    // The second one looks for the lock for a while before it leaves.
    let begun = std::time::Instant::now();
    while agents() > 1 {
        assert!(begun.elapsed() < crate::world::WITHIN, "both agents stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.down().await;
}

/// A deploy that was killed may leave an agent behind that is only about to start.
#[tokio::test]
async fn an_agent_that_comes_late_does_not_outlive_what_it_was_for() {
    let world = World::new();
    world.ensure(&group("orders@r1", 1, service(&[]))).await;
    let words = fs::read(format!("/proc/{}/cmdline", world.agent_pid())).expect("its words");
    let words = String::from_utf8(words).expect("text");
    let mut words = words.split_terminator('\0');
    let late = || {
        let mut command = tokio::process::Command::new(words.clone().next().expect("a program"));
        command.kill_on_drop(true);
        command
    };
    let mut waiting = late();
    let mut after = late();
    words.next();
    let mut waiting = waiting.args(words.clone()).spawn().expect("an agent");
    let files = format!("/proc/{}/fd", waiting.id().expect("its number"));
    let has_lock = || {
        let links = fs::read_dir(&files).into_iter().flatten().flatten();
        links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|path| path.ends_with("agent.lock"))
    };
    let begun = std::time::Instant::now();
    while !has_lock() {
        assert!(
            begun.elapsed() < crate::world::WITHIN,
            "it never looks for the lock"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let state = world.state();
    world.down().await;
    let end = waiting.wait().await.expect("its end");
    assert_eq!(end.code(), Some(75), "it goes, and is not started again");
    let end = after.args(words).status().await.expect("its end");
    assert_eq!(end.code(), Some(75));
    assert!(!state.exists(), "the state folder is there again");
}

#[tokio::test]
async fn another_build_of_the_agent_takes_over_without_a_restart() {
    let world = World::new();
    let copy = world.folder.path().join("other-agent");
    fs::copy(example("agent"), &copy).expect("a copy");
    let newer = World::target_in(world.folder.path(), copy);
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    let pid = pid_of(&world.until_ready(&orders).await.instances[0]);
    let agent = world.agent_pid();
    newer
        .ensure_group(&orders, &SecretValues::new())
        .await
        .expect("it is taken in");
    assert_ne!(world.agent_pid(), agent);
    assert_eq!(pid_of(&world.until_ready(&orders).await.instances[0]), pid);
    newer.stop().await.expect("it stops");
    world.down().await;
}

#[tokio::test]
async fn a_state_folder_that_takes_no_writes_is_said_before_anything() {
    if nix::unistd::geteuid().is_root() {
        // Root writes anywhere but where nobody can.
        let target = World::target_in(std::path::Path::new("/proc"), example("agent"));
        let orders = group("orders@r1", 1, service(&[]));
        let error = target
            .ensure_group(&orders, &SecretValues::new())
            .await
            .expect_err("it cannot be written");
        assert!(error.code.starts_with("state::"), "{error:?}");
        return;
    }
    let world = World::new();
    let closed = fs::Permissions::from_mode(0o500);
    fs::set_permissions(world.folder.path(), closed).expect("permissions");
    let orders = group("orders@r1", 1, service(&[]));
    let error = world
        .target
        .ensure_group(&orders, &SecretValues::new())
        .await
        .expect_err("it cannot be written");
    assert_eq!(error.code, "state::read-only");
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_lost() {
    let world = World::new();
    let state = world.folder.path().join(".platform");
    let Some(_mounted) = Mounted::small(&state) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let ballast = state.join("ballast");
    let _ = fs::write(&ballast, vec![0; 2 << 20]);
    let web = group("web@r1", 1, service(&[]));
    let refused = world.target.ensure_group(&web, &SecretValues::new()).await;
    let code = refused.expect_err("there is no room").code;
    let _ = fs::remove_file(&ballast);
    world.ensure(&web).await;
    world.until_state(&orders, InstanceState::Ready).await;
    world.until_ready(&web).await;
    world.target.destroy(true).await.expect("it is taken away");
    assert_eq!(code, "state::disk-full");
}

/// A small file system, for as long as this lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn small(place: &std::path::Path) -> Option<Self> {
        fs::create_dir(place).expect("a folder");
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(place)
            .output()
            .is_ok_and(|output| output.status.success())
            .then(|| Self(place.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: where the test failed, something may still be at work in it.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[tokio::test]
async fn after_a_reboot_nothing_is_adopted_and_everything_comes_up() {
    let world = World::new();
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    let pid = pid_of(&world.until_ready(&orders).await.instances[0]);
    let (agent, keeper) = (world.agent_pid(), world.keeper_pid());
    for pid in [keeper, agent, pid] {
        kill_9(pid);
    }
    while alive(agent) || alive(keeper) || alive(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The number now is that of a process of this boot, and the record is of the boot before.
    let record = world.state().join("instances/orders@r1.1/record.json");
    let text = fs::read_to_string(&record).expect("a record");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    fs::write(&record, text.replace(boot.trim(), "the boot before")).expect("a record");
    let seen = world.target.observe().await.expect("it can be observed");
    assert!(seen.groups.is_empty(), "what is gone is seen as missing");
    let web = group("web@r1", 1, service(&[]));
    world.ensure(&web).await;
    let seen = world.until_ready(&orders).await;
    assert_eq!(
        seen.instances[0].last_exit.as_deref(),
        Some("the machine was restarted")
    );
    assert_eq!(seen.instances[0].restarts, 0);
    world.down().await;
}
