use super::*;

fn router(routes: &[(&str, serde_json::Value)]) -> Router<String> {
    Router::new(routes.iter().map(|(name, matches)| {
        let matches = serde_json::from_value(matches.clone()).unwrap();
        (matches, Arc::new((*name).to_string()))
    }))
}

fn check(router: &Router<String>, method: &str, host: &str, target: &str, expected: &str) {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-version", "2".parse().unwrap());
    let path = normalize(path).unwrap();
    let found = match router.find(&Asked {
        host,
        path: &path,
        query,
        method,
        headers: &headers,
    }) {
        Found::Route(name) => name.to_string(),
        Found::OtherMethods(methods) => format!("only {}", methods.join(" ")),
        Found::Nothing => "nothing".into(),
    };
    assert_eq!(found, expected, "{method} {host}{target}");
}

#[test]
fn a_last_name_may_stand_for_the_rest() {
    for (path, expected) in [
        ("/files/a/b/c", Some(vec![("shop", "a"), ("path", "b/c")])),
        ("/files/a/", Some(vec![("shop", "a"), ("path", "")])),
        ("/files/a", None),
        ("/file/a/b", None),
        ("/files//b", None),
    ] {
        let found = template_values("/files/{shop}/{path...}", path);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn the_most_specific_route_wins() {
    use serde_json::json;
    let router = router(&[
        ("web", json!({})),
        ("api", json!({ "path": { "prefix": "/api" } })),
        (
            "order",
            json!({ "path": { "template": "/api/orders/{id}" }, "methods": ["GET", "PUT"] }),
        ),
        ("new", json!({ "path": { "exact": "/api/orders/new" } })),
        (
            "v2",
            json!({ "path": { "prefix": "/api" }, "headers": { "x-version": { "exact": "2" } }, "query": { "beta": { "present": true } } }),
        ),
        ("tenant", json!({ "hosts": ["*.example.org"] })),
        (
            "post",
            json!({ "path": { "exact": "/only" }, "methods": ["POST"], "hosts": ["only.test"] }),
        ),
    ]);
    check(&router, "GET", "a", "/", "web");
    check(&router, "GET", "a", "/apis", "web");
    check(&router, "GET", "a", "/api", "api");
    check(&router, "GET", "a", "/api/", "api");
    check(&router, "GET", "a", "/%61pi//x", "api");
    check(&router, "GET", "a", "/api/orders/7", "order");
    check(&router, "DELETE", "a", "/api/orders/7", "api");
    check(&router, "GET", "a", "/api/orders/new", "new");
    check(&router, "GET", "a", "/api/x?beta", "v2");
    check(&router, "GET", "A.example.org", "/api", "tenant");
    check(&router, "GET", "example.org", "/api", "api");
}

#[test]
fn a_known_path_with_another_method_says_so() {
    let router = router(&[(
        "post",
        serde_json::json!({ "path": { "exact": "/only" }, "methods": ["POST"] }),
    )]);
    check(&router, "GET", "a", "/only", "only POST");
    check(&router, "GET", "a", "/else", "nothing");
}

#[test]
fn ambiguous_paths_are_refused() {
    for (path, expected) in [
        ("/a/b", Some("/a/b")),
        ("/a/%7euser", Some("/a/~user")),
        ("/a%2fb%5c", Some("/a%2Fb%5C")),
        ("/a%3Ab%40%3b%2A", Some("/a:b@;*")),
        ("/caf\u{e9}\"%22%3f%25", Some("/caf%C3%A9%22%22%3F%25")),
        ("/a%00b", None),
        ("/a//b///c", Some("/a/b/c")),
        ("/.well-known/x", Some("/.well-known/x")),
        ("/a/../b", None),
        ("/a/%2e%2E/b", None),
        ("/a/.", None),
        ("/a/..;x/b", None),
        ("/a%2f..%2fb", None),
        ("/a/%2e%2e%5Cb", None),
        ("/a/..b/c.;d", Some("/a/..b/c.;d")),
        ("/a\\b", None),
        ("/a/%zz", None),
    ] {
        assert_eq!(normalize(path).as_deref(), expected, "{path}");
    }
}

#[test]
fn routes_and_paths_are_written_in_one_way() {
    let exact = |path: &str| serde_json::json!({ "path": { "exact": path } });
    let router = router(&[
        ("batch", exact("/v1/items:batch")),
        ("coffee", exact("/caf\u{e9}")),
        ("tea", exact("/th%c3%a9%20vert")),
        (
            "at",
            serde_json::json!({ "path": { "template": "/%40{x/{id}" } }),
        ),
    ]);
    check(&router, "GET", "a", "/v1/items%3abatch", "batch");
    check(&router, "GET", "a", "/v1//items:batch", "batch");
    check(&router, "GET", "a", "/caf%C3%A9", "coffee");
    check(&router, "GET", "a", "/th\u{e9}%20vert", "tea");
    check(&router, "GET", "a", "/@%7bx/7", "at");
    check(&router, "GET", "a", "/V1/items:batch", "nothing");
}

#[test]
fn what_services_may_take_a_path_for_is_known() {
    for (path, expected) in [
        ("/a/b", &[][..]),
        ("/a%2Fb", &["/a/b", "/a/b"]),
        ("/a/%2F%5Cb", &["/a/b", "/a/%5Cb"]),
        ("/a;x=1/b;y", &["/a/b"]),
        ("/a/;x/b", &["/a/b"]),
        ("/a;x%2Fb", &["/a;x/b", "/a;x/b", "/a/b", "/a/b", "/a"]),
    ] {
        assert_eq!(readings(path), expected, "{path}");
    }
}

#[test]
fn what_a_client_wrote_keeps_its_segments() {
    for path in ["/a/b", "//%61%3A/%2Fb;c%3b//d/", "/caf\u{e9}/%e9"] {
        let (written, matched) = (as_written(path), normalize(path).unwrap());
        assert_eq!(canonical(&written), matched, "{path}");
        let slashes = |text: &str| text.matches('/').count();
        assert_eq!(slashes(&written), slashes(&matched), "{path}");
    }
    assert_eq!(as_written("//%61%3A/%2Fb;c%3b"), "/a%3A/%2Fb;c%3b");
}
