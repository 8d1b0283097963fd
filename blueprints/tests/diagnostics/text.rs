//! What is no blueprint at all: syntax, keys, types, values.

use insta::assert_snapshot;
use platform_blueprint::{Blueprint, Code};

use super::{check, check_whole};

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
      help: write `["web"]`

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
      help: write `["db"]`

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
