use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::Subcommand;
use platform_blueprint::{Resolved, SecretName};
use platform_decide::desired::{secrets_of_gateway, secrets_of_rollouts};
use platform_port::SecretValue;
use platform_secrets::{Keyring, Listed, Recipient, Source};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit::Exit;
use crate::moment;
use crate::paint::Paint;
use crate::table::{Cell, Table, Tone};
use crate::view::{Line, Shown, Told};
use crate::world::World;

/// Keep an environment's secrets, encrypted with age beside the blueprint
#[derive(Debug, clap::Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set a secret from standard input, a file or a prompt; never from an argument
    Set {
        /// The secret's name in the blueprint
        name: SecretName,
        /// Read the value from this file, or `-` for standard input, as it is
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List secrets, and those the blueprint asks for that are not set; needs no key
    List,
    /// Remove a secret
    Remove {
        /// The secret's name
        name: SecretName,
    },
    /// Give a secret another value: a random one, or a file's
    Rotate {
        /// The secret's name
        name: SecretName,
        /// Read the value from this file, or `-` for standard input, as it is
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List who can decrypt, and change that
    Recipients {
        /// Let this age recipient decrypt too
        #[arg(long, value_name = "AGE1…")]
        add: Vec<Recipient>,
        /// Let this age recipient decrypt no longer; rotate what it has read
        #[arg(long, value_name = "AGE1…")]
        remove: Vec<Recipient>,
    },
}

pub(crate) fn run(args: &SecretsArgs, world: &World) -> Result<Exit, CliError> {
    let file = world.secrets()?;
    match &args.what {
        What::Set { name, from_file } => {
            let value = value(world, name, from_file.as_deref())?;
            let keyring = keyring(world)?;
            let version = file.set(&keyring, name, &value, Utc::now())?;
            changed(world, "secret_set", name, version);
        }
        What::Rotate { name, from_file } => {
            let value = from_file
                .as_deref()
                .map(|path| read(path, name))
                .transpose()?;
            let keyring = keyring(world)?;
            let version = file.rotate(&keyring, name, value.as_ref(), Utc::now())?;
            changed(world, "secret_rotated", name, version);
        }
        What::Remove { name } => {
            let used_by = users(world.resolved()?).remove(name).unwrap_or_default();
            if !used_by.is_empty() {
                let question = format!("remove `{name}`, which {} asks for?", used_by.join(", "));
                if !world.confirm(&question)? {
                    world.view.tell(&Told::important("left as it is"));
                    return Ok(Exit::Failed);
                }
            }
            file.remove(name)?;
            world.view.tell(&Told::new(
                "secret_removed",
                &json!({ "name": name }),
                Line::Note(format!("removed `{name}`")),
            ));
        }
        What::List => {
            let mut used_by = users(world.resolved()?);
            let mut rows: Vec<Row> = file
                .list()?
                .into_iter()
                .map(|listed| Row {
                    name: listed.name.clone(),
                    used_by: used_by.remove(&listed.name).unwrap_or_default(),
                    listed: Some(listed),
                })
                .collect();
            rows.extend(used_by.into_iter().map(|(name, used_by)| Row {
                name,
                used_by,
                listed: None,
            }));
            rows.sort_by(|one, other| one.name.cmp(&other.name));
            world.view.show(&List {
                rows,
                now: world.clock.millis(),
            });
        }
        What::Recipients { add, remove } => {
            let recipients = if add.is_empty() && remove.is_empty() {
                file.recipients()?
            } else {
                file.change_recipients(&keyring(world)?, add, remove)?
            };
            let you = Keyring::load_existing()?.map(|keyring| keyring.recipient());
            world.view.show(&Recipients { recipients, you });
        }
    }
    Ok(Exit::Done)
}

/// The identity; tells when one was made.
fn keyring(world: &World) -> Result<Keyring, CliError> {
    let existed = Keyring::exists();
    let keyring = Keyring::load_or_create()?;
    if !existed {
        let path = Keyring::default_path()?;
        world.view.tell(&Told::important(format!(
            "made your identity at `{}`; keep a copy, without it these secrets cannot be read",
            path.display()
        )));
    }
    Ok(keyring)
}

fn changed(world: &World, kind: &str, name: &SecretName, version: u32) {
    let line = format!("`{name}` is at version {version}; `platform deploy` hands it over");
    world.view.tell(&Told::new(
        kind,
        &json!({ "name": name, "version": version }),
        Line::Note(line),
    ));
}

/// The services and resources that ask for each secret.
fn users(resolved: &Resolved) -> BTreeMap<SecretName, Vec<String>> {
    let mut users: BTreeMap<SecretName, Vec<String>> = BTreeMap::new();
    for (service_name, service) in &resolved.services {
        for reference in service.env.values().filter_map(|value| value.secret()) {
            let by = users.entry(reference.secret.clone()).or_default();
            if !by.iter().any(|name| service_name == name.as_str()) {
                by.push(service_name.to_string());
            }
        }
    }
    for secret in secrets_of_gateway(resolved) {
        let by = users.entry(secret.clone()).or_default();
        by.push("the gateway".to_owned());
    }
    for secret in secrets_of_rollouts(resolved) {
        let by = users.entry(secret.clone()).or_default();
        by.push("gates or metrics of rollouts".to_owned());
    }
    for (resource_name, resource) in &resolved.resources {
        if let Some(external) = &resource.external {
            users
                .entry(external.secret.clone())
                .or_default()
                .push(resource_name.to_string());
        }
    }
    users
}

fn value(
    world: &World,
    name: &SecretName,
    from_file: Option<&Path>,
) -> Result<SecretValue, CliError> {
    if let Some(path) = from_file {
        return read(path, name);
    }
    if !io::stdin().is_terminal() {
        let value = read(Path::new("-"), name)?;
        // Whoever writes `echo value |` does not mean the line's end.
        let text = value.reveal();
        let text = text
            .strip_suffix('\n')
            .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        return Ok(SecretValue::new(text));
    }
    if !world.asks() {
        return Err(CliError::new(
            "usage::no-value",
            format!("no value is given for secret `{name}`"),
        )
        .help("pipe it into standard input, or name a file with `--from-file`"));
    }
    let answer = world.ask_silently(&format!("value of `{name}`:"))?;
    Ok(SecretValue::new(answer.unwrap_or_default()))
}

fn read(path: &Path, name: &SecretName) -> Result<SecretValue, CliError> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| bytes)
            .map_err(|error| CliError::file("read", Path::new("standard input"), &error))?
    } else {
        fs::read(path).map_err(|error| CliError::file("read", path, &error))?
    };
    // The error would hold the bytes, which are the secret.
    String::from_utf8(bytes).map(SecretValue::new).map_err(|_| {
        CliError::new(
            "secrets::bad-value",
            format!("the value for secret `{name}` is not UTF-8 text"),
        )
    })
}

