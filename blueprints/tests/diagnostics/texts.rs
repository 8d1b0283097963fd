//! Texts that go into HTTP messages, or are compared with what stands there.

use insta::assert_snapshot;

use crate::check;

#[test]
fn names_and_values_of_fields() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\nservice = 'web'\nheaders = { 'a b' = 'x' }\nrequest_headers = { set = { 'bad header' = 'x', Content-Length = '3' }, remove = ['transfer-encoding'] }\nresponse_headers = { add = { x = \"a\\r\\nset-cookie: b\" } }\ncsp = \"default-src\\n\"\ncache = { vary = ['accept language'] }\ncors = { origins = 'https://a.example', expose = ['x y'] }\n"), @"");
}

#[test]
fn hosts() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\nhost = ['example.com:8080', '*.bücher.example', '']\nservice = 'web'\nrewrite = { host = 'http://x' }\n"), @"");
}

#[test]
fn what_the_gateway_asks_and_is_shown() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[gateway]\notlp = 'nope'\njwt = { issuer = 'me' }\napi_keys = { header = 'x key', keys = 'keys' }\n\n[[routes]]\nservice = 'web'\n"), @"");
}

#[test]
fn texts_as_they_may_be() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[gateway]\notlp = 'http://127.0.0.1:4318'\njwt = { issuer = 'me', jwks = 'web:/keys' }\n\n[[routes]]\nhost = ['shop.example', '*.shop.example', 'xn--bcher-kva.example', '127.0.0.1', '[::1]', 'localhost']\nservice = 'web'\nrewrite = { host = 'other.example:8080' }\nrequest_headers = { set = { host-hint = \"a\\tb\" } }\n"), @"");
}
