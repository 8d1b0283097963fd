//! What goes well: coming up, being looked at, being changed, going.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use platform_blueprint::{EnvValue, SecretForm, SecretReference, ServiceKind};
use platform_decide::group::Need;
use platform_decide::observed::InstanceState;
use platform_port::{ExecRequest, LogQuery, Party, SecretValue, SecretValues, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, alive, ask, group, pid_of, service};

#[tokio::test]
async fn a_service_comes_up_and_goes() {
    let world = World::new();
    let orders = group(
        "orders@r1",
        2,
        service(&["say=hello", "ready-after=100", "child"]),
    );
    world.ensure(&orders).await;
    let seen = world.until_ready(&orders).await;
    assert_eq!(seen.digest, orders.digest);
    let names: Vec<&str> = seen.instances.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(names, ["orders@r1.1", "orders@r1.2"]);
    assert!(
        seen.instances
            .iter()
            .all(|one| one.memory.is_some_and(|memory| memory > 0))
    );
    for instance in &seen.instances {
        let port = instance
            .address
            .as_ref()
            .and_then(|a| a.rsplit_once(':'))
            .expect("a port")
            .1;
        let (status, body) = ask(port.parse().expect("a port"), "/")
            .await
            .expect("an answer");
        assert_eq!((status, body.as_str()), (200, instance.id.as_str()));
    }
    assert_eq!(world.log("orders").await, ["hello", "hello"]);

    // Twice the same changes nothing.
    world.ensure(&orders).await;
    let again = world.until_ready(&orders).await;
    assert_eq!(pid_of(&again.instances[0]), pid_of(&seen.instances[0]));

    // Fewer: the newest goes.
    let fewer = group("orders@r1", 1, orders.spec.service.clone());
    world.ensure(&fewer).await;
    let seen = world.until_ready(&fewer).await;
    assert_eq!(seen.instances[0].id, "orders@r1.1");
    let pid = pid_of(&seen.instances[0]);

    world
        .target
        .remove_group(&orders.id)
        .await
        .expect("it is removed");
    assert!(!alive(pid));
    let left = world.target.observe().await.expect("it can be observed");
    assert!(left.groups.is_empty());
    assert_eq!(world.marked(), Vec::<i32>::new(), "its child is gone, too");
    assert_eq!(world.log("orders").await.len(), 2, "its log stays");
    world.down().await;
}

#[tokio::test]
async fn looking_starts_nothing() {
    let world = World::new();
    let seen = world.target.observe().await.expect("it can be observed");
    assert!(seen.groups.is_empty() && seen.gateway.is_none());
    assert!(!world.state().exists());
    world.target.stop().await.expect("there is nothing to stop");
    world
        .target
        .destroy(false)
        .await
        .expect("there is nothing to destroy");
    assert!(!world.state().exists());
}

#[tokio::test]
async fn needs_come_first_and_jobs_end() {
    let world = World::new();
    let job = platform_blueprint::Service {
        kind: ServiceKind::Job,
        port: None,
        ..service(&["exit-after=400:0"])
    };
    let migrate = group("migrate@r1", 1, job);
    let mut orders = group("orders@r1", 1, service(&[]));
    orders.spec.needs = vec![Need::Service {
        name: migrate.id.service.clone(),
    }];
    world.ensure(&migrate).await;
    world.ensure(&orders).await;
    let seen = world.target.observe().await.expect("it can be observed");
    let waiting = &seen.groups[&orders.id].instances[0];
    assert_eq!(waiting.reason.as_deref(), Some("waiting for `migrate`"));
    world.until_ready(&orders).await;
    let ended = world.until_state(&migrate, InstanceState::Completed).await;
    assert_eq!(ended.last_exit.as_deref(), Some("exit code 0"));
    world.down().await;
}

