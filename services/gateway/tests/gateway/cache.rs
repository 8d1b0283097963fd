//! Kept answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Answer, Behaviour, Http, Place, Running, Upstream, ask, client, orders, until};

type Fields = Vec<(&'static str, String)>;

/// A service whose answer tells its number, with these fields.
async fn numbering(
    delay: Duration,
    fields: impl Fn(&http::request::Parts, u64) -> (u16, Fields) + Send + Sync + 'static,
) -> Upstream {
    let behaviour = Behaviour {
        delay,
        script: Some(Arc::new(move |head, number| {
            let (status, fields) = fields(head, number);
            let mut answer = Response::builder().status(status);
            for (name, value) in fields {
                answer = answer.header(name, value);
            }
            let body = if status == 304 {
                Bytes::new()
            } else {
                format!("answer {number}").into()
            };
            answer.body(Full::new(body)).expect("an answer")
        })),
        ..Behaviour::default()
    };
    Upstream::start_with("orders", behaviour).await
}

fn says(value: &str) -> Fields {
    vec![("cache-control", value.to_owned())]
}

async fn keeping(place: &Place, upstream: &Upstream, cache: Value) -> Running {
    let gateway = place.gateway().await;
    let route = json!([{ "name": "all", "service": "orders", "cache": cache }]);
    let services = orders(&[upstream]);
    gateway
        .configure(json!({ "services": services, "routes": route }))
        .await;
    gateway
}

async fn get(client: &Http, gateway: &Running, target: &str, headers: &[(&str, &str)]) -> Answer {
    let address = gateway.address("public").await;
    let asked = ask(client, "GET", address, target, headers, b"").await;
    asked.expect("an answer")
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_answer_is_given_again_and_says_so() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, _| (200, says("max-age=60"))).await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let client = client();
    let first = get(&client, &gateway, "/a", &[]).await;
    assert_eq!(first.header("cache-status"), "gateway; fwd=miss; stored");
    let second = get(&client, &gateway, "/a", &[]).await;
    assert_eq!(text(&second), "answer 1");
    assert_eq!(second.header("cache-status"), "gateway; hit");
    assert!(second.header("age").parse::<u64>().is_ok());
    assert!(!second.header("date").is_empty());
    let part = get(&client, &gateway, "/a", &[("range", "bytes=0-5")]).await;
    assert_eq!((part.status, text(&part).as_str()), (206, "answer"));
    let other = get(&client, &gateway, "/a?b", &[]).await;
    assert_eq!(text(&other), "answer 2");
    let unkept = get(
        &client,
        &gateway,
        "/c",
        &[("cache-control", "only-if-cached")],
    )
    .await;
    assert_eq!(unkept.status, 504);
    until("what was cached is counted", async || {
        gateway.tallies().await.routes["all"].cached == 2
    })
    .await;
    assert_eq!(upstream.asked(), 2);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_what_a_request_carried_is_for_that_request_alone() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, _| (200, says("max-age=60"))).await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let address = gateway.address("public").await;
    let (client, bypassed) = (client(), "gateway; fwd=bypass");
    let fat = async || {
        let asked = ask(&client, "GET", address, "/", &[], b"evil").await;
        asked.expect("an answer")
    };
    let first = fat().await;
    assert_eq!(first.header("cache-status"), bypassed);
    let chunked = "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n";
    let chunked = chunked.replace("HOST", &address.to_string());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(bypassed), "{answer}");
    // Who carries nothing meets none of those, and who carries something not what is kept.
    let thin = get(&client, &gateway, "/", &[]).await;
    assert_eq!(text(&thin), "answer 3");
    assert_eq!(text(&fat().await), "answer 4");
    assert_eq!(text(&get(&client, &gateway, "/", &[]).await), "answer 3");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_checked_and_kept_on() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |head, _| {
        let mut fields = says("max-age=60");
        fields.push(("etag", "\"one\"".to_owned()));
        if head.headers.contains_key("if-none-match") {
            fields.push(("x-state", "checked".to_owned()));
            return (304, fields);
        }
        fields.push(("x-state", "fresh".to_owned()));
        // As old as it may get.
        fields.push(("age", "60".to_owned()));
        (200, fields)
    })
    .await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let client = client();
    get(&client, &gateway, "/", &[]).await;
    until("it is stale", async || {
        let answer = get(&client, &gateway, "/", &[]).await;
        assert_eq!(text(&answer), "answer 1");
        answer.header("cache-status").contains("fwd-status=304")
    })
    .await;
    let asked = upstream.asked();
    let answer = get(&client, &gateway, "/", &[("if-none-match", "\"one\"")]).await;
    assert_eq!((answer.status, upstream.asked()), (304, asked));
    // What is said of it when it is checked is kept too.
    let answer = get(&client, &gateway, "/", &[]).await;
    assert_eq!(
        (answer.header("x-state"), upstream.asked()),
        ("checked", asked)
    );
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_told_apart_by_what_they_vary_by() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, _| {
        let mut fields = says("max-age=60");
        fields.push(("vary", "accept-language".to_owned()));
        (200, fields)
    })
    .await;
    let gateway = keeping(&place, &upstream, json!({ "vary": ["x-tenant"] })).await;
    let client = client();
    let asked = async |language: &str, tenant: &str| {
        let headers = [("accept-language", language), ("x-tenant", tenant)];
        text(&get(&client, &gateway, "/", &headers).await)
    };
    assert_eq!(asked("de", "a").await, "answer 1");
    assert_eq!(asked("en", "a").await, "answer 2");
    assert_eq!(asked("de", "b").await, "answer 3");
    assert_eq!(asked("de", "a").await, "answer 1");
    assert_eq!(asked("en", "a").await, "answer 2");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_cost_one_request() {
    let place = Place::new();
    let delay = Duration::from_millis(200);
    let upstream = numbering(delay, |_, _| (200, says("max-age=60"))).await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let address = gateway.address("public").await;
    let client = client();
    let all: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { crate::bench::get(&client, address, "/").await })
        })
        .collect();
    for one in all {
        assert_eq!(text(&one.await.unwrap()), "answer 1");
    }
    assert_eq!(upstream.asked(), 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_given_while_a_fresh_one_is_fetched() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, number| {
        let mut fields = says("max-age=60, stale-while-revalidate=60");
        if number == 1 {
            fields.push(("age", "70".to_owned()));
        }
        (200, fields)
    })
    .await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let client = client();
    assert_eq!(text(&get(&client, &gateway, "/", &[]).await), "answer 1");
    let stale = get(&client, &gateway, "/", &[]).await;
    assert_eq!(text(&stale), "answer 1");
    assert_eq!(stale.header("cache-status"), "gateway; hit; detail=stale");
    until("the fresh one came", async || {
        text(&get(&client, &gateway, "/", &[]).await) == "answer 2"
    })
    .await;
    assert_eq!(upstream.asked(), 2);
    let tallies = gateway.counted().await;
    assert_eq!(tallies.version("orders", "r1").unwrap().good, 2);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_given_while_the_service_fails() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, number| {
        let mut fields = says("max-age=60");
        fields.push(("age", "70".to_owned()));
        (if number == 1 { 200 } else { 500 }, fields)
    })
    .await;
    let gateway = keeping(&place, &upstream, json!({ "stale_if_error_ms": 60_000 })).await;
    let client = client();
    assert_eq!(text(&get(&client, &gateway, "/", &[]).await), "answer 1");
    let kept = get(&client, &gateway, "/", &[]).await;
    assert_eq!((kept.status, text(&kept).as_str()), (200, "answer 1"));
    // The release is judged by what it said, not by what the client got.
    until("the bad answer is counted", async || {
        gateway.tallies().await.version("orders", "r1").unwrap().bad == 1
    })
    .await;
    drop(upstream);
    let kept = get(&client, &gateway, "/", &[]).await;
    assert_eq!((kept.status, text(&kept).as_str()), (200, "answer 1"));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_forgets_what_was_kept() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, _| (200, says("max-age=60"))).await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let address = gateway.address("public").await;
    let client = client();
    for method in ["PUT", "POST", "DELETE"] {
        let before = text(&get(&client, &gateway, "/", &[]).await);
        assert_eq!(text(&get(&client, &gateway, "/", &[]).await), before);
        ask(&client, method, address, "/", &[], b"x").await.unwrap();
        assert_ne!(
            text(&get(&client, &gateway, "/", &[]).await),
            before,
            "{method}"
        );
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_do_not_answer_for_each_other() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let old = numbering(Duration::ZERO, |_, _| (200, says("max-age=60"))).await;
    let new = numbering(Duration::ZERO, |_, _| (404, says("max-age=60"))).await;
    let version = |one: &Upstream, id: &str, weight: u32| json!({ "weight": weight, "endpoints": [{ "id": id, "address": one.address.to_string() }] });
    let service = json!({
        "versions": { "r1": version(&old, "a", 1000), "r2": version(&new, "b", 0) },
        "overrides": [{ "header": "x-release", "value": "new", "version": "r2" }],
    });
    gateway
        .configure(json!({
            "services": { "orders": service },
            "routes": [{ "name": "all", "service": "orders", "cache": {} }],
        }))
        .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(get(&client, &gateway, "/", &[]).await.status, 200);
        let asked = get(&client, &gateway, "/", &[("x-release", "new")]).await;
        assert_eq!(asked.status, 404);
    }
    assert_eq!((old.asked(), new.asked()), (1, 1));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_large_answers_pass() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        script: Some(Arc::new(|head, _| {
            let size = if head.uri.path() == "/large" {
                100_000
            } else {
                10_000
            };
            let answer = Response::builder().header("cache-control", "max-age=60");
            answer
                .body(Full::new(vec![b'x'; size].into()))
                .expect("an answer")
        })),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("orders", behaviour).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "cache": { "max_body": 50_000 } }],
            "cache_memory": 400_000,
        }))
        .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(
            get(&client, &gateway, "/large", &[]).await.body.len(),
            100_000
        );
    }
    assert_eq!(upstream.asked(), 2);
    for number in 0..200 {
        let target = format!("/{number}");
        assert_eq!(
            get(&client, &gateway, &target, &[]).await.body.len(),
            10_000
        );
    }
    let before = upstream.asked();
    get(&client, &gateway, "/199", &[]).await;
    assert_eq!(upstream.asked(), before, "the newest is there");
    let mut there = 0;
    for number in 0..200 {
        let target = format!("/{number}");
        let headers = [("cache-control", "only-if-cached")];
        there += u32::from(get(&client, &gateway, &target, &headers).await.status == 200);
    }
    assert!((1..=40).contains(&there), "{there} of 10 kB in 400 kB");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_forgotten_when_the_admin_says_so() {
    let place = Place::new();
    let upstream = numbering(Duration::ZERO, |_, _| (200, says("max-age=600"))).await;
    let gateway = keeping(&place, &upstream, json!({})).await;
    let client = client();
    for target in ["/a", "/b"] {
        let first = text(&get(&client, &gateway, target, &[]).await);
        assert_eq!(text(&get(&client, &gateway, target, &[]).await), first);
    }
    assert_eq!(upstream.asked(), 2);
    let mut admin = tokio::net::UnixStream::connect(place.path().join("admin.sock"))
        .await
        .unwrap();
    let request = b"DELETE /cache HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    admin.write_all(request).await.unwrap();
    let mut answer = String::new();
    admin.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    for (target, expected) in [("/a", "answer 3"), ("/b", "answer 4"), ("/a", "answer 3")] {
        assert_eq!(text(&get(&client, &gateway, target, &[]).await), expected);
    }
    gateway.drain().await;
}
