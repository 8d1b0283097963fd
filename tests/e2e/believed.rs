//! Who is believed over TLS: authorities of one's own, named as files beside the blueprint.

pub(crate) mod server;

use insta::assert_snapshot;

use self::server::{Authority, Server, Signed};
use crate::responder;
use crate::rollout::shop::{ORDERS, blueprint_of_orders};
use crate::rollout::users::{Answers, Users};
use crate::sandbox::{Sandbox, eventually, free_port};
use crate::secured::{answer, harm, stranger};
use crate::shared_limits;

/// The key of RFC 7515, A.3, and the token there, which `joe` issued and which ended in 2011.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

fn shop(port: u16, url: &str) -> String {
    let command = responder::command();
    format!(
        r#"[project]
name = "shop"

[services.api]
command = {command}
port = 9000
health = {{ ready = "/health", start_within = "30s" }}
env = {{ RESPOND = "hello" }}

[gateway]
port = {port}
trace = "100%"
otlp = {{ url = "{url}", ca = "tls/ca.pem" }}
jwt = {{ issuer = "joe", jwks = "{url}/keys.json", leeway = "30000d", ca = "tls/ca.pem" }}

[[routes]]
path = "/"
service = "api"
auth = {{}}
"#
    )
}

#[test]
fn keys_are_had_and_traces_sent_where_an_authority_of_ones_own_signed() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let server = Server::start(&ours.signs("localhost"), |request| {
        let is_keys = request.starts_with("GET /keys.json ");
        if is_keys { KEYS } else { "{}" }.to_owned()
    });
    let port = free_port();
    let url = format!("https://localhost:{}", server.port());
    let sandbox = Sandbox::with(&shop(port, &url));
    let status = || {
        shared_limits::status_with(port, &format!("authorization: Bearer {TOKEN}\r\n"))
            .expect("an answer")
    };

    sandbox.write("tls/ca.pem", others.certificate());
    sandbox.run(&["deploy", "--yes"]).ok();
    // Nobody knows yet whether the token is good.
    assert_eq!(status(), 503);
    assert_eq!(server.asked(), [""; 0]);

    // The file's name is the same, what it holds is not.
    sandbox.write("tls/ca.pem", ours.certificate());
    let plan = sandbox.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(plan.code, 2, "{plan:#?}");
    assert!(plan.stdout.contains("authorities.tls/ca.pem"), "{plan:#?}");
    assert!(!plan.stdout.contains("BEGIN CERTIFICATE"), "{plan:#?}");
    sandbox.run(&["deploy", "--yes"]).ok();
    assert_eq!(status(), 200);
    let has = |what: &str| server.asked().iter().any(|asked| asked.starts_with(what));
    assert!(has("GET /keys.json "));
    eventually("spans come in", || has("POST /v1/traces "));
    sandbox.run(&["plan", "--detailed-exitcode"]).ok();

    sandbox.run(&["rollback", "--yes"]).ok();
    assert_eq!(status(), 503);
}

