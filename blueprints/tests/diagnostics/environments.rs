//! Environments, resources and drills.

use insta::assert_snapshot;
use platform_blueprint::{Blueprint, EnvironmentName};

use super::{check, show};

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
fn several_gateways_on_one_machine() {
    assert_snapshot!(check("[gateway]\nreplicas = 3\n\n[services.a]\ncommand = ['a']\n\n[environments.local]\nprovider = 'process'\n\n[environments.docker]\nprovider = 'docker'\ngateway.replicas = 2\n\n[environments.live]\nprovider = 'kubernetes'\ngateway.replicas = 4\n"), @r#"
    blueprint::unused-key

      ⚠ `platform.toml` has something to look at

    Warning: blueprint::unused-key

      ⚠ one gateway runs here, not 2
        ╭─[platform.toml:14:20]
     13 │ provider = 'docker'
     14 │ gateway.replicas = 2
        ·                    ┬
        ·                    ╰── sets nothing
     15 │
        ╰────
      help: take it out: `docker` is one machine, which listens at an address once
    "#);
}

#[test]
fn one_gateway_runs_on_one_machine() {
    let text = "[project]\nname = 'a'\n\n[gateway]\nreplicas = 3\n\n[services.a]\ncommand = ['a']\n\n[environments.local]\nprovider = 'process'\n\n[environments.live]\nprovider = 'kubernetes'\n";
    let blueprint = Blueprint::parse(text, "platform.toml").unwrap().blueprint;
    let gateways = |name: &str| {
        let name = name.parse().unwrap();
        blueprint.resolve(Some(&name)).unwrap().gateway.replicas
    };
    assert_eq!((gateways("local"), gateways("live")), (1, 3));
}
