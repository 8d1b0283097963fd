//! Zones that instances and the gateway stand in.

use insta::assert_snapshot;

use super::check;

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
