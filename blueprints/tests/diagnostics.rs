//! Each kind of problem, as the reader of the blueprint sees it.

#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

use insta::assert_snapshot;
use miette::{GraphicalReportHandler, GraphicalTheme};
use platform_blueprint::{Blueprint, Code, EnvironmentName, Problems};

fn show(problems: &Problems) -> String {
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut shown, problems)
        .unwrap();
    shown
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Shows what is wrong with a blueprint of one project and what follows.
fn check(rest: &str) -> String {
    check_whole(&format!("[project]\nname = \"shop\"\n{rest}"))
}

fn check_whole(text: &str) -> String {
    match Blueprint::parse(text, "platform.toml") {
        Ok(parsed) if parsed.warnings.is_empty() => "valid".to_owned(),
        Ok(parsed) => show(&parsed.warnings),
        Err(problems) => show(&problems),
    }
}

#[test]
fn syntax() {
    assert_snapshot!(check("[services.web\nport = 80\n"), @r#"
    blueprint::syntax

      × `platform.toml` is not a valid blueprint: 1 problem

    Error: blueprint::syntax

      × unclosed table, expected `]`
       ╭─[platform.toml:3:14]
     2 │ name = "shop"
     3 │ [services.web
       ·              ▲
       ·              ╰── not TOML
     4 │ port = 80
       ╰────
    "#);
    assert_snapshot!(check("[services.web]\nport = 80\nport = 81\n"), @r#"
    blueprint::syntax

      × `platform.toml` is not a valid blueprint: 1 problem

    Error: blueprint::syntax

      × duplicate key
       ╭─[platform.toml:5:1]
     3 │ [services.web]
     4 │ port = 80
       · ──┬─
       ·   ╰── here before
     5 │ port = 81
       · ──┬─
       ·   ╰── not TOML
       ╰────
    "#);
}

#[test]
fn unknown_keys() {
    assert_snapshot!(check("[services.web]\nimage = 'nginx'\nprot = 80\nhealth = { redy = '/' }\n\n[servces.api]\n\n[environments.local]\nprovider = 'docker'\nsevices.web.replicas = 2\n"), @r#"
      × `platform.toml` is not a valid blueprint: 4 problems

    Error: blueprint::unknown-key

      × `prot` is not a known key here
       ╭─[platform.toml:5:1]
     4 │ image = 'nginx'
     5 │ prot = 80
       · ──┬─
       ·   ╰── not known
     6 │ health = { redy = '/' }
       ╰────
      help: did you mean `port`?

    Error: blueprint::unknown-key

      × `redy` is not a known key here
       ╭─[platform.toml:6:12]
     5 │ prot = 80
     6 │ health = { redy = '/' }
       ·            ──┬─
       ·              ╰── not known
     7 │
       ╰────
      help: did you mean `ready`?

    Error: blueprint::unknown-key

      × `servces` is not a known key here
       ╭─[platform.toml:8:2]
     7 │
     8 │ [servces.api]
       ·  ───┬───
       ·     ╰── not known
     9 │
       ╰────
      help: did you mean `services`?

    Error: blueprint::unknown-key

      × `sevices` is not a known key here
        ╭─[platform.toml:12:1]
     11 │ provider = 'docker'
     12 │ sevices.web.replicas = 2
        · ───┬───
        ·    ╰── not known
        ╰────
      help: did you mean `services`?
    "#);
}

#[test]
fn unknown_values() {
    assert_snapshot!(check("[rollout]\nstrategy = 'cannary'\n\n[resources.db]\nkind = 'oracle'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 2 problems

    Error: blueprint::unknown-value

      × `cannary` is not one of the values known here
       ╭─[platform.toml:4:12]
     3 │ [rollout]
     4 │ strategy = 'cannary'
       ·            ────┬────
       ·                ╰── not known
     5 │
       ╰────
      help: did you mean `canary`?

    Error: blueprint::unknown-value

      × `oracle` is not one of the values known here
       ╭─[platform.toml:7:8]
     6 │ [resources.db]
     7 │ kind = 'oracle'
       ·        ────┬───
       ·            ╰── not known
       ╰────
      help: write one of `postgres`, `redis`, `nats`, `object-store`, `search`
    "#);
}

#[test]
fn wrong_types() {
    assert_snapshot!(check("[services.web]\ncommand = 'web'\nport = '80'\nreplicas = 'two'\nneeds = 'db'\nhealth = '/health'\nlimits = { memory = 128, cpu = '1' }\nenv = { A = [1] }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 8 problems

    Error: blueprint::wrong-type

      × expected a list, found the text "web"
       ╭─[platform.toml:4:11]
     3 │ [services.web]
     4 │ command = 'web'
       ·           ──┬──
       ·             ╰── wrong type
     5 │ port = '80'
       ╰────

    Error: blueprint::wrong-type

      × expected a port from 1 to 65535, found the text "80"
       ╭─[platform.toml:5:8]
     4 │ command = 'web'
     5 │ port = '80'
       ·        ──┬─
       ·          ╰── wrong type
     6 │ replicas = 'two'
       ╰────

    Error: blueprint::wrong-type

      × expected a whole number, 0 or more, found the text "two"
       ╭─[platform.toml:6:12]
     5 │ port = '80'
     6 │ replicas = 'two'
       ·            ──┬──
       ·              ╰── wrong type
     7 │ needs = 'db'
       ╰────

    Error: blueprint::wrong-type

      × expected a list, found the text "db"
       ╭─[platform.toml:7:9]
     6 │ replicas = 'two'
     7 │ needs = 'db'
       ·         ──┬─
       ·           ╰── wrong type
     8 │ health = '/health'
       ╰────

    Error: blueprint::wrong-type

      × expected a table, found the text "/health"
       ╭─[platform.toml:8:10]
     7 │ needs = 'db'
     8 │ health = '/health'
       ·          ────┬────
       ·              ╰── wrong type
     9 │ limits = { memory = 128, cpu = '1' }
       ╰────

    Error: blueprint::wrong-type

      × expected a size such as "512KiB", "128MiB" or "1GB", found the number `128`
        ╭─[platform.toml:9:21]
      8 │ health = '/health'
      9 │ limits = { memory = 128, cpu = '1' }
        ·                     ─┬─
        ·                      ╰── wrong type
     10 │ env = { A = [1] }
        ╰────

    Error: blueprint::wrong-type

      × expected a number of cores such as 0.5, found the text "1"
        ╭─[platform.toml:9:32]
      8 │ health = '/health'
      9 │ limits = { memory = 128, cpu = '1' }
        ·                                ─┬─
        ·                                 ╰── wrong type
     10 │ env = { A = [1] }
        ╰────

    Error: blueprint::wrong-type

      × expected a text, a whole number, true, false or { secret = "name" }, found a list
        ╭─[platform.toml:10:13]
      9 │ limits = { memory = 128, cpu = '1' }
     10 │ env = { A = [1] }
        ·             ─┬─
        ·              ╰── wrong type
        ╰────
    "#);
}

#[test]
fn bad_values() {
    assert_snapshot!(check("[services.Web]\nimage = 'ng inx'\n\n[services.api]\ncommand = ['api']\nport = 70000\nreplicas = -1\nstop = { grace = '10' }\nlimits = { memory = '128mb', cpu = 0 }\n\n[rollout]\nsteps = ['0.55%']\nanalysis = { confidence = 1.5 }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 8 problems

    Error: blueprint::bad-value

      × `Web` is not a name: it does not begin with a lower-case letter
       ╭─[platform.toml:3:11]
     2 │ name = "shop"
     3 │ [services.Web]
       ·           ─┬─
       ·            ╰── not a name
     4 │ image = 'ng inx'
       ╰────
      help: write lower-case letters, digits and single words joined by `-`, beginning with a letter,
            at most 40 characters

    Error: blueprint::bad-value

      × `70000` is not a port
       ╭─[platform.toml:8:8]
     7 │ command = ['api']
     8 │ port = 70000
       ·        ──┬──
       ·          ╰── not taken
     9 │ replicas = -1
       ╰────
      help: write a number from 1 to 65535

    Error: blueprint::bad-value

      × expected a whole number, 0 or more, found the number `-1`
        ╭─[platform.toml:9:12]
      8 │ port = 70000
      9 │ replicas = -1
        ·            ─┬
        ·             ╰── not taken
     10 │ stop = { grace = '10' }
        ╰────

    Error: blueprint::bad-value

      × `10` is not a length of time
        ╭─[platform.toml:10:18]
      9 │ replicas = -1
     10 │ stop = { grace = '10' }
        ·                  ──┬─
        ·                    ╰── not taken
     11 │ limits = { memory = '128mb', cpu = 0 }
        ╰────
      help: write a whole number and a unit, such as `250ms`, `30s`, `10m`, `2h` or `1d`

    Error: blueprint::bad-value

      × `128mb` is not a size
        ╭─[platform.toml:11:21]
     10 │ stop = { grace = '10' }
     11 │ limits = { memory = '128mb', cpu = 0 }
        ·                     ───┬───
        ·                        ╰── not taken
     12 │
        ╰────
      help: write a whole number and a unit, such as `512KiB`, `128MiB` or `1GB`

    Error: blueprint::bad-value

      × `0` is not a number of cores
        ╭─[platform.toml:11:36]
     10 │ stop = { grace = '10' }
     11 │ limits = { memory = '128mb', cpu = 0 }
        ·                                    ┬
        ·                                    ╰── not taken
     12 │
        ╰────
      help: write one above 0, such as `0.5` or `2`

    Error: blueprint::bad-value

      × `0.55%` is not a percentage
        ╭─[platform.toml:14:10]
     13 │ [rollout]
     14 │ steps = ['0.55%']
        ·          ───┬───
        ·             ╰── not taken
     15 │ analysis = { confidence = 1.5 }
        ╰────
      help: write one from `0%` to `100%` in steps of 0.1, such as `1%` or `0.5%`

    Error: blueprint::bad-value

      × `1.5` is not a probability
        ╭─[platform.toml:15:27]
     14 │ steps = ['0.55%']
     15 │ analysis = { confidence = 1.5 }
        ·                           ─┬─
        ·                            ╰── not taken
        ╰────
      help: write a number between 0 and 1, such as 0.99
    "#);
}

#[test]
fn missing_keys() {
    assert_snapshot!(check_whole("[services.web]\ncommand = ['web']\n\n[resources.db]\nversion = '16'\n\n[environments.local]\n"), @r#"
      × `platform.toml` is not a valid blueprint: 3 problems

    Error: blueprint::missing-key

      × the project has no name
       ╭─[platform.toml:1:1]
     1 │ [services.web]
       · ▲
       · ╰── before anything else
     2 │ command = ['web']
       ╰────
      help: begin with `[project]` and `name = "…"`

    Error: blueprint::missing-key

      × `kind` is missing
       ╭─[platform.toml:4:12]
     3 │
     4 │ [resources.db]
       ·            ─┬
       ·             ╰── needs `kind`
     5 │ version = '16'
       ╰────

    Error: blueprint::missing-key

      × `provider` is missing
       ╭─[platform.toml:7:15]
     6 │
     7 │ [environments.local]
       ·               ──┬──
       ·                 ╰── needs `provider`
       ╰────
      help: write one of `process`, `docker`, `kubernetes`, `terraform`
    "#);
}

#[test]
fn builds() {
    assert_snapshot!(check("[services.a]\nbuild = { cargo = 'a', image = 'b' }\n\n[services.b]\nbuild = { dockerfile = '.', features = ['x'] }\n\n[services.c]\nbuild = {}\n\n[services.d]\nport = 80\n"), @r#"
      × `platform.toml` is not a valid blueprint: 4 problems

    Error: blueprint::bad-value

      × a build is one of `cargo` and `image`, not all
       ╭─[platform.toml:4:9]
     3 │ [services.a]
     4 │ build = { cargo = 'a', image = 'b' }
       ·         ──────────────┬─────────────
       ·                       ╰── not taken
     5 │
       ╰────
      help: keep one

    Error: blueprint::bad-value

      × `features` does not go with a `dockerfile` build
       ╭─[platform.toml:7:9]
     6 │ [services.b]
     7 │ build = { dockerfile = '.', features = ['x'] }
       ·         ───────────────────┬──────────────────
       ·                            ╰── not taken
     8 │
       ╰────
      help: remove it

    Error: blueprint::bad-value

      × the build does not say how
        ╭─[platform.toml:10:9]
      9 │ [services.c]
     10 │ build = {}
        ·         ─┬
        ·          ╰── not taken
     11 │
        ╰────
      help: write one of `cargo`, `command`, `dockerfile`, `program` or `image`

    Error: blueprint::nothing-to-run

      × `d` does not say what to run
        ╭─[platform.toml:12:11]
     11 │
     12 │ [services.d]
        ·           ┬
        ·           ╰── nothing to run
     13 │ port = 80
        ╰────
      help: add `build`, `image` or `command`
    "#);
}

#[test]
fn needs() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nneeds = ['oders', 'worker', 'cache']\n\n[services.orders]\ncommand = ['orders']\nport = 8081\n\n[services.worker]\ncommand = ['worker']\n\n[resources.orders]\nkind = 'postgres'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 4 problems

    Error: blueprint::dangling-need

      × `web` needs `oders`, which is not there
       ╭─[platform.toml:5:10]
     4 │ command = ['web']
     5 │ needs = ['oders', 'worker', 'cache']
       ·          ───┬───
       ·             ╰── neither a service nor a resource
     6 │
       ╰────
      help: did you mean `orders`?

    Error: blueprint::no-port

      × `web` needs `worker`, which has no port to be called at
        ╭─[platform.toml:5:19]
      4 │ command = ['web']
      5 │ needs = ['oders', 'worker', 'cache']
        ·                   ────┬───
        ·                       ╰── here
      6 │
      7 │ [services.orders]
      8 │ command = ['orders']
      9 │ port = 8081
     10 │
     11 │ [services.worker]
        ·           ───┬──
        ·              ╰── has no port
     12 │ command = ['worker']
        ╰────
      help: add `port` to `[services.worker]`

    Error: blueprint::dangling-need

      × `web` needs `cache`, which is not there
       ╭─[platform.toml:5:29]
     4 │ command = ['web']
     5 │ needs = ['oders', 'worker', 'cache']
       ·                             ───┬───
       ·                                ╰── neither a service nor a resource
     6 │
       ╰────
      help: add `[resources.cache]` or `[services.cache]`

    Error: blueprint::name-clash

      × `orders` is both a service and a resource
        ╭─[platform.toml:14:12]
      6 │
      7 │ [services.orders]
        ·           ───┬──
        ·              ╰── the service
      8 │ command = ['orders']
      9 │ port = 8081
     10 │
     11 │ [services.worker]
     12 │ command = ['worker']
     13 │
     14 │ [resources.orders]
        ·            ───┬──
        ·               ╰── the resource
     15 │ kind = 'postgres'
        ╰────
      help: rename one, for instance the resource to `orders-db`
    "#);
}

#[test]
fn circles() {
    assert_snapshot!(check("[services.a]\ncommand = ['a']\nport = 1\nneeds = ['b']\n\n[services.b]\ncommand = ['b']\nport = 2\nneeds = ['c']\n\n[services.c]\ncommand = ['c']\nport = 3\nneeds = ['a', 'c']\n"), @r#"
    blueprint::cyclic-need

      × `platform.toml` is not a valid blueprint: 1 problem

    Error: blueprint::cyclic-need

      × services need each other in a circle: `a` → `b` → `c` → `a`
       ╭─[platform.toml:6:10]
     5 │ port = 1
     6 │ needs = ['b']
       ·          ─┬─
       ·           ╰── the circle begins here
     7 │
       ╰────
        ╭─[platform.toml:16:10]
     15 │ port = 3
     16 │ needs = ['a', 'c']
        ·          ─┬─
        ·           ╰── and ends here
        ╰────
      help: none of them could start first; take one of these needs out
    "#);
}

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
fn ports() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8080\n\n[services.api]\ncommand = ['api']\nport = 8081\n\n[services.old]\ncommand = ['old']\nport = 8081\n\n[services.told]\ncommand = ['told', '${PORT}']\nport = 8081\n\n[gateway]\nport = 8443\ntls = { local_ca = true }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 1 problem

    Warning: blueprint::port-clash

      ⚠ `old` and `api` both say port 8081
        ╭─[platform.toml:13:8]
      8 │ command = ['api']
      9 │ port = 8081
        ·        ──┬─
        ·          ╰── taken here
     10 │
     11 │ [services.old]
     12 │ command = ['old']
     13 │ port = 8081
        ·        ──┬─
        ·          ╰── also taken
     14 │
        ╰────
      help: they get along if the program listens on the port it is handed as `PORT`; otherwise give
            each its own

    Error: blueprint::port-clash

      × the gateway's `port` and `tls.port` are both 8443
        ╭─[platform.toml:20:8]
     19 │ [gateway]
     20 │ port = 8443
        ·        ──┬─
        ·          ╰── here
     21 │ tls = { local_ca = true }
        ╰────
      help: change one
    "#);
}

#[test]
fn secrets() {
    assert_snapshot!(check("[services.web]\ncommand = ['web', 'ghp_abcdefghijklmnopqrstuvwx']\n\n[services.web.env]\nSTRIPE_KEY = 'changeme'\nDATABASE_URL = 'postgres://me:hunter2@db/shop'\nSIGNING_KEY = { secret = 'signing-key', as = 'file' }\nPARTITION_KEY = { plain = 'region' }\n9LIVES = 1\nPORT = 80\n"), @r#"
      × `platform.toml` is not a valid blueprint: 5 problems

    Error: blueprint::literal-secret

      × `command` holds a secret as a literal: it looks like an access token of GitHub or GitLab
       ╭─[platform.toml:4:19]
     3 │ [services.web]
     4 │ command = ['web', 'ghp_abcdefghijklmnopqrstuvwx']
       ·                   ───────────────┬──────────────
       ·                                  ╰── readable by everyone
     5 │
       ╰────
      help: hand it over as a variable: `env = { NAME = { secret = "name" } }`

    Error: blueprint::literal-secret

      × `STRIPE_KEY` holds a secret as a literal: its name says that it is a secret
       ╭─[platform.toml:7:14]
     6 │ [services.web.env]
     7 │ STRIPE_KEY = 'changeme'
       ·              ─────┬────
       ·                   ╰── readable by everyone
     8 │ DATABASE_URL = 'postgres://me:hunter2@db/shop'
       ╰────
      help: store it with `platform secrets set stripe-key` and write `{ secret = "stripe-key" }`; if
            it is no secret, write `{ plain = "…" }`

    Error: blueprint::literal-secret

      × `DATABASE_URL` holds a secret as a literal: it is an address with a password
       ╭─[platform.toml:8:16]
     7 │ STRIPE_KEY = 'changeme'
     8 │ DATABASE_URL = 'postgres://me:hunter2@db/shop'
       ·                ───────────────┬───────────────
       ·                               ╰── readable by everyone
     9 │ SIGNING_KEY = { secret = 'signing-key', as = 'file' }
       ╰────
      help: store it with `platform secrets set database-url` and write `{ secret = "database-url" }`;
            if it is no secret, write `{ plain = "…" }`

    Error: blueprint::bad-value

      × `9LIVES` is not the name of a variable
        ╭─[platform.toml:11:10]
     10 │ PARTITION_KEY = { plain = 'region' }
     11 │ 9LIVES = 1
        ·          ┬
        ·          ╰── here
     12 │ PORT = 80
        ╰────
      help: write letters, digits and `_`, not beginning with a digit

    Error: blueprint::contradiction

      × `PORT` is handed to every instance and cannot be set
        ╭─[platform.toml:12:8]
     11 │ 9LIVES = 1
     12 │ PORT = 80
        ·        ─┬
        ·         ╰── here
        ╰────
      help: take it out; a port is set with `port`
    "#);
}

#[test]
fn references() {
    assert_snapshot!(check("[services.web]\ncommand = ['web', '--port=${PROT}', '$${HOME}', '${LOG} ${ORDERS_DB_URL}']\nport = 8081\nneeds = ['orders-db']\nenv = { LOG = '${HOME}' }\n\n[services.job]\ncommand = ['job', '${PORT}']\nkind = 'job'\n\n[resources.orders-db]\nkind = 'postgres'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 3 problems

    Error: blueprint::unknown-reference

      × `${PROT}` stands for nothing
       ╭─[platform.toml:4:19]
     3 │ [services.web]
     4 │ command = ['web', '--port=${PROT}', '$${HOME}', '${LOG} ${ORDERS_DB_URL}']
       ·                   ────────┬───────
       ·                           ╰── not known
     5 │ port = 8081
       ╰────
      help: did you mean `${PORT}`?

    Error: blueprint::unknown-reference

      × `${HOME}` stands for nothing
       ╭─[platform.toml:7:15]
     6 │ needs = ['orders-db']
     7 │ env = { LOG = '${HOME}' }
       ·               ────┬────
       ·                   ╰── not known
     8 │
       ╰────
      help: to leave it for the program, write `$${HOME}`

    Error: blueprint::no-port

      × `${PORT}` is used and `job` has no port
        ╭─[platform.toml:10:19]
      9 │ [services.job]
     10 │ command = ['job', '${PORT}']
        ·                   ────┬────
        ·                       ╰── here
     11 │ kind = 'job'
        ╰────
      help: add `port` to `[services.job]`
    "#);
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
fn overlays() {
    assert_snapshot!(check("[services.web]\nimage = 'nginx'\nport = 80\n\n[services.orders]\nbuild = { cargo = 'orders' }\n\n[environments.production]\nprovider = 'dokcer'\n\n[environments.staging]\nprovider = 'kubernetes'\nconetxt = 'staging'\nservices.wbe.replicas = 2\nservices.web.replicas = 'two'\nresources.db.version = '16'\n\n[environments.local]\nprovider = 'process'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 6 problems

    Error: blueprint::contradiction

      × `web` is an image, which `local` cannot run as a local process
       ╭─[platform.toml:4:9]
     3 │ [services.web]
     4 │ image = 'nginx'
       ·         ───┬───
       ·            ╰── image on local processes
     5 │ port = 80
       ╰────
      help: give `web` another build in `[environments.local]`, or `replicas = 0` there

    Error: blueprint::unknown-provider

      × `dokcer` is not a provider
        ╭─[platform.toml:11:12]
     10 │ [environments.production]
     11 │ provider = 'dokcer'
        ·            ────┬───
        ·                ╰── not known
     12 │
        ╰────
      help: did you mean `docker`?

    Error: blueprint::unknown-key

      × `conetxt` is not a known key here
        ╭─[platform.toml:15:1]
     14 │ provider = 'kubernetes'
     15 │ conetxt = 'staging'
        · ───┬───
        ·    ╰── not known
     16 │ services.wbe.replicas = 2
        ╰────
      help: did you mean `context`?

    Error: blueprint::unknown-in-overlay

      × the environment changes `wbe`, which is not in `[services]`
        ╭─[platform.toml:16:10]
     15 │ conetxt = 'staging'
     16 │ services.wbe.replicas = 2
        ·          ─┬─
        ·           ╰── not there
     17 │ services.web.replicas = 'two'
        ╰────
      help: did you mean `web`?

    Error: blueprint::wrong-type

      × expected a whole number, 0 or more, found the text "two"
        ╭─[platform.toml:17:25]
     16 │ services.wbe.replicas = 2
     17 │ services.web.replicas = 'two'
        ·                         ──┬──
        ·                           ╰── wrong type
     18 │ resources.db.version = '16'
        ╰────

    Error: blueprint::unknown-in-overlay

      × the environment changes `db`, which is not in `[resources]`
        ╭─[platform.toml:18:11]
     17 │ services.web.replicas = 'two'
     18 │ resources.db.version = '16'
        ·           ─┬
        ·            ╰── not there
     19 │
        ╰────
      help: add `[resources.db]` first
    "#);
}

#[test]
fn engines() {
    assert_snapshot!(check("[resources.db]\nkind = 'postgres'\nengine = 'embedded'\nstandbys = 1\n\n[resources.cache]\nkind = 'redis'\nengine = 'nats'\nsynchronous = true\n\n[environments.local]\nprovider = 'process'\n\n[environments.docker]\nprovider = 'docker'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 4 problems

    Error: blueprint::engine-misfit

      × `db` is embedded, which `docker` cannot have
       ╭─[platform.toml:5:10]
     4 │ kind = 'postgres'
     5 │ engine = 'embedded'
       ·          ─────┬────
       ·               ╰── embedded engines run with local processes only
     6 │ standbys = 1
       ╰────
      help: leave `engine` out, or write it in an environment on local processes, not in `docker`

    Error: blueprint::engine-misfit

      × `db` is embedded, which has no standbys
       ╭─[platform.toml:6:12]
     4 │ kind = 'postgres'
     5 │ engine = 'embedded'
       ·          ─────┬────
       ·               ╰── embedded
     6 │ standbys = 1
       ·            ┬
       ·            ╰── here
     7 │
       ╰────
      help: take out `standbys`, or name a real engine

    Error: blueprint::engine-misfit

      × `nats` cannot stand behind a `redis`
        ╭─[platform.toml:10:10]
      9 │ kind = 'redis'
     10 │ engine = 'nats'
        ·          ───┬──
        ·             ╰── here
     11 │ synchronous = true
        ╰────
      help: write one of `redis`, `valkey`, `embedded`, or leave it out

    Error: blueprint::missing-setting

      × writes to `cache` wait for a standby, and there is none
        ╭─[platform.toml:11:15]
     10 │ engine = 'nats'
     11 │ synchronous = true
        ·               ──┬─
        ·                 ╰── here
     12 │
        ╰────
      help: add `standbys = 1`
    "#);
}

#[test]
fn drills() {
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n\n[resources.db]\nkind = 'postgres'\n\n[[routes]]\nservice = 'web'\npath = '/shop'\n\n[drills.one]\ntarget = 'bd'\nfault = 'kill-primary'\n\n[drills.two]\ntarget = 'web'\nfault = 'kill-primary'\n\n[drills.three]\ntarget = 'db'\nfault = 'lose-data'\nsteady = { route = '/shpo' }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 4 problems

    Error: blueprint::unknown-target

      × there is no service or resource `bd`
        ╭─[platform.toml:15:10]
     14 │ [drills.one]
     15 │ target = 'bd'
        ·          ──┬─
        ·            ╰── not there
     16 │ fault = 'kill-primary'
        ╰────
      help: did you mean `db`?

    Error: blueprint::fault-misfit

      × `kill-primary` is for resources, and `web` is a service
        ╭─[platform.toml:20:9]
     19 │ target = 'web'
     20 │ fault = 'kill-primary'
        ·         ───────┬──────
        ·                ╰── here
     21 │
        ╰────
      help: write `kill-instance` or `kill-all`

    Error: blueprint::fault-misfit

      × `db` is not backed up, so what is lost cannot come back
        ╭─[platform.toml:24:9]
     23 │ target = 'db'
     24 │ fault = 'lose-data'
        ·         ─────┬─────
        ·              ╰── here
     25 │ steady = { route = '/shpo' }
        ╰────
      help: add `backup` to `[resources.db]`

    Error: blueprint::unknown-target

      × no route takes `/shpo`
        ╭─[platform.toml:25:20]
     24 │ fault = 'lose-data'
     25 │ steady = { route = '/shpo' }
        ·                    ───┬───
        ·                       ╰── not routed
        ╰────
      help: did you mean `/shop`?
    "#);
}

#[test]
fn environments() {
    let name = |name: &str| EnvironmentName::new(name).unwrap();
    let text = "[project]\nname = 'shop'\n\n[environments.staging]\nprovider = 'docker'\n\n[environments.production]\nprovider = 'docker'\n";
    let blueprint = Blueprint::parse(text, "platform.toml").unwrap().blueprint;
    assert_snapshot!(show(&blueprint.resolve(Some(&name("stagin"))).unwrap_err()), @r#"
    blueprint::unknown-environment

      × `platform.toml` is not a valid blueprint: 1 problem

    Error: blueprint::unknown-environment

      × the blueprint has no environment `stagin`
      help: did you mean `staging`?
    "#);
    assert_snapshot!(show(&blueprint.resolve(None).unwrap_err()), @r#"
    blueprint::ambiguous-environment

      × `platform.toml` is not a valid blueprint: 1 problem

    Error: blueprint::ambiguous-environment

      × the blueprint has several environments and none is `local`
      help: name one: `production`, `staging`
    "#);
}

#[test]
fn everything_is_reported_at_once_in_the_order_of_the_text() {
    let text = "[project]\nname = 'Shop'\n\n[services.web]\nprot = 80\nneeds = ['db']\nreplicas = 'two'\n\n[rollout]\nsteps = ['5%', '1%']\nstrategy = 'canary'\n";
    let problems = Blueprint::parse(text, "platform.toml").unwrap_err();
    let seen: Vec<_> = problems
        .iter()
        .map(|problem| (problems.position(problem).unwrap().line, problem.code))
        .collect();
    assert_eq!(
        seen,
        [
            (2, Code::BadValue),
            (4, Code::NothingToRun),
            (5, Code::UnknownKey),
            (6, Code::DanglingNeed),
            (7, Code::WrongType),
            (10, Code::BadSteps),
        ]
    );
}

#[test]
fn a_build_as_compose_writes_it_is_told_how_it_is_written_here() {
    let shown = check(
        "[services.web]\nport = 80\nbuild = { dockerfile = 'Dockerfile', context = 'app' }\n",
    );
    let told = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("`dockerfile` is the folder that is the context"),
        "{shown}"
    );
    let shown = check("[services.web]\nport = 80\nbuild = { dockerfile = 'app/Dockerfile.dev' }\n");
    assert!(shown.contains("`app/Dockerfile.dev` is a file"), "{shown}");
    let good =
        "[services.web]\nport = 80\nbuild = { dockerfile = 'app', file = 'Dockerfile.dev' }\n";
    assert_eq!(check(good), "valid");
}
