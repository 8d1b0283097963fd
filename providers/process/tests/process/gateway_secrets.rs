//! Secrets of the gateway: hashes of API keys, the keys of certificates.

use std::path::Path;
use std::process::Command;

use platform_decide::traffic::Traffic;
use platform_port::{SecretValue, SecretValues, Target};
use sha2::{Digest, Sha256};

use crate::world::{World, ask, ask_with, free_port, group, kill_9, service, traffic};

const KEY: &str = "a-key-of-a-partner";

/// Makes a certificate in the folder; returns its private key.
fn certificate(folder: &Path) -> String {
    let key = folder.join("key.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=shop.test", "-addext"])
        .args(["subjectAltName=DNS:shop.test", "-out"])
        .arg(folder.join("shop.pem"))
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("the openssl program");
    assert!(made.status.success());
    let text = std::fs::read_to_string(&key).expect("a key");
    std::fs::remove_file(&key).expect("it is a secret now");
    text
}

/// Everything to `orders`, for those with an API key, over TLS too.
fn guarded(port: u16, tls: u16, id: &platform_decide::group::GroupId) -> Traffic {
    let mut traffic = traffic(port, id);
    let ingress = &mut traffic.ingress;
    let json = serde_json::json!({
        "port": port,
        "tls": {
            "port": tls, "redirect": false,
            "certificates": [{ "host": "shop.test", "certificate": "shop.pem", "key": "shop-key" }],
        },
        "api_keys": { "keys": "partners" },
    });
    ingress.gateway = serde_json::from_value(json).expect("settings");
    let auth = serde_json::json!({ "by": ["api-key"] });
    ingress.routes[0].auth = Some(serde_json::from_value(auth).expect("who may ask"));
    ingress.secrets = [("shop-key", 1), ("partners", 1)]
        .map(|(name, version)| (name.parse().expect("a name"), version))
        .into();
    traffic
}

fn values(key: &str) -> SecretValues {
    let list = format!("partner {}\n", hex::encode(Sha256::digest(KEY)));
    [("shop-key", key.to_owned()), ("partners", list)]
        .map(|(name, value)| (name.parse().expect("a name"), SecretValue::new(value)))
        .into()
}

/// The names in the certificate that the gateway shows.
fn shown(tls: u16) -> String {
    let asked = Command::new("openssl")
        .args(["s_client", "-servername", "shop.test", "-connect"])
        .arg(format!("127.0.0.1:{tls}"))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the openssl program");
    String::from_utf8_lossy(&asked.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_gets_its_secrets_and_nothing_tells_them() {
    let world = World::new();
    let (port, tls) = (free_port(), free_port());
    let orders = group("orders@r1", 1, service(&[]));
    world.target.ensure_gateway().await.expect("a gateway");
    let private = certificate(world.folder.path());
    let guarded = guarded(port, tls, &orders.id);

    let refused = world.target.route(&guarded, &SecretValues::new()).await;
    assert_eq!(
        refused.expect_err("none was given").code,
        "gateway::refused"
    );

    let values = values(&private);
    let routed = world.target.route(&guarded, &values).await;
    routed.expect("routes");
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let with_key = format!("x-api-key: {KEY}\r\n");
    let check = async || {
        assert_eq!(ask(port, "/").await.expect("an answer").0, 401);
        let answer = ask_with(port, "/", &with_key).await.expect("an answer");
        assert_eq!(answer.0, 200);
        assert!(shown(tls).contains("CN = shop.test"), "{}", shown(tls));
    };
    check().await;

    let agent = world.agent_pid();
    kill_9(agent);
    world.another_agent(agent).await;
    let more = group("orders@r1", 2, service(&[]));
    world.ensure(&more).await;
    world.until_ready(&more).await;
    check().await;

    let line = private.lines().nth(1).expect("a key has lines");
    let found = Command::new("grep")
        .args(["-rlF", line])
        .arg(world.state())
        .output()
        .expect("the grep program");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    world.down().await;
}
