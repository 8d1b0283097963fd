//! The real servers that can stand behind a resource: how they are prepared, run and asked whether they answer.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use platform_blueprint::{Engine, Resource, ResourceKind, ResourceName};
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::start::user_of;
use super::state::Agent;
use crate::durable::{self, Survives};
use crate::layout::Layout;
use crate::probe::local;
use crate::surroundings::find_program;

/// A server, ready to be run.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) folder: PathBuf,
    pub(super) user: Option<(u32, u32)>,
    pub(super) port: u16,
    pub(super) password: String,
}

/// The server's program, which must be installed.
pub(crate) fn program(resource: &Resource) -> Result<PathBuf, String> {
    let name = match resource.engine {
        Engine::Postgres => "postgres",
        Engine::Redis => "redis-server",
        Engine::Valkey => "valkey-server",
        Engine::Nats => "nats-server",
        other => {
            return Err(format!(
                "engine `{}` cannot be run as a process",
                other.as_str()
            ));
        }
    };
    let mut search = Vec::new();
    if resource.engine == Engine::Postgres {
        search = postgres_folders(resource.version.as_deref());
    }
    find_program(name, &search, Path::new("/"))
        .or_else(|| {
            let usual = Path::new("/usr/sbin").join(name);
            usual.is_file().then_some(usual)
        })
        .ok_or_else(|| format!("`{name}` is not installed"))
}

/// Debian keeps each version of `PostgreSQL` apart; the newest comes first.
fn postgres_folders(version: Option<&str>) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .filter(|(number, _): &(u32, PathBuf)| {
            version.is_none_or(|wanted| wanted.split('.').next() == Some(&number.to_string()))
        })
        .collect();
    versions.sort();
    versions
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .collect()
}

/// What it is, in words.
pub(super) fn describe(resource: &Resource) -> String {
    if resource.external.is_some() {
        return "a server run by somebody else".to_owned();
    }
    match (resource.engine, resource.kind) {
        (Engine::Postgres, _) => "PostgreSQL".to_owned(),
        (Engine::Redis, _) => "Redis".to_owned(),
        (Engine::Valkey, _) => "Valkey".to_owned(),
        (Engine::Nats, _) => "NATS".to_owned(),
        (_, ResourceKind::Postgres) => "SQLite file".to_owned(),
        (_, ResourceKind::Redis) => "memory cache".to_owned(),
        (_, ResourceKind::Nats) => "durable queue".to_owned(),
        (_, ResourceKind::ObjectStore) => "folder".to_owned(),
        (_, ResourceKind::Search) => "embedded index".to_owned(),
    }
}

/// The password of a resource, made once.
pub(super) fn password(layout: &Layout, name: &ResourceName) -> Result<String, String> {
    let folder = layout.resource(name.as_str());
    let path = folder.join("password");
    if let Ok(known) = fs::read_to_string(&path) {
        return Ok(known);
    }
    durable::make_folder(&folder).map_err(|error| error.to_string())?;
    let fresh = hex::encode(rand::rng().random::<[u8; 24]>());
    durable::replace(&path, fresh.as_bytes(), Survives::PowerLoss)
        .map_err(|error| error.to_string())?;
    Ok(fresh)
}

/// The database in a server of its own.
pub(super) fn database(name: &ResourceName) -> String {
    name.as_str().replace('-', "_")
}

