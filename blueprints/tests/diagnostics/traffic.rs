//! Routes and rollouts.

use insta::assert_snapshot;

use super::check;

#[test]
fn routes() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[services.job]\ncommand = ['job']\n\n[[routes]]\npath = 'api'\nservice = 'web'\n\n[[routes]]\npath = '/a/{id}'\nservice = 'web'\n\n[[routes]]\npath = '/a/{name}'\nservice = 'web'\n\n[[routes]]\npath = '/b'\nservice = 'wbe'\n\n[[routes]]\npath = '/c'\nservice = 'job'\n\n[[routes]]\npath = '/d'\n\n[[routes]]\npath = '/e'\nservice = 'web'\nauth = { scopes = ['read'] }\nallow = ['10.0.0.0/33']\n"), @r#"
      × `platform.toml` is not a valid blueprint: 7 problems

    Error: blueprint::bad-value

      × `api` is not a path
        ╭─[platform.toml:11:8]
     10 │ [[routes]]
     11 │ path = 'api'
        ·        ──┬──
        ·          ╰── not taken
     12 │ service = 'web'
        ╰────
      help: begin it with `/`

    Error: blueprint::duplicate-route

      × two routes take the same requests, `/a/{name}`
        ╭─[platform.toml:19:8]
     14 │ [[routes]]
     15 │ path = '/a/{id}'
        ·        ────┬────
        ·            ╰── taken by this one
     16 │ service = 'web'
     17 │
     18 │ [[routes]]
     19 │ path = '/a/{name}'
        ·        ─────┬─────
        ·             ╰── never reached
     20 │ service = 'web'
        ╰────
      help: take one out, or tell them apart by `host`, `methods`, `headers` or `query`

    Error: blueprint::unknown-service

      × there is no service `wbe`
        ╭─[platform.toml:24:11]
     23 │ path = '/b'
     24 │ service = 'wbe'
        ·           ──┬──
        ·             ╰── not there
     25 │
        ╰────
      help: did you mean `web`?

    Error: blueprint::no-port

      × requests are led to `job`, which has no port
       ╭─[platform.toml:7:11]
     6 │
     7 │ [services.job]
       ·           ─┬─
       ·            ╰── has no port
     8 │ command = ['job']
       ╰────
        ╭─[platform.toml:28:11]
     27 │ path = '/c'
     28 │ service = 'job'
        ·           ──┬──
        ·             ╰── here
     29 │
        ╰────
      help: add `port` to `[services.job]`

    Error: blueprint::missing-setting

      × the route `/d` leads nowhere
        ╭─[platform.toml:30:1]
     29 │
     30 │ [[routes]]
        · ─────┬────
        ·      ╰── here
     31 │ path = '/d'
        ╰────
      help: add `service = "NAME"` or `redirect = "/elsewhere"`

    Error: blueprint::missing-setting

      × the route asks for tokens, which the gateway is not told how to check
        ╭─[platform.toml:36:1]
     35 │ service = 'web'
     36 │ auth = { scopes = ['read'] }
        · ──┬─
        ·   ╰── here
     37 │ allow = ['10.0.0.0/33']
        ╰────
      help: add `jwt = { issuer = "https://…" }` to `[gateway]`

    Error: blueprint::bad-value

      × `10.0.0.0/33` is not an address or network
        ╭─[platform.toml:37:10]
     36 │ auth = { scopes = ['read'] }
     37 │ allow = ['10.0.0.0/33']
        ·          ──────┬──────
        ·                ╰── here
        ╰────
      help: write one such as `10.0.0.7`, `10.0.0.0/8` or `2001:db8::/32`
    "#);
}

#[test]
fn methods_tell_routes_apart() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\nmethods = ['GET', 'HEAD']\nservice = 'web'\n\n[[routes]]\nmethods = ['POST']\nservice = 'web'\n\n[[routes]]\nservice = 'web'\n\n[[routes]]\nhost = 'a.example'\nservice = 'web'\n"), @"valid");
}

