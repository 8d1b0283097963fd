//! Services: what they are built from, need and are told.

use insta::assert_snapshot;

use super::check;

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
    let good = "[services.web]\nport = 80\nbuild = { dockerfile = 'app', file = 'Dockerfile.dev' }\n\n[environments.local]\nprovider = 'docker'\n";
    assert_eq!(check(good), "valid");
}

#[test]
fn an_environment_may_say_where_instances_stand() {
    let good = "[services.web]\ncommand = ['web', '--zone=${PLATFORM_ZONE}']\nport = 81\nreplicas = 2\nzones = ['a', 'b']\n";
    assert_eq!(check(good), "valid");
    let alone = "[services.web]\ncommand = ['web']\nenv = { PLATFORM_ZONE = 'a' }\n";
    assert_eq!(check(alone), "valid");
    let over = "[services.web]\ncommand = ['web']\nport = 81\n\n[environments.local]\nprovider = 'process'\ngateway.zone = 'a'\nservices.web.zones = ['a']\n";
    assert_eq!(check(over), "valid");
    let taken_out = format!(
        "{}\n[environments.local]\nprovider = 'process'\nservices.web.zones = []\n",
        good.replace(", '--zone=${PLATFORM_ZONE}'", "")
    );
    assert_eq!(check(&taken_out), "valid");
}