/// Prepares a server's folder, settings and password. Blocks; not for the agent's own thread.
pub(super) fn prepare(
    layout: &Layout,
    name: &ResourceName,
    resource: &Resource,
    port: u16,
) -> Result<Prepared, String> {
    let program = program(resource)?;
    let password = password(layout, name)?;
    let folder = layout.data(name.as_str());
    durable::make_folder(&folder).map_err(|error| error.to_string())?;
    let settings = layout.resource(name.as_str());
    let mut prepared = Prepared {
        program,
        arguments: Vec::new(),
        folder: folder.clone(),
        user: None,
        port,
        password,
    };
    let write = |file: &str, text: String| {
        let path = settings.join(file);
        durable::replace(&path, text.as_bytes(), Survives::Crash)
            .map(|()| path.display().to_string())
            .map_err(|error| error.to_string())
    };
    match resource.engine {
        Engine::Postgres => postgres(layout, name, &mut prepared)?,
        Engine::Redis | Engine::Valkey => {
            let text = format!(
                "bind 127.0.0.1\nport {port}\nrequirepass {}\ndir \"{}\"\nappendonly yes\ndaemonize no\n",
                prepared.password,
                folder.display()
            );
            prepared.arguments = vec![write("redis.conf", text)?];
        }
        Engine::Nats => {
            let text = format!(
                "host: \"127.0.0.1\"\nport: {port}\njetstream {{ store_dir: \"{}\" }}\n\
                 authorization {{ user: platform, password: \"{}\" }}\n",
                folder.display(),
                prepared.password
            );
            prepared.arguments = vec!["-c".to_owned(), write("nats.conf", text)?];
        }
        other => {
            return Err(format!(
                "engine `{}` cannot be run as a process",
                other.as_str()
            ));
        }
    }
    Ok(prepared)
}

fn postgres(layout: &Layout, name: &ResourceName, prepared: &mut Prepared) -> Result<(), String> {
    // It refuses to run as root.
    if nix::unistd::geteuid().is_root() {
        prepared.user = user_of(Some("postgres")).or_else(|_| user_of(Some("nobody")))?;
        prepared.folder = reachable_folder(layout, name, prepared.user)?;
    }
    let cluster = prepared.folder.join("cluster");
    if !cluster.join("initialised").exists() {
        initialise(name, prepared, &cluster)?;
    }
    let set = |setting: String| ["-c".to_owned(), setting];
    prepared.arguments = vec!["-D".to_owned(), cluster.display().to_string()];
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={}", prepared.port),
        "unix_socket_directories=".to_owned(),
        "logging_collector=off".to_owned(),
    ] {
        prepared.arguments.extend(set(setting));
    }
    Ok(())
}