#[test]
fn rollouts() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nrollout = { strategy = 'blue-green', steps = ['5%', '5%'] }\n\n[rollout]\nstrategy = 'canary'\nsteps = ['0%', '10%', '5%', '100%']\norder = ['wbe']\ngates = [{ when = 'per-step' }]\nanalysis = { at_least = '10m', at_most = '1m', metrics = [{ name = 'queue', query = 'x' }] }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 8 problems

    Warning: blueprint::unused-key

      ⚠ `steps` has no effect on a blue-green rollout
       ╭─[platform.toml:5:46]
     4 │ command = ['web']
     5 │ rollout = { strategy = 'blue-green', steps = ['5%', '5%'] }
       ·                                              ──────┬─────
       ·                                                    ╰── only with `canary`
     6 │
       ╰────
      help: take it out, or choose the strategy that it is for

    Error: blueprint::bad-steps

      × the step to 5% comes after one to 5%
       ╭─[platform.toml:5:53]
     4 │ command = ['web']
     5 │ rollout = { strategy = 'blue-green', steps = ['5%', '5%'] }
       ·                                                     ──┬─
       ·                                                       ╰── here
     6 │
       ╰────
      help: let each step be larger than the one before

    Error: blueprint::bad-steps

      × a step of 0% shows nothing
        ╭─[platform.toml:9:10]
      8 │ strategy = 'canary'
      9 │ steps = ['0%', '10%', '5%', '100%']
        ·          ──┬─
        ·            ╰── here
     10 │ order = ['wbe']
        ╰────
      help: begin with a share above 0%

    Error: blueprint::bad-steps

      × the step to 5% comes after one to 10%
        ╭─[platform.toml:9:23]
      8 │ strategy = 'canary'
      9 │ steps = ['0%', '10%', '5%', '100%']
        ·                       ──┬─
        ·                         ╰── here
     10 │ order = ['wbe']
        ╰────
      help: let each step be larger than the one before

    Error: blueprint::bad-steps

      × the step to 100% comes by itself
        ╭─[platform.toml:9:29]
      8 │ strategy = 'canary'
      9 │ steps = ['0%', '10%', '5%', '100%']
        ·                             ───┬──
        ·                                ╰── here
     10 │ order = ['wbe']
        ╰────
      help: end with a share below 100%

    Error: blueprint::unknown-service

      × there is no service `wbe`
        ╭─[platform.toml:10:10]
      9 │ steps = ['0%', '10%', '5%', '100%']
     10 │ order = ['wbe']
        ·          ──┬──
        ·            ╰── not there
     11 │ gates = [{ when = 'per-step' }]
        ╰────
      help: did you mean `web`?

    Error: blueprint::missing-setting

      × the gate has nobody to ask
        ╭─[platform.toml:11:10]
     10 │ order = ['wbe']
     11 │ gates = [{ when = 'per-step' }]
        ·          ──────────┬──────────
        ·                    ╰── here
     12 │ analysis = { at_least = '10m', at_most = '1m', metrics = [{ name = 'queue', query = 'x' }] }
        ╰────
      help: add `command = ["…"]` or `webhook = "https://…"`

    Error: blueprint::contradiction

      × a step is looked at for at least 10m and at most 1m
        ╭─[platform.toml:12:25]
     11 │ gates = [{ when = 'per-step' }]
     12 │ analysis = { at_least = '10m', at_most = '1m', metrics = [{ name = 'queue', query = 'x' }] }
        ·                         ──┬──
        ·                           ╰── here
        ╰────
      help: make `at_most` the longer one

    Error: blueprint::missing-setting

      × the metric `queue` does not say whom to query
        ╭─[platform.toml:12:59]
     11 │ gates = [{ when = 'per-step' }]
     12 │ analysis = { at_least = '10m', at_most = '1m', metrics = [{ name = 'queue', query = 'x' }] }
        ·                                                           ───────────────┬───────────────
        ·                                                                          ╰── here
        ╰────
      help: add `prometheus = "http://…"`
    "#);
}

