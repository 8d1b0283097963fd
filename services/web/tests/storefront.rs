//! Runs the real program and asks it for its page.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::routing::get;
use reqwest::{Client, Response, header};

/// A running `web`.
struct Program {
    child: Child,
    base: String,
    client: Client,
}

impl Program {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_web"))
            .env_clear()
            .env("PORT", "0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let stdout = child.stdout.take().expect("its output");
        let mut lines = BufReader::new(stdout).lines();
        let base = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line).ok()?;
                Some(format!("http://{}", line["address"].as_str()?))
            })
            .expect("an address");
        // The rest is read too, so that it is taken off the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            base,
            client: Client::new(),
        }
    }

    async fn get(&self, path: &str, known: Option<&str>) -> Response {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        request.send().await.expect("an answer")
    }

    async fn page(&self) -> String {
        self.get("/", None).await.text().await.expect("a page")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no {name}"));
    value.to_str().expect("text")
}

/// Returns the address of the page's script.
fn script(page: &str) -> &str {
    let start = page.find("/assets/shop.").expect("an asset");
    let script = &page[start..];
    let start = script[1..].find("/assets/").expect("a second asset") + 1;
    script[start..].split('"').next().expect("an end")
}

#[tokio::test]
async fn the_page_is_asked_for_each_time_and_sent_when_it_changed() {
    let program = Program::start(&[]);
    let page = program.get("/", None).await;
    assert_eq!(header(&page, "cache-control"), "no-cache");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    let policy = header(&page, "content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let tag = header(&page, "etag").to_owned();
    let text = page.text().await.unwrap();
    // The policy would stop these, so the page must not rely on them.
    assert!(!text.contains("style=") && !text.contains("onclick") && !text.contains("<style"));
    let again = program.get("/", Some(&tag)).await;
    assert_eq!(again.status(), 304);
    assert_eq!(header(&again, "etag"), tag);
    assert_eq!(program.get("/", Some("\"other\"")).await.status(), 200);
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_their_name() {
    let program = Program::start(&[]);
    let page = program.page().await;
    let script = script(&page);
    let asset = program.get(script, None).await;
    assert_eq!(asset.status(), 200);
    assert_eq!(
        header(&asset, "cache-control"),
        "public, max-age=31536000, immutable"
    );
    assert!(header(&asset, "content-type").starts_with("text/javascript"));
    let tag = header(&asset, "etag").to_owned();
    assert_eq!(program.get(script, Some(&tag)).await.status(), 304);
    // A page of the release before asks for its own script while a rollout mixes the two.
    let other = program.get("/assets/shop.0123456789abcdef.js", None).await;
    assert_eq!(other.status(), 200);
    assert_eq!(header(&other, "cache-control"), "no-cache");
    let nothing = program.get("/assets/none.0.js", None).await;
    assert_eq!(nothing.status(), 404);
    assert_eq!(header(&nothing, "content-type"), "application/problem+json");
    let request = program.client.get(format!("{}{script}", program.base));
    let packed = request
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&packed, "content-encoding"), "gzip");
}

#[tokio::test]
async fn the_page_brings_orders_along_and_lives_without_them() {
    let text =
        r#"{"items":[{"customer":"</script><script>alert(1)</script>"}],"next_cursor":null}"#;
    let json = [("content-type", "application/json")];
    let app = Router::new()
        .route("/api/v1/orders", get(async move || (json, text)))
        .route("/health/ready", get(async || "ready"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // A runtime of its own, so that its open connections end with it.
    let orders = tokio::runtime::Runtime::new().unwrap();
    orders.spawn(async move { axum::serve(listener, app).await });

    let program = Program::start(&[("ORDERS_URL", &url), ("PLATFORM_RELEASE", "r7")]);
    let page = program.page().await;
    assert!(
        page.contains(r"\u003c/script\u003e\u003cscript\u003ealert(1)"),
        "{page}"
    );
    assert!(page.contains("web@r7"));
    let ready: serde_json::Value = program
        .get("/health/ready", None)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(ready["checks"][0]["passed"], true);

    orders.shutdown_background();
    let page = program.page().await;
    assert!(page.contains(">null</script>"));
    // Orders are reported, and not required: the goods are still there to look at.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let ready = program.get("/health/ready", None).await;
        assert_eq!(ready.status(), 200);
        let ready: serde_json::Value = ready.json().await.unwrap();
        if ready["checks"][0]["passed"] == false {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{ready}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn a_wrong_address_is_told_at_the_start() {
    let output = Command::new(env!("CARGO_BIN_EXE_web"))
        .env_clear()
        .env("PORT", "0")
        .env("ORDERS_URL", "orders:8080")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("ORDERS_URL: is not an http"), "{told}");
}