/// A folder that another user can reach: in the state folder, or where that is closed to others, below `/var/lib/platform`.
fn reachable_folder(
    layout: &Layout,
    name: &ResourceName,
    user: Option<(u32, u32)>,
) -> Result<PathBuf, String> {
    let own = layout.data(name.as_str());
    let Some((uid, gid)) = user else {
        return Ok(own);
    };
    let open = |path: &Path| fs::metadata(path).is_ok_and(|seen| seen.mode() & 0o001 != 0);
    let outside_open = layout.root().ancestors().skip(1).all(open);
    let folder = if outside_open {
        for place in [layout.root(), layout.all_data().as_path()] {
            let mode = fs::Permissions::from_mode(0o711);
            fs::set_permissions(place, mode).map_err(|error| error.to_string())?;
        }
        own
    } else {
        let elsewhere = foreign_folder(layout, name);
        fs::create_dir_all(&elsewhere)
            .map_err(|error| format!("cannot make `{}`: {error}", elsewhere.display()))?;
        elsewhere
    };
    chown(&folder, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// Where data lies that cannot lie in the state folder.
pub(super) fn foreign_folder(layout: &Layout, name: &ResourceName) -> PathBuf {
    Path::new("/var/lib/platform")
        .join(layout.tag())
        .join(name.as_str())
}

fn initialise(name: &ResourceName, prepared: &Prepared, cluster: &Path) -> Result<(), String> {
    // What an initialisation that was broken off left behind holds nothing yet.
    let _ = fs::remove_dir_all(cluster);
    let bin = prepared.program.parent().unwrap_or(Path::new("/"));
    let password_file = prepared.folder.join("password");
    durable::replace(
        &password_file,
        prepared.password.as_bytes(),
        Survives::Crash,
    )
    .map_err(|error| error.to_string())?;
    if let Some((uid, gid)) = prepared.user {
        chown(&password_file, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
    }
    let path = cluster.display().to_string();
    let password_argument = format!("--pwfile={}", password_file.display());
    let made = run(
        &bin.join("initdb"),
        &[
            "-D",
            &path,
            "--username=platform",
            &password_argument,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ],
        prepared,
        None,
    );
    let _ = fs::remove_file(&password_file);
    made?;
    let create = format!("CREATE DATABASE \"{}\"\n", database(name));
    run(
        &prepared.program,
        &["--single", "-D", &path, "postgres"],
        prepared,
        Some(&create),
    )?;
    fs::write(cluster.join("initialised"), "").map_err(|error| error.to_string())
}

fn run(
    program: &Path,
    arguments: &[&str],
    prepared: &Prepared,
    input: Option<&str>,
) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(&prepared.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some((user, group)) = prepared.user {
        command.uid(user).gid(group);
    }
    let fault = |why: String| format!("`{}` failed: {why}", program.display());
    let mut child = command.spawn().map_err(|error| fault(error.to_string()))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        pipe.write_all(input.as_bytes())
            .map_err(|error| fault(error.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| fault(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(fault(
        words.lines().last().unwrap_or("without a word").to_owned(),
    ))
}

/// The URL of a server, with its password.
pub(super) fn url(
    agent: &Agent,
    name: &ResourceName,
    resource: &Resource,
    port: u16,
) -> Result<String, String> {
    let password = password(&agent.layout, name)?;
    Ok(match resource.engine {
        Engine::Postgres => {
            format!(
                "postgres://platform:{password}@127.0.0.1:{port}/{}",
                database(name)
            )
        }
        Engine::Nats => format!("nats://platform:{password}@127.0.0.1:{port}"),
        _ => format!("redis://:{password}@127.0.0.1:{port}"),
    })
}

/// Asks a server whether it serves.
///
/// # Errors
///
/// Why it does not, in words.
pub(super) async fn answers(engine: Engine, port: u16, password: &str) -> Result<(), String> {
    let asking = async {
        let mut stream = TcpStream::connect(local(port))
            .await
            .map_err(|_| format!("nothing listens on port {port} yet"))?;
        match engine {
            Engine::Postgres => postgres_answers(&mut stream).await,
            Engine::Nats => {
                let greeting = format!(
                    "CONNECT {{\"user\":\"platform\",\"pass\":\"{password}\",\"verbose\":false}}\r\nPING\r\n"
                );
                says(&mut stream, &greeting, "PONG").await
            }
            _ => {
                says(
                    &mut stream,
                    &format!("AUTH {password}\r\nPING\r\n"),
                    "+PONG",
                )
                .await
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), asking)
        .await
        .unwrap_or_else(|_| Err("it gives no answer".to_owned()))
}

/// A start-up message is answered by a request for a password once the server takes connections.
///
/// Source: "Message Formats" of the `PostgreSQL` manual.
async fn postgres_answers(stream: &mut TcpStream) -> Result<(), String> {
    let mut message = vec![0, 3, 0, 0];
    message.extend_from_slice(b"user\0platform\0database\0postgres\0\0");
    let length = u32::try_from(message.len() + 4).unwrap_or(0).to_be_bytes();
    let sent = async {
        stream.write_all(&length).await?;
        stream.write_all(&message).await?;
        stream.read_u8().await
    };
    match sent.await {
        Ok(b'R') => Ok(()),
        Ok(_) => Err("it is starting up".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn says(stream: &mut TcpStream, words: &str, wanted: &str) -> Result<(), String> {
    stream
        .write_all(words.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut seen = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let read = stream
            .read(&mut piece)
            .await
            .map_err(|error| error.to_string())?;
        seen.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&seen);
        if text.contains(wanted) {
            return Ok(());
        }
        if read == 0 || text.contains("-ERR") || text.contains("-LOADING") || seen.len() > 65_536 {
            let last = text.lines().last().unwrap_or("it says nothing").to_owned();
            return Err(last);
        }
    }
}