#[test]
fn keys_without_effect() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\n\n[rollout]\nstrategy = 'rolling'\nsteps = ['5%']\n"), @r#"
    blueprint::unused-key

      ⚠ `platform.toml` has something to look at

    Warning: blueprint::unused-key

      ⚠ `steps` has no effect on a rolling rollout
       ╭─[platform.toml:8:9]
     7 │ strategy = 'rolling'
     8 │ steps = ['5%']
       ·         ───┬──
       ·            ╰── only with `canary`
       ╰────
      help: take it out, or choose the strategy that it is for
    "#);
}

#[test]
fn metrics() {
    let check = |metric: &str| {
        check(&format!(
            "[services.web]\ncommand = ['web']\n\n[[rollout.analysis.metrics]]\nname = 'heap'\n{metric}\n"
        ))
    };
    let query = "query = 'heap'\nprometheus = 'http://127.0.0.1:9090'\n";
    for well in [
        "margin = 2",
        "margin = 0.5",
        "margin = '0%'",
        "headers = { Authorization = { secret = 'metrics' }, X-Scope-OrgID = 'shop' }",
    ] {
        assert_eq!(check(&format!("{query}{well}")), "valid");
    }
    for (rest, expected) in [
        ("margin = -1", "`-1` cannot be a margin"),
        ("margin = nan", "cannot be a margin"),
        ("margin = '5'", "`5` is not a percentage"),
        (
            "headers = { Authorization = 'Bearer abc' }",
            "the header `Authorization` holds a secret as a literal",
        ),
        (
            "headers = { X-Auth-Token = 'abc' }",
            "the header `X-Auth-Token` holds a secret as a literal",
        ),
        ("headers = { A = { secret = 'B B' } }", "B B"),
    ] {
        let shown = check(&format!("{query}{rest}"));
        assert!(shown.contains(expected), "{rest}: {shown}");
    }
    let shown = check("command = ['heap']\nheaders = { A = 'b' }");
    assert!(shown.contains("`headers` has no effect"), "{shown}");
    let secured = "query = 'heap'\nprometheus = 'https://metrics.shop.example'\n";
    assert_eq!(check(&format!("{secured}ca = 'ca.pem'")), "valid");
    let shown = check(&format!("{secured}ca = ''"));
    assert!(shown.contains("names no file"), "{shown}");
    for rest in [query, "command = ['heap']\n"] {
        let shown = check(&format!("{rest}ca = 'ca.pem'"));
        assert!(shown.contains("`ca` has no effect"), "{shown}");
    }
}

#[test]
fn headers_of_gates_are_for_webhooks_and_hold_no_secret_as_a_literal() {
    let check = |gate: &str| {
        check(&format!(
            "[services.web]\ncommand = ['web']\n\n[[rollout.gates]]\nwhen = 'per-step'\n{gate}\n"
        ))
    };
    let webhook = "webhook = 'https://ops.example'\n";
    let well = "headers = { Authorization = { secret = 'ops' }, X-Team = 'shop' }";
    assert_eq!(check(&format!("{webhook}{well}")), "valid");
    let shown = check(&format!(
        "{webhook}headers = {{ Authorization = 'Bearer abc' }}"
    ));
    assert!(
        shown.contains("the header `Authorization` holds a secret as a literal"),
        "{shown}"
    );
    let shown = check("command = ['./ask']\nheaders = { A = 'b' }");
    assert!(
        shown.contains("`headers` has no effect on a gate that asks no webhook"),
        "{shown}"
    );
}

#[test]
fn copies_are_for_what_runs_beside_the_old_release() {
    let check = |strategy: &str| {
        check(&format!(
            "[services.web]\ncommand = ['web']\n\n[rollout]\nstrategy = '{strategy}'\nmirror = '10%'\n"
        ))
    };
    assert_eq!(check("canary"), "valid");
    assert_eq!(check("blue-green"), "valid");
    let shown = check("rolling");
    assert!(
        shown.contains("`mirror` has no effect on a rolling rollout"),
        "{shown}"
    );
    assert!(
        shown.contains("only with `canary` and `blue-green`"),
        "{shown}"
    );
}

