//! Push and pull.

use platform_image::{
    Attachment, CYCLONEDX, Compression, Credentials, IN_TOTO, ImageError, Registry,
};

use crate::world::{TestRegistry, image, program};

fn me(password: &str) -> Credentials {
    Credentials {
        username: "me".to_owned(),
        password: password.to_owned().into(),
        identity_token: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_back_as_it_went_with_all_that_is_attached() {
    let Some(server) = TestRegistry::start(false) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let image = image(&program(folder.path()), Compression::Gzip);
    let registry = Registry::with(&server.host, None);
    let name = format!("{}/me/shop-hello", server.host);
    let sbom = Attachment::new(&image, CYCLONEDX, br#"{"bomFormat":"CycloneDX"}"#.to_vec());
    let how = Attachment::new(&image, IN_TOTO, b"{}".to_vec());

    let first = registry
        .push(&image, std::slice::from_ref(&sbom), &name, "one")
        .await
        .unwrap();
    assert_eq!(first.reference, format!("{name}@{}", image.digest()));
    assert!(first.sent > image.size());
    assert_eq!(
        registry.digest(&format!("{name}:one")).await.unwrap(),
        image.digest()
    );
    assert_eq!(registry.pull(&first.reference).await.unwrap(), image);

    // What is there is not sent again, and what was attached before stays.
    let again = registry
        .push(&image, &[sbom.clone(), how], &name, "two")
        .await
        .unwrap();
    assert!(again.sent < 10, "{again:?}");
    let mut attached = registry.attached(&first.reference).await.unwrap();
    attached.sort();
    assert_eq!(
        attached,
        [
            (CYCLONEDX.to_owned(), sbom.document().to_vec()),
            (IN_TOTO.to_owned(), b"{}".to_vec()),
        ]
    );

    let error = registry.digest(&format!("{name}:none")).await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_users_wants_the_right_password() {
    let Some(server) = TestRegistry::start(true) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let image = image(&program(folder.path()), Compression::Gzip);
    let name = format!("{}/shop-hello", server.host);

    let known = Registry::with(&server.host, Some(&me("secret")));
    let pushed = known.push(&image, &[], &name, "one").await.unwrap();
    assert_eq!(known.pull(&pushed.reference).await.unwrap(), image);

    for (credentials, words) in [
        (None, "without credentials"),
        (Some(me("wrong")), "with the credentials found"),
    ] {
        let stranger = Registry::with(&server.host, credentials.as_ref());
        let error = stranger.push(&image, &[], &name, "two").await.unwrap_err();
        assert!(
            matches!(error, ImageError::Unauthorized { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(words), "{error}");
        let told = format!("{error:?}");
        assert!(
            !told.contains("wrong") && !told.contains("secret"),
            "{told}"
        );
        assert!(stranger.digest(&pushed.reference).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_named() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let registry = Registry::with(&host, None);
    let error = registry
        .digest(&format!("{host}/hello:1"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "image::registry");
    assert!(error.to_string().contains(&host), "{error}");
}

/// Answers each request with a page, as a proxy does that wants a login first.
fn portal() -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let page = if head[0].starts_with("HEAD") {
                ""
            } else {
                "<html>Log in</html>"
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 19\r\nconnection: close\r\n\r\n{page}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_place_of_a_manifest_has_no_digest() {
    let host = portal();
    let registry = Registry::with(&host, None);
    let name = format!("{host}/me/shop:1");
    let error = registry.digest(&name).await.unwrap_err();
    assert_eq!(error.code(), "image::no-manifest", "{error:?}");
    let error = registry.pull(&name).await.unwrap_err();
    assert_eq!(error.code(), "image::no-manifest", "{error:?}");
}
