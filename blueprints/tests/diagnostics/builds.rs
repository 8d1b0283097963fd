//! What services are built from.

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