#[test]
fn a_rollout_of_its_own_is_none_together_with_others() {
    let text =
        "[services.web]\ncommand = ['web']\nrollout = { strategy = 'blue-green' }\n\n[rollout]\n";
    let shown = check(&format!("{text}order = 'together'\n"));
    assert!(
        shown.contains("⚠ `web` has a rollout of its own, so it does not move together"),
        "{shown}"
    );
    assert_eq!(check(text), "valid");
}

#[test]
fn certificates_between_services() {
    assert_snapshot!(check("[services.web]\ncommand = ['web', '${TLS_KEY_FILE}']\nport = 8081\n\n[services.audit]\ncommand = ['audit', '--key=${TLS_KEY_FILE}']\nport = 8082\nprotocol = 'mtls'\nenv = { TLS_CLIENT_CA_FILE = '/etc/ca' }\n\n[gateway]\nmtls = { lasts = '2s' }\n\n[[routes]]\nservice = 'web'\nmirror = 'audit'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 3 problems

    Error: blueprint::unknown-reference

      × `${TLS_KEY_FILE}` stands for nothing
       ╭─[platform.toml:4:19]
     3 │ [services.web]
     4 │ command = ['web', '${TLS_KEY_FILE}']
       ·                   ────────┬────────
       ·                           ╰── not known
     5 │ port = 8081
       ╰────
      help: to leave it for the program, write `$${TLS_KEY_FILE}`

    Error: blueprint::contradiction

      × `TLS_CLIENT_CA_FILE` is handed to every instance that speaks mtls and cannot be set
        ╭─[platform.toml:11:30]
     10 │ protocol = 'mtls'
     11 │ env = { TLS_CLIENT_CA_FILE = '/etc/ca' }
        ·                              ────┬────
        ·                                  ╰── here
     12 │
        ╰────
      help: take it out

    Error: blueprint::bad-value

      × a certificate between services cannot last 2s
        ╭─[platform.toml:14:18]
     13 │ [gateway]
     14 │ mtls = { lasts = '2s' }
        ·                  ──┬─
        ·                    ╰── here
     15 │
        ╰────
      help: write ten seconds to a year, such as `"90d"`
    "#);
}

#[test]
fn segments_of_a_template() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\npath = '/a/{id}/{rest...}'\nredirect = 'https://a.example/{id}/{rest}'\n\n[[routes]]\npath = '/b/{shop}'\nredirect = { to = 'https://{shop}.example/{shp}', status = 301 }\n\n[[routes]]\npath = '/c'\nservice = 'web'\nrewrite = '/{id}'\n\n[[routes]]\npath = '/d'\nredirect = 'elsewhere'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 3 problems

    Error: blueprint::bad-value

      × segments of the path are put into a path alone
        ╭─[platform.toml:13:1]
     12 │ path = '/b/{shop}'
     13 │ redirect = { to = 'https://{shop}.example/{shp}', status = 301 }
        · ────┬───
        ·     ╰── here
     14 │
        ╰────
      help: write the host out

    Error: blueprint::bad-value

      × `{id}` stands for nothing
        ╭─[platform.toml:18:11]
     17 │ service = 'web'
     18 │ rewrite = '/{id}'
        ·           ───┬───
        ·              ╰── here
     19 │
        ╰────
      help: name a segment so in the route's path, such as `/orders/{id}`

    Error: blueprint::bad-value

      × `elsewhere` is neither a path nor a URL
        ╭─[platform.toml:22:12]
     21 │ path = '/d'
     22 │ redirect = 'elsewhere'
        ·            ─────┬─────
        ·                 ╰── not taken
        ╰────
      help: begin it with `/`, `https://` or `http://`
    "#);
}

#[test]
fn previews_and_limits_of_nothing() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\ntraffic = { concurrency_each = 0 }\n\n[[routes]]\npath = '/a'\nredirect = '/b'\npreview = true\n"), @r#"
      × `platform.toml` is not a valid blueprint: 2 problems

    Error: blueprint::bad-value

      × a limit that lets nothing in is none
       ╭─[platform.toml:6:32]
     5 │ port = 8081
     6 │ traffic = { concurrency_each = 0 }
       ·                                ┬
       ·                                ╰── here
     7 │
       ╰────
      help: write how many at once, or take it out for no limit

    Error: blueprint::contradiction

      × the route `/a` leads to no release
        ╭─[platform.toml:11:11]
     10 │ redirect = '/b'
     11 │ preview = true
        ·           ──┬─
        ·             ╰── here
        ╰────
      help: write `service` in place of `redirect`, or take `preview` out
    "#);
}