#[tokio::test]
async fn secrets_are_handed_over_and_kept_nowhere() {
    let world = World::new();
    let secret = |name: &str, handed_as| {
        EnvValue::Secret(SecretReference {
            secret: name.parse().expect("a name"),
            handed_as,
        })
    };
    let with_secrets = platform_blueprint::Service {
        env: BTreeMap::from([
            ("KEY".to_owned(), secret("key", SecretForm::Env)),
            ("KEY_FILE".to_owned(), secret("key", SecretForm::File)),
            (
                "ADDRESS".to_owned(),
                EnvValue::Text("${HOST}:${PORT}".to_owned()),
            ),
        ]),
        ..service(&[])
    };
    let mut orders = group("orders@r1", 1, with_secrets);
    orders.spec.secrets = BTreeMap::from([("key".parse().expect("a name"), 1)]);
    orders.digest = orders.spec.digest();
    let values = SecretValues::from([(
        "key".parse().expect("a name"),
        SecretValue::new("dont-tell-anybody"),
    )]);
    world
        .target
        .ensure_group(&orders, &values)
        .await
        .expect("it is taken in");
    let seen = world.until_ready(&orders).await;
    let address = seen.instances[0].address.clone().expect("an address");
    let port = address
        .rsplit_once(':')
        .expect("a port")
        .1
        .parse()
        .expect("a port");
    let value = |path: &'static str| async move { ask(port, path).await.expect("an answer").1 };
    assert_eq!(value("/env/KEY").await, "dont-tell-anybody");
    assert_eq!(value("/env/ADDRESS").await, address);
    let file = value("/env/KEY_FILE").await;
    assert_eq!(
        std::fs::read_to_string(&file).expect("the file"),
        "dont-tell-anybody"
    );
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "-D", "skip", "dont-tell-anybody"])
        .arg(world.state())
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    world
        .target
        .remove_group(&orders.id)
        .await
        .expect("it is removed");
    assert!(!std::path::Path::new(&file).exists());
    world.down().await;
}

#[tokio::test]
async fn commands_run_beside_an_instance() {
    let world = World::new();
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let request = |command: &str, tty| ExecRequest {
        party: Party::Service(orders.id.service.clone()),
        instance: None,
        command: vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()],
        tty,
    };
    let mut run = world
        .target
        .exec(&request(
            "read word; echo $word $PLATFORM_INSTANCE; exit 7",
            false,
        ))
        .await
        .expect("it runs");
    run.input.write_all(b"hi\n").await.expect("input");
    let mut output = String::new();
    run.output
        .read_to_string(&mut output)
        .await
        .expect("output");
    assert_eq!(output, "hi orders@r1.1\n");
    assert_eq!(run.exit.await.expect("an exit code"), 7);

    let mut run = world
        .target
        .exec(&request("test -t 0 && stty size < /dev/tty && tty", true))
        .await
        .expect("it runs");
    let mut output = String::new();
    run.output
        .read_to_string(&mut output)
        .await
        .expect("output");
    assert!(output.contains("/dev/pts/"), "{output}");
    assert_eq!(run.exit.await.expect("an exit code"), 0);

    let mut connection = world
        .target
        .connect("orders", Some(8080))
        .await
        .expect("a connection");
    connection
        .input
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("a request");
    let mut answer = String::new();
    connection
        .output
        .read_to_string(&mut answer)
        .await
        .expect("an answer");
    assert!(answer.ends_with("orders@r1.1"));
    world.down().await;
}

#[tokio::test]
async fn logs_are_followed_over_instances() {
    let world = World::new();
    let query = LogQuery {
        parties: vec![Party::Service("orders".parse().expect("a name"))],
        follow: true,
        ..LogQuery::default()
    };
    let lines = world.target.logs(&query).await.expect("logs");
    for version in 1..=2 {
        let says = format!("say=version {version}");
        let orders = group(&format!("orders@r{version}"), 1, service(&[&says]));
        world.ensure(&orders).await;
        world.until_ready(&orders).await;
    }
    let seen: Vec<String> = tokio::time::timeout(
        Duration::from_secs(5),
        lines
            .take(2)
            .map(|line| line.expect("a line").text)
            .collect(),
    )
    .await
    .expect("both lines in time");
    assert_eq!(seen, ["version 1", "version 2"]);
    world.down().await;
}

#[tokio::test]
async fn stopped_things_come_up_again() {
    let world = World::new();
    let orders = group("orders@r1", 1, service(&[]));
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    world
        .target
        .store()
        .write("releases/1", b"r1", None)
        .await
        .expect("a document");
    world.target.stop().await.expect("it stops");
    assert_eq!(world.marked(), Vec::<i32>::new());
    let seen = world.target.observe().await.expect("it can be observed");
    assert!(seen.groups.is_empty());
    assert!(
        world
            .target
            .store()
            .read("releases/1")
            .await
            .expect("a read")
            .is_some()
    );
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    world.down().await;
}
