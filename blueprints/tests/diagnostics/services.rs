//! Services: what they need, the ports they are called at, and what is hardly meant.

use insta::assert_snapshot;

use super::check;

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