#[test]
fn zones() {
    assert_snapshot!(check("[services.a]\ncommand = ['a', '${PLATFORM_ZONE}']\nport = 81\nzones = []\n\n[services.b]\ncommand = ['b']\nport = 82\nzones = ['x', 'y', 'x']\nenv = { PLATFORM_ZONE = 'x' }\n\n[services.c]\nkind = 'job'\ncommand = ['c']\nzones = ['x']\n\n[services.d]\nkind = 'worker'\ncommand = ['d']\nzones = ['x']\n\n[services.e]\ncommand = ['e']\nport = 83\nzones = ['Rack 1', 2]\n\n[gateway]\nzone = 'Rack 1'\n"), @r#"
      × `platform.toml` is not a valid blueprint: 9 problems

    Error: blueprint::unknown-reference

      × `${PLATFORM_ZONE}` stands for nothing
       ╭─[platform.toml:4:17]
     3 │ [services.a]
     4 │ command = ['a', '${PLATFORM_ZONE}']
       ·                 ─────────┬────────
       ·                          ╰── not known
     5 │ port = 81
       ╰────
      help: add `zones` to `[services.a]`

    Error: blueprint::bad-value

      × instances of `a` are to stand in zones, and none is named
       ╭─[platform.toml:6:9]
     5 │ port = 81
     6 │ zones = []
       ·         ─┬
       ·          ╰── empty
     7 │
       ╰────
      help: name one or more, such as `["a", "b"]`, or take `zones` out

    Error: blueprint::bad-value

      × `b` names zone `x` twice
        ╭─[platform.toml:11:20]
     10 │ port = 82
     11 │ zones = ['x', 'y', 'x']
        ·          ─┬─       ─┬─
        ·           │         ╰── named before
        ·           ╰── first here
     12 │ env = { PLATFORM_ZONE = 'x' }
        ╰────
      help: keep one: instances are dealt to zones in turn, as many to each

    Error: blueprint::contradiction

      × `PLATFORM_ZONE` is handed to every instance that stands in a zone and cannot be set
        ╭─[platform.toml:12:25]
     11 │ zones = ['x', 'y', 'x']
     12 │ env = { PLATFORM_ZONE = 'x' }
        ·                         ─┬─
        ·                          ╰── here
     13 │
        ╰────
      help: take it out

    Error: blueprint::contradiction

      × `c` is a job, which runs once, and its instances are to stand in zones
        ╭─[platform.toml:17:9]
     16 │ command = ['c']
     17 │ zones = ['x']
        ·         ──┬──
        ·           ╰── here
     18 │
        ╰────
      help: take out `zones`, or `kind = "job"`

    Error: blueprint::no-port

      × `d` is to stand in zones and has no port, so no gateway chooses among its instances
        ╭─[platform.toml:22:9]
     21 │ command = ['d']
     22 │ zones = ['x']
        ·         ──┬──
        ·           ╰── here
     23 │
        ╰────
      help: add `port` to `[services.d]`, or take `zones` out

    Error: blueprint::bad-value

      × `Rack 1` is not a name: it does not begin with a lower-case letter
        ╭─[platform.toml:27:10]
     26 │ port = 83
     27 │ zones = ['Rack 1', 2]
        ·          ────┬───
        ·              ╰── not taken
     28 │
        ╰────
      help: write lower-case letters, digits and single words joined by `-`, beginning with a letter,
            at most 40 characters

    Error: blueprint::wrong-type

      × expected a text, found the number `2`
        ╭─[platform.toml:27:20]
     26 │ port = 83
     27 │ zones = ['Rack 1', 2]
        ·                    ┬
        ·                    ╰── wrong type
     28 │
        ╰────

    Error: blueprint::bad-value

      × `Rack 1` is not a name: it does not begin with a lower-case letter
        ╭─[platform.toml:30:8]
     29 │ [gateway]
     30 │ zone = 'Rack 1'
        ·        ────┬───
        ·            ╰── not taken
        ╰────
      help: write lower-case letters, digits and single words joined by `-`, beginning with a letter,
            at most 40 characters
    "#);
}

#[test]
fn a_gateway_in_a_zone_where_nothing_is() {
    let check = |zones: &str, own: &str| {
        let told = check(&format!(
            "[services.web]\ncommand = ['web']\nport = 81\n{zones}\n\n[gateway]\nzone = '{own}'\n"
        ));
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let told = check("zones = ['rack-1', 'rack-2']", "rak-1");
    assert!(told.contains("blueprint::unused-key"), "{told}");
    assert!(
        told.contains("`rak-1`, and no service has instances there"),
        "{told}"
    );
    assert!(told.contains("did you mean `rack-1`?"), "{told}");
    let told = check("zones = ['rack-1', 'rack-2']", "site");
    assert!(told.contains("services name: `rack-1`, `rack-2`"), "{told}");
    let told = check("", "a");
    assert!(
        told.contains("give a service `zones = [\"a\", …]`"),
        "{told}"
    );
    assert_eq!(check("zones = ['a']", "a"), "valid");
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
fn what_no_program_can_be_started_with() {
    let long = |length: usize| "x".repeat(length);
    let blueprint = |word: usize, value: usize| {
        let (word, value) = (long(word), long(value));
        let service = "[services.web]\nkind = 'worker'\ncommand = ['web', '";
        check(&format!(
            "{service}{word}']\nenv = {{ NOTE = '{value}', NUMBER = 7 }}\n"
        ))
    };
    // Of a variable its name, the equals sign and a zero at the end count, too.
    assert_eq!(blueprint(131_071, 131_066), "valid");
    for (word, value, place) in [
        (131_072, 0, "[platform.toml:5:19]"),
        (0, 131_067, "[platform.toml:6:16]"),
    ] {
        let shown = blueprint(word, value);
        let told = ["blueprint::bad-value", "of 131072 bytes", place];
        assert!(
            told.iter().all(|text| shown.contains(text)),
            "{shown:.2000}"
        );
    }
}

#[test]
fn what_is_valid_and_hardly_meant() {
    assert_snapshot!(check("[services.web]\ncommand = ['web', '--port=$PORT', '--db', '$DB_URL', '$HOME']\nneeds = ['db']\n[services.web.env]\nport = 8081\nuser = { plain = 'ada' }\n\n[resources.db]\nkind = 'postgres'\n"), @r#"
      ⚠ `platform.toml` has 3 things to look at

    Warning: blueprint::unknown-reference

      ⚠ `$PORT` is handed over as it is written
       ╭─[platform.toml:4:19]
     3 │ [services.web]
     4 │ command = ['web', '--port=$PORT', '--db', '$DB_URL', '$HOME']
       ·                   ───────┬──────
       ·                          ╰── no shell reads this
     5 │ needs = ['db']
       ╰────
      help: write `${PORT}` for its value

    Warning: blueprint::unknown-reference

      ⚠ `$DB_URL` is handed over as it is written
       ╭─[platform.toml:4:43]
     3 │ [services.web]
     4 │ command = ['web', '--port=$PORT', '--db', '$DB_URL', '$HOME']
       ·                                           ────┬────
       ·                                               ╰── no shell reads this
     5 │ needs = ['db']
       ╰────
      help: write `${DB_URL}` for its value

    Warning: blueprint::unused-key

      ⚠ `port` is a variable here, and sets nothing of `web`
       ╭─[platform.toml:7:8]
     6 │ [services.web.env]
     7 │ port = 8081
       ·        ──┬─
       ·          ╰── a variable
     8 │ user = { plain = 'ada' }
       ╰────
      help: a table has all keys that follow it: write `port` above `[services.web.env]`; a variable
            of this name is `{ plain = "…" }`
    "#);
    assert_eq!(
        check(
            "[services.web]\ncommand = ['/bin/sh', '-c', 'exec web --port=$PORT']\nport = 8081\n"
        ),
        "valid"
    );
    assert_snapshot!(check("[services.web]\ncommand = ['web']\nport = 8081\n[[routes]]\npath = '/api/*'\nservice = 'web'\n[[routes]]\npath = '/*'\nservice = 'web'\n[[routes]]\npath = { exact = '/*' }\nservice = 'web'\n"), @r#"
      ⚠ `platform.toml` has 2 things to look at

    Warning: blueprint::bad-value

      ⚠ `*` in the path `/api/*` stands for itself
       ╭─[platform.toml:7:8]
     6 │ [[routes]]
     7 │ path = '/api/*'
       ·        ────┬───
       ·            ╰── not for anything
     8 │ service = 'web'
       ╰────
      help: a path takes all that lies below it, so write `/api`; `{name}` stands for one segment; if
            the star is meant, write `{ exact = "/api/*" }`

    Warning: blueprint::bad-value

      ⚠ `*` in the path `/*` stands for itself
        ╭─[platform.toml:10:8]
      9 │ [[routes]]
     10 │ path = '/*'
        ·        ──┬─
        ·          ╰── not for anything
     11 │ service = 'web'
        ╰────
      help: a path takes all that lies below it, so write `/`; `{name}` stands for one segment; if the
            star is meant, write `{ exact = "/*" }`
    "#);
}

#[test]
fn what_compose_calls_otherwise() {
    assert_snapshot!(check("[services.web]\ncommand = 'web --all'\ndepends_on = ['db']\nports = ['8080:80']\n"), @r#"
      × `platform.toml` is not a valid blueprint: 3 problems

    Error: blueprint::wrong-type

      × expected a list, found the text "web --all"
       ╭─[platform.toml:4:11]
     3 │ [services.web]
     4 │ command = 'web --all'
       ·           ─────┬─────
       ·                ╰── wrong type
     5 │ depends_on = ['db']
       ╰────
      help: write `["web", "--all"]`

    Error: blueprint::unknown-key

      × `depends_on` is not a known key here
       ╭─[platform.toml:5:1]
     4 │ command = 'web --all'
     5 │ depends_on = ['db']
       · ─────┬────
       ·      ╰── not known
     6 │ ports = ['8080:80']
       ╰────
      help: write `needs = ["…"]`: what is ready before it starts

    Error: blueprint::unknown-key

      × `ports` is not a known key here
       ╭─[platform.toml:6:1]
     5 │ depends_on = ['db']
     6 │ ports = ['8080:80']
       · ──┬──
       ·   ╰── not known
       ╰────
      help: write the last number as `port`, where the program listens, and a route that leads there
    "#);
}

#[test]
fn who_is_believed_to_be_a_service() {
    assert_snapshot!(check("[services.orders]\ncommand = ['orders']\nport = 8081\nprotocol = 'mtls'\ntls = { ca = 'ca.pem' }\n\n[services.users]\ncommand = ['users']\nport = 8082\nprotocol = 'h2'\ntls.name = 'https://users'\n\n[services.web]\ncommand = ['web']\nport = 8083\nprotocol = 'https'\ntls = { name = '10.0.0.7' }\n"), @r#"
      × `platform.toml` is not a valid blueprint: 2 problems

    Error: blueprint::contradiction

      × `orders` speaks `mtls`, and shows no certificate of its own
       ╭─[platform.toml:7:1]
     6 │ protocol = 'mtls'
     7 │ tls = { ca = 'ca.pem' }
       · ─┬─
       ·  ╰── here
     8 │
       ╰────
      help: write `protocol = "https"`, or `"h2"` for HTTP/2, or take `tls` out

    Error: blueprint::bad-value

      × no certificate is for `https://users`
        ╭─[platform.toml:13:12]
     12 │ protocol = 'h2'
     13 │ tls.name = 'https://users'
        ·            ───────┬───────
        ·                   ╰── here
     14 │
        ╰────
      help: write a name without scheme and port, such as `orders.shop.example`, or an address
    "#);
}
