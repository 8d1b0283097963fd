//! Secrets, references and what else services are told.

use insta::assert_snapshot;

use super::check;

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