#[test]
fn files_that_hold_no_authorities_are_told_where_they_are_named() {
    let sandbox = Sandbox::with(
        r#"[project]
name = "shop"

[services.api]
command = ["true"]
port = 9000

[gateway]
otlp = { url = "https://collector.example", ca = "gone.pem" }

[gateway.jwt]
issuer = "https://id.example"
ca = "broken.pem"
"#,
    );
    let broken = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    sandbox.write("broken.pem", broken);
    assert_snapshot!(sandbox.platform(&["plan"]), @r#"
    exit 1
    -- stderr --
    preflight::certificate

      × `gone.pem` is of no use as authorities: No such file or directory (os
      │ error 2)
        ╭─[platform.toml:9:50]
      8 │ [gateway]
      9 │ otlp = { url = "https://collector.example", ca = "gone.pem" }
        ·                                                  ─────┬────
        ·                                                       ╰── of no use
     10 │ 
        ╰────
      help: name a file of certificates in PEM, relative to the blueprint

    preflight::certificate

      × `broken.pem` is of no use as authorities: certificate 1: invalid peer
      │ certificate: BadEncoding
        ╭─[platform.toml:13:6]
     12 │ issuer = "https://id.example"
     13 │ ca = "broken.pem"
        ·      ──────┬─────
        ·            ╰── of no use
        ╰────
      help: name a file of certificates in PEM, relative to the blueprint
    "#);
}

/// What a service shows that has a certificate of its own, handed over as secrets.
fn shows(sandbox: &Sandbox, shown: &Signed) {
    for (name, text) in [
        ("orders-chain", &shown.certificate),
        ("orders-secret", &shown.key),
    ] {
        sandbox.pipe(&["secrets", "set", name], text).ok();
    }
}

/// `orders` with a certificate of its own.
fn orders(port: u16, protocol: &str, start_within: &str) -> String {
    let own = format!(
        r#"protocol = "{protocol}"
tls = {{ ca = "tls/ca.pem", name = "orders.shop.example" }}
traffic = {{ pool = {{ keep = 8, idle = "1s" }} }}

[services.orders.env]
LOG = "info"
TLS_CERTIFICATE_FILE = {{ secret = "orders-chain", as = "file" }}
TLS_KEY_FILE = {{ secret = "orders-secret", as = "file" }}"#
    );
    let text = blueprint_of_orders(port, &own, "");
    text.replace("start_within = \"60s\"", start_within)
}

/// What the gateway was told last.
fn told(sandbox: &Sandbox) -> String {
    let kept = sandbox.project().join(".platform/local/gateway");
    let files = std::fs::read_dir(kept).expect("what it keeps").flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    texts.collect()
}

#[test]
fn a_service_with_a_certificate_of_its_own_is_believed_by_its_authority_and_its_name() {
    let (sandbox, port) = (Sandbox::empty(), free_port());
    let ours = Authority::new("ours");
    sandbox.write(
        "platform.toml",
        &orders(port, "https", "start_within = \"60s\""),
    );
    shows(&sandbox, &ours.signs("orders.shop.example"));
    sandbox.write("tls/ca.pem", ours.certificate());
    let deploys = |protocol: &str| {
        let text = orders(port, protocol, "start_within = \"60s\"");
        sandbox.write("platform.toml", &text);
        sandbox.run(&["deploy", "--yes"]).ok();
    };
    deploys("https");
    assert!(responder::ask(port, ORDERS).is_some());
    sandbox.run(&["plan", "--detailed-exitcode"]).ok();

    // Whoever asks it otherwise is asked for no certificate, and not answered in the clear.
    let record = sandbox.read(".platform/local/instances/orders@r1.1/record.json");
    let record: serde_json::Value = serde_json::from_str(&record).expect("a record");
    let own = record["port"].as_u64().expect("a port");
    let own = u16::try_from(own).expect("a port");
    let file = sandbox.project().join("tls/ca.pem");
    let answered = answer(stranger(&file, "orders.shop.example", own).expect("it listens"));
    assert!(
        answered
            .as_ref()
            .is_ok_and(|text| text.starts_with("HTTP/1.1 200")),
        "{answered:?}"
    );
    let clear = answer(std::net::TcpStream::connect(("127.0.0.1", own)).expect("it listens"));
    assert!(
        !clear.as_ref().is_ok_and(|text| text.starts_with("HTTP")),
        "{clear:?}"
    );

    // To HTTP/2 and back, under load.
    let users = Users::ask(port, ORDERS, 50);
    deploys("h2");
    let config = told(&sandbox);
    assert!(config.contains("\"http2\":true"), "{config}");
    assert!(config.contains("\"per_endpoint\":8"), "{config}");
    deploys("https");
    let answers = users.end();
    assert_eq!(harm(&answers), Answers::new(), "{answers:?}");
    for release in ["r1", "r2", "r3"] {
        let served = answers.keys().any(|(version, _)| version == release);
        assert!(served, "{release}: {answers:?}");
    }

    // Another authority is another release, none of whose instances is believed.
    sandbox.write("tls/ca.pem", Authority::new("others").certificate());
    let plan = sandbox.run(&["plan"]).stdout;
    assert!(plan.contains("authorities of tls.ca"), "{plan}");
    assert!(!plan.contains("BEGIN CERTIFICATE"), "{plan}");
    let text = orders(port, "https", "start_within = \"3s\"");
    sandbox.write("platform.toml", &text);
    let refused = sandbox.run(&["deploy", "--yes"]);
    assert_eq!(refused.code, 10, "{refused:#?}");
    let why = "it does not speak TLS with a certificate that is believed";
    assert!(refused.stderr.contains(why), "{refused:#?}");
    // What serves is believed by what it was deployed with.
    assert!(responder::ask(port, ORDERS).is_some());
}