#[test]
fn what_is_counted_together_is_counted_in_a_redis_of_the_environment() {
    let checked = |shared: &str| {
        check(&format!(
            "[services.web]\ncommand = ['web']\nport = 8081\n\n[[routes]]\npath = '/'\nservice = 'web'\n\
             rate_limit = {{ requests = 5, shared = true }}\n\n[resources.db]\nkind = 'postgres'\n\n\
             [resources.counts]\nkind = 'redis'\n\n{shared}"
        ))
    };
    assert_eq!(checked("[gateway]\nshared = 'counts'\n"), "valid");
    for (shared, place, help) in [
        (
            "",
            "10 │ rate_limit = { requests = 5, shared = true }",
            "add `shared = \"NAME\"` of a redis resource to `[gateway]`",
        ),
        (
            "[gateway]\nshared = 'db'\n",
            "19 │ shared = 'db'",
            "`db` is of kind `postgres`; name one of kind `redis`",
        ),
        (
            "[gateway]\nshared = 'cuonts'\n",
            "19 │ shared = 'cuonts'",
            "did you mean `counts`?",
        ),
    ] {
        let told = checked(shared);
        for part in ["blueprint::missing-setting", place, help] {
            assert!(told.contains(part), "`{part}` in {told}");
        }
    }
}

#[test]
fn a_certificate_that_could_not_be_read_is_not_missing() {
    for (tls, code) in [
        (
            "certificates = [{ host = 'a.example', key = 'tls' }]",
            "missing-key",
        ),
        (
            "certificates = [{ certificate = 'a.pem', key = 'Not A Name' }]",
            "bad-value",
        ),
        ("certificates = 'a.pem'", "wrong-type"),
        ("local_ca = 'yes'", "wrong-type"),
    ] {
        let shown = check(&format!("[gateway.tls]\n{tls}\n"));
        assert!(
            shown.contains(
                "is not a valid blueprint: 1 problem
"
            ),
            "{shown}"
        );
        assert!(shown.contains(code), "{shown}");
    }
    let shown = check("[gateway.tls]\ncertificates = []\n");
    assert!(shown.contains("missing-setting"), "{shown}");
}

#[test]
fn a_service_behind_nothing_but_previews_is_told() {
    let service = "[services.web]\ncommand = ['web']\nport = 8081\n";
    let preview = "\n[[routes]]\npath = '/'\nservice = 'web'\npreview = true\n";
    let with = |more: &str| check(&format!("{service}{preview}{more}"));
    assert_snapshot!(with(""), @"
    blueprint::contradiction

      ⚠ `platform.toml` has something to look at

    Warning: blueprint::contradiction

      ⚠ nothing but previews leads to `web`
        ╭─[platform.toml:10:11]
      9 │ service = 'web'
     10 │ preview = true
        ·           ──┬─
        ·             ╰── a release on trial gets all of these requests
        ╰────
      help: take it out, and write a second route for who tries a release out, such as one with
            another `host`
    ");
    assert_eq!(
        with("\n[[routes]]\npath = '/a'\nservice = 'web'\n"),
        "valid"
    );
    let caller = "\n[services.job]\ncommand = ['job']\nneeds = ['web']\n";
    assert_eq!(with(caller), "valid");
}
