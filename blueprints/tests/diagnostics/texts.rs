//! Texts that go into HTTP messages, or are compared with what stands there.

use insta::assert_snapshot;

use crate::check;

#[test]
fn names_and_values_of_fields() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\nservice = 'web'\nheaders = { 'a b' = 'x' }\nrequest_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }\nresponse_headers = { add = { x = \"a\\r\\nset-cookie: b\" } }\ncsp = \"default-src\\n\"\ncache = { vary = ['accept language'] }\ncors = { origins = 'https://a.example', expose = ['x y'] }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 8 problems

    Error: blueprint::bad-value

      × `a b` is not the name of a header
        ╭─[platform.toml:9:21]
      8 │ service = 'web'
      9 │ headers = { 'a b' = 'x' }
        ·                     ─┬─
        ·                      ╰── here
     10 │ request_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }
        ╰────
      help: write letters, digits and hyphens, such as `x-request-id`

    Error: blueprint::bad-value

      × `bad header` is not the name of a header
        ╭─[platform.toml:10:44]
      9 │ headers = { 'a b' = 'x' }
     10 │ request_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }
        ·                                            ─┬─
        ·                                             ╰── here
     11 │ response_headers = { add = { x = "a\r\nset-cookie: b" } }
        ╰────
      help: write letters, digits and hyphens, such as `x-request-id`

    Error: blueprint::bad-value

      × `Content-Length` tells how a message is carried, and is the gateway's to write
        ╭─[platform.toml:10:66]
      9 │ headers = { 'a b' = 'x' }
     10 │ request_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }
        ·                                                                  ─┬─
        ·                                                                   ╰── here
     11 │ response_headers = { add = { x = "a\r\nset-cookie: b" } }
        ╰────
      help: take it out

    Error: blueprint::bad-value

      × `transfer-encoding` tells how a message is carried, and is the gateway's to write
        ╭─[platform.toml:10:83]
      9 │ headers = { 'a b' = 'x' }
     10 │ request_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }
        ·                                                                                   ─────────┬─────────
        ·                                                                                            ╰── here
     11 │ response_headers = { add = { x = "a\r\nset-cookie: b" } }
        ╰────
      help: take it out

    Error: blueprint::bad-value

      × a header is one line, without control characters
        ╭─[platform.toml:11:34]
     10 │ request_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }
     11 │ response_headers = { add = { x = "a\r\nset-cookie: b" } }
        ·                                  ──────────┬─────────
        ·                                            ╰── here
     12 │ csp = "default-src\n"
        ╰────
      help: write it on one line

    Error: blueprint::bad-value

      × a header is one line, without control characters
        ╭─[platform.toml:12:7]
     11 │ response_headers = { add = { x = "a\r\nset-cookie: b" } }
     12 │ csp = "default-src\n"
        ·       ───────┬───────
        ·              ╰── here
     13 │ cache = { vary = ['accept language'] }
        ╰────
      help: write it on one line

    Error: blueprint::bad-value

      × `accept language` is not the name of a header
        ╭─[platform.toml:13:19]
     12 │ csp = "default-src\n"
     13 │ cache = { vary = ['accept language'] }
        ·                   ────────┬────────
        ·                           ╰── here
     14 │ cors = { origins = 'https://a.example', expose = ['x y'] }
        ╰────
      help: write letters, digits and hyphens, such as `x-request-id`

    Error: blueprint::bad-value

      × `x y` is not the name of a header
        ╭─[platform.toml:14:51]
     13 │ cache = { vary = ['accept language'] }
     14 │ cors = { origins = 'https://a.example', expose = ['x y'] }
        ·                                                   ──┬──
        ·                                                     ╰── here
        ╰────
      help: write letters, digits and hyphens, such as `x-request-id`
    "#);
}

#[test]
fn hosts() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\nhost = ['example.com:8080', '*.bücher.example', '']\nservice = 'web'\nrewrite = { host = 'http://x' }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 4 problems

    Error: blueprint::bad-value

      × `example.com:8080` is not a host
       ╭─[platform.toml:8:9]
     7 │ [[routes]]
     8 │ host = ['example.com:8080', '*.bücher.example', '']
       ·         ─────────┬────────
       ·                  ╰── here
     9 │ service = 'web'
       ╰────
      help: write a name without scheme and port, such as `shop.example` or `*.shop.example`; one with
            other letters as clients send it, such as `xn--bcher-kva.example`

    Error: blueprint::bad-value

      × `*.bücher.example` is not a host
       ╭─[platform.toml:8:29]
     7 │ [[routes]]
     8 │ host = ['example.com:8080', '*.bücher.example', '']
       ·                             ─────────┬────────
       ·                                      ╰── here
     9 │ service = 'web'
       ╰────
      help: write a name without scheme and port, such as `shop.example` or `*.shop.example`; one with
            other letters as clients send it, such as `xn--bcher-kva.example`

    Error: blueprint::bad-value

      × `` is not a host
       ╭─[platform.toml:8:50]
     7 │ [[routes]]
     8 │ host = ['example.com:8080', '*.bücher.example', '']
       ·                                                 ─┬
       ·                                                  ╰── here
     9 │ service = 'web'
       ╰────
      help: write a name without scheme and port, such as `shop.example` or `*.shop.example`; one with
            other letters as clients send it, such as `xn--bcher-kva.example`

    Error: blueprint::bad-value

      × `http://x` is not a host
        ╭─[platform.toml:10:20]
      9 │ service = 'web'
     10 │ rewrite = { host = 'http://x' }
        ·                    ─────┬────
        ·                         ╰── here
        ╰────
      help: write a name without scheme, such as `shop.example`
    "#);
}