struct Row {
    name: SecretName,
    used_by: Vec<String>,
    listed: Option<Listed>,
}

struct List {
    rows: Vec<Row>,
    now: u64,
}

impl Shown for List {
    fn kind(&self) -> &'static str {
        "secrets"
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "set": row.listed.is_some(),
                    "version": row.listed.as_ref().map(|listed| listed.version),
                    "updated_at": row.listed.as_ref().and_then(|listed| listed.updated_at.as_ref()),
                    "source": row.listed.as_ref().map(|listed| listed.source),
                    "used_by": row.used_by,
                })
            })
            .collect();
        json!({ "secrets": rows })
    }

    fn human(&self, paint: Paint) -> String {
        if self.rows.is_empty() {
            return "no secret is set, and the blueprint asks for none\n".to_owned();
        }
        let mut table = Table::new(&["SECRET", "VERSION", "AGE", "FROM", "USED BY"]);
        for row in &self.rows {
            let used_by = row.used_by.join(", ");
            let Some(listed) = &row.listed else {
                table.row(vec![
                    Cell::from(row.name.as_str()),
                    Cell::new("not set", Tone::Bad),
                    Cell::from(""),
                    Cell::from(""),
                    Cell::from(used_by),
                ]);
                continue;
            };
            let from = match listed.source {
                Source::File => "file",
                Source::Environment => "environment",
            };
            let age = listed
                .updated_at
                .as_deref()
                .map(|time| moment::age_of(time, self.now));
            table.row(vec![
                Cell::from(row.name.as_str()),
                Cell::from(listed.version.to_string()),
                Cell::from(age.unwrap_or_default()),
                Cell::from(from),
                Cell::from(used_by),
            ]);
        }
        table.render(paint)
    }
}

struct Recipients {
    recipients: Vec<Recipient>,
    you: Option<Recipient>,
}

impl Shown for Recipients {
    fn kind(&self) -> &'static str {
        "recipients"
    }

    fn json(&self) -> Value {
        let recipients: Vec<String> = self.recipients.iter().map(ToString::to_string).collect();
        json!({ "recipients": recipients, "you": self.you.as_ref().map(ToString::to_string) })
    }

    fn human(&self, paint: Paint) -> String {
        let mut text = String::new();
        for recipient in &self.recipients {
            let you = if self.you.as_ref() == Some(recipient) {
                " (you)"
            } else {
                ""
            };
            let _ = writeln!(text, "{recipient}{}", paint.dim(you));
        }
        if let Some(you) = &self.you
            && !self.recipients.contains(you)
        {
            let _ = writeln!(
                text,
                "{}",
                paint.dim(&format!("not among them: {you} (you)"))
            );
        }
        text
    }
}