#[test]
fn what_the_gateway_asks_and_is_shown() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[gateway]\notlp = 'nope'\njwt = { issuer = 'me' }\napi_keys = { header = 'x key', keys = 'keys' }\n\n[[routes]]\nservice = 'web'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 3 problems

    Error: blueprint::bad-value

      × `nope` is not a URL
       ╭─[platform.toml:8:8]
     7 │ [gateway]
     8 │ otlp = 'nope'
       ·        ───┬──
       ·           ╰── here
     9 │ jwt = { issuer = 'me' }
       ╰────
      help: write one such as `http://127.0.0.1:4318`

    Error: blueprint::bad-value

      × `me` is not a URL
        ╭─[platform.toml:9:18]
      8 │ otlp = 'nope'
      9 │ jwt = { issuer = 'me' }
        ·                  ──┬─
        ·                    ╰── here
     10 │ api_keys = { header = 'x key', keys = 'keys' }
        ╰────
      help: write one such as `https://id.example`

    Error: blueprint::bad-value

      × `x key` is not the name of a header
        ╭─[platform.toml:10:23]
      9 │ jwt = { issuer = 'me' }
     10 │ api_keys = { header = 'x key', keys = 'keys' }
        ·                       ───┬───
        ·                          ╰── here
     11 │
        ╰────
      help: write letters, digits and hyphens, such as `x-request-id`
    "#);
}

#[test]
fn texts_as_they_may_be() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[gateway]\notlp = 'http://127.0.0.1:4318'\njwt = { issuer = 'me', jwks = 'web:/keys' }\n\n[[routes]]\nhost = ['shop.example', '*.shop.example', 'xn--bcher-kva.example', '127.0.0.1', '[::1]', 'localhost']\nservice = 'web'\nrewrite = { host = 'other.example:8080' }\nrequest_headers = { set = { host-hint = \"a\\tb\" } }\n"), @r#"
    valid
    "#);
}

#[test]
fn a_path_that_cannot_be_read_is_nobody_elses() {
    let told = check(
        "[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\npath = 'a'\nservice = 'web'\n\n[[routes]]\npath = '/'\nservice = 'web'\n",
    );
    assert!(told.contains("`a` is not a path"), "{told}");
    assert!(!told.contains("duplicate-route"), "{told}");
}

#[test]
fn volumes_have_paths_of_their_own_from_the_root() {
    let told = check(
        "[services.web]\ncommand = ['web']\nport = 8081\nvolumes = [{ name = 'a', path = 'data' }, { name = 'b', path = '/b' }, { name = 'c', path = '/b' }]\n",
    );
    assert!(
        told.contains("`data` is not the path of a folder"),
        "{told}"
    );
    assert!(told.contains("have the path `/b`"), "{told}");
}

#[test]
fn authorities_of_what_is_asked_in_the_clear() {
    assert_snapshot!(check("[services.users]\ncommand = ['users']\nport = 8081\n\n[gateway]\notlp = { url = 'http://127.0.0.1:4318', ca = 'ca.pem' }\njwt = { issuer = 'https://id.example', jwks = 'users:/keys', ca = 'ca.pem' }\n"), @r"
      × `platform.toml` is not a valid blueprint: 2 problems

    Error: blueprint::contradiction

      × `http://127.0.0.1:4318` is asked in the clear, and shows no certificate
       ╭─[platform.toml:8:46]
     7 │ [gateway]
     8 │ otlp = { url = 'http://127.0.0.1:4318', ca = 'ca.pem' }
       ·                                              ────┬───
       ·                                                  ╰── here
     9 │ jwt = { issuer = 'https://id.example', jwks = 'users:/keys', ca = 'ca.pem' }
       ╰────
      help: write a URL that begins with `https://`, or take `ca` out

    Error: blueprint::contradiction

      × `users:/keys` is asked in the clear, and shows no certificate
       ╭─[platform.toml:9:67]
     8 │ otlp = { url = 'http://127.0.0.1:4318', ca = 'ca.pem' }
     9 │ jwt = { issuer = 'https://id.example', jwks = 'users:/keys', ca = 'ca.pem' }
       ·                                                                   ────┬───
       ·                                                                       ╰── here
       ╰────
      help: write a URL that begins with `https://`, or take `ca` out
    ");
}
