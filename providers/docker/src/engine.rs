//! The connection to an engine, and its errors in our words.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{ClientVersion, Docker};
use futures::{Stream, StreamExt};
use platform_blueprint::DockerSettings;
use platform_port::TargetError;

use crate::context::{self, UnknownContext};
use crate::{PROVIDER, ssh};

/// What is said in place of an engine that does not.
const SILENT: &str = "the engine said nothing for so long that it is not waited for any more";
/// How long one request may take before its answer begins, beside what it waits for.
const PATIENCE_SECONDS: u64 = 180;
/// How long an engine may take to answer at all. One that does not is not asked for anything else.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The oldest protocol that has what we use: Docker 20.10.
pub(crate) const OLDEST: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};
/// How long an engine may say nothing while it pulls an image, takes one in or gives one out.
pub(crate) const QUIET: Duration = Duration::from_mins(5);
/// The same while it builds one: what a step runs may print nothing for long.
pub(crate) const QUIET_BUILD: Duration = Duration::from_hours(1);
/// What to do about an engine that is not reached.
const REACHED: &str = "check that the engine runs and can be reached, or name another with `DOCKER_HOST` or the environment's `host`";
const USUAL_SOCKET: &str = "unix:///var/run/docker.sock";

/// An engine, however it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    /// Its address as the user knows it.
    pub(crate) place: String,
    /// It has answered once.
    answered: Arc<tokio::sync::OnceCell<()>>,
}

/// Where the engine of some settings is: `host`, else `DOCKER_HOST`, else where Docker's context is, else the usual socket.
pub(crate) fn place(settings: &DockerSettings) -> String {
    found(settings).map_or_else(|error| error.to_string(), |(place, _)| place)
}

/// The address of the engine of some settings, with the folder of certificates of the context that it is from.
fn found(settings: &DockerSettings) -> Result<(String, Option<PathBuf>), UnknownContext> {
    let named = settings.host.clone();
    let asked = || std::env::var("DOCKER_HOST").ok();
    if let Some(place) = named.or_else(asked).filter(|host| !host.is_empty()) {
        return Ok((place, None));
    }
    Ok(match context::chosen(|name| std::env::var_os(name))? {
        Some(chosen) => (chosen.host, chosen.certificates),
        None => (USUAL_SOCKET.to_owned(), None),
    })
}

impl Engine {
    /// The same connection for requests that wait for so long before they are answered, as stopping does for a container's grace.
    pub(crate) fn patient(&self, seconds: i32) -> Docker {
        let docker = self.docker.clone();
        let waited = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        docker.with_timeout(waited.saturating_add(Duration::from_secs(PATIENCE_SECONDS)))
    }

    /// Prepares a connection; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// If the address or its certificates cannot be used.
    pub(crate) fn connect(settings: &DockerSettings) -> Result<Self, TargetError> {
        let (place, of_context) = found(settings).map_err(|error| {
            TargetError::unreachable(PROVIDER, "find the engine", error)
                .with_code("target::bad-address")
                .with_help("`docker context ls` lists those that there are; `DOCKER_HOST` or the environment's `host` go before one")
        })?;
        let bad = |source: Box<dyn std::error::Error + Send + Sync>| {
            TargetError::unreachable(PROVIDER, format!("reach the engine at `{place}`"), source)
        };
        let docker = match place.split_once("://") {
            Some(("unix", path)) => {
                Docker::connect_with_unix(path, PATIENCE_SECONDS, &OLDEST).map_err(|error| {
                    bad(error.into()).with_help(
                        "start Docker, or name another engine with `DOCKER_HOST` or the environment's `host`",
                    )
                })?
            }
            Some(("ssh", _)) => ssh::connect(&place, PATIENCE_SECONDS).map_err(bad)?,
            Some(("tcp" | "http" | "https", address)) => {
                match certificates(settings, of_context) {
                    Some(folder) => secured(address, &folder).map_err(|error| {
                        bad(error.into()).with_help(format!(
                            "`{}` must hold ca.pem, cert.pem and key.pem",
                            folder.display()
                        ))
                    })?,
                    None => Docker::connect_with_http(&place, PATIENCE_SECONDS, &OLDEST)
                        .map_err(|error| bad(error.into()))?,
                }
            }
            _ => {
                return Err(bad("it begins with none of unix://, tcp:// and ssh://".into())
                    .with_code("target::bad-address"));
            }
        };
        Ok(Self {
            docker,
            place,
            answered: Arc::default(),
        })
    }

    /// Makes sure that the engine answers, before it is asked for what may take its time.
    ///
    /// # Errors
    ///
    /// If it says nothing for [`FIRST_ANSWER_WITHIN`]. What it says instead of an answer is for those to tell who ask it.
    pub(crate) async fn answers(&self) -> Result<(), TargetError> {
        Box::pin(self.answers_within(FIRST_ANSWER_WITHIN)).await
    }

    async fn answers_within(&self, patience: Duration) -> Result<(), TargetError> {
        let knock = || async move {
            // Twice: who was kept from listening meanwhile, by work on the same thread, has not heard that it answered.
            let ping = || tokio::time::timeout(patience / 2, self.docker.ping());
            let knocked = match ping().await {
                Err(_) => ping().await,
                answered => answered,
            };
            knocked.map(drop).map_err(|_| {
                let said = format!(
                    "it takes connections and has not answered within {} s",
                    patience.as_secs()
                );
                let action = format!("reach the engine at `{}`", self.place);
                TargetError::unreachable(PROVIDER, action, said).with_help(REACHED)
            })
        };
        self.answered.get_or_try_init(knock).await.copied()
    }
}

/// The folder of client certificates, where the engine is reached over TLS.
///
/// - `of_context`: those of the context that the engine's address is from; what the environment says goes before the shell's
fn certificates(settings: &DockerSettings, of_context: Option<PathBuf>) -> Option<PathBuf> {
    let verify = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
    let named = settings.certificates.as_ref().map(PathBuf::from);
    named.or(of_context).or_else(|| {
        let usual = || {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".docker"))
        };
        let folder = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from);
        verify.then(|| folder.or_else(usual)).flatten()
    })
}

fn secured(address: &str, folder: &Path) -> Result<Docker, Error> {
    // Nothing else of the adapter's speaks TLS, so the provider is chosen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Docker::connect_with_ssl(
        &format!("tcp://{address}"),
        &folder.join("key.pem"),
        &folder.join("cert.pem"),
        &folder.join("ca.pem"),
        PATIENCE_SECONDS,
        &OLDEST,
    )
}

/// The next of what an engine says while it works; one that says nothing for so long is not waited for any more.
pub(crate) async fn heard<T>(
    said: &mut (impl Stream<Item = Result<T, Error>> + Unpin),
    within: Duration,
) -> Option<Result<T, Error>> {
    let next = tokio::time::timeout(within, said.next()).await;
    next.unwrap_or(Some(Err(Error::RequestTimeoutError)))
}

/// The status that the engine answered with, if it answered.
pub(crate) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether what was asked for is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    status(error) == Some(404)
}

/// Whether an answer came that says less than its kind should.
pub(crate) fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::JsonDataError { .. })
}

/// Whether somebody else has the name, or what was asked for is under way.
pub(crate) fn is_conflict(error: &Error) -> bool {
    status(error) == Some(409)
}

/// Whether there are several networks of a name, as for a moment where several runs make the environment's at once.
pub(crate) fn is_ambiguous(error: &Error) -> bool {
    words(error).contains("is ambiguous")
}

/// What the engine said, without the client's words around it.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => said(*status_code, message),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => SILENT.to_owned(),
        other => innermost(other),
    }
}

/// What an engine, or what stands before it, said; its status where that was all.
fn said(status: u16, message: &str) -> String {
    match message.trim() {
        "" => {
            let status = http::StatusCode::from_u16(status)
                .map_or_else(|_| status.to_string(), |known| known.to_string());
            format!("it answered {status} and nothing else")
        }
        message => message.to_owned(),
    }
}

/// The error that others were made of: theirs only say that a connection failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().unwrap_or(error).to_string()
}

/// An engine's error as the target's.
#[expect(
    clippy::needless_pass_by_value,
    reason = "whoever has one hands it over, mostly in `map_err`"
)]
pub(crate) fn fault(action: impl Into<String>, error: Error) -> TargetError {
    match &error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => {
            let told = said(*status_code, message);
            // An engine says why; what says nothing is in its place or on the way to it.
            if message.trim().is_empty() && *status_code < 500 {
                return TargetError::unreachable(PROVIDER, action, told).with_help(REACHED);
            }
            let refused = TargetError::refused(PROVIDER, action, told);
            if is_full(&error) {
                full(refused)
            } else if *status_code >= 500 {
                // An engine that is restarted answers so for a moment.
                TargetError {
                    retry: platform_port::Retry::Later,
                    ..refused
                }
            } else {
                refused
            }
        }
        Error::DockerStreamError { error: said } => {
            let refused = TargetError::refused(PROVIDER, action, said.trim().to_owned());
            if is_full(&error) {
                full(refused)
            } else {
                refused
            }
        }
        other => TargetError::unreachable(PROVIDER, action, words(other)).with_help(REACHED),
    }
}

/// Whether the engine has no space for what was brought to it.
pub(crate) fn is_full(error: &Error) -> bool {
    let said = words(error);
    ["no space left on device", "disk quota exceeded"]
        .iter()
        .any(|full| said.to_lowercase().contains(full))
}

/// The error of an engine without space.
fn full(error: TargetError) -> TargetError {
    error.with_code("target::disk-full").with_help(
        "the engine's disk is full; `docker system df` shows what takes the space, `docker image prune` removes images without a name",
    )
}

/// Takes an answer that something is not there, or is so already, for done.
pub(crate) fn unless(
    accepted: impl Fn(&Error) -> bool,
    result: Result<(), Error>,
) -> Result<(), Error> {
    match result {
        Err(error) if accepted(&error) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_falls_silent_is_not_waited_for() {
        let spoken = futures::stream::iter([Ok("pulling")]);
        let mut said = spoken.chain(futures::stream::pending());
        let first = heard(&mut said, QUIET).await;
        assert!(matches!(first, Some(Ok("pulling"))), "{first:?}");
        let Some(Err(error)) = heard(&mut said, QUIET).await else {
            panic!("nobody said anything");
        };
        let told = fault("pull image `orders`", error);
        assert_eq!(told.code, "target::unreachable");
        assert_eq!(told.retry, platform_port::Retry::Later);
        assert_eq!(told.source.to_string(), SILENT);
    }

    #[test]
    fn whoever_waits_for_a_grace_waits_longer_than_that() {
        let place = "tcp://127.0.0.1:1".to_owned();
        let docker = Docker::connect_with_http(&place, PATIENCE_SECONDS, &OLDEST);
        let engine = Engine {
            docker: docker.unwrap(),
            place,
            answered: Arc::default(),
        };
        let check = |grace: i32, seconds: u64| {
            let patience = engine.patient(grace).timeout();
            assert_eq!(patience, Duration::from_secs(seconds), "{grace}");
        };
        check(0, PATIENCE_SECONDS);
        check(600, 600 + PATIENCE_SECONDS);
        check(-1, PATIENCE_SECONDS);
    }

    #[test]
    fn what_is_refused_without_a_word_is_told_by_its_status() {
        let check = |status_code: u16, message: &str, code: &str, told: &str| {
            let error = Error::DockerResponseServerError {
                status_code,
                message: message.to_owned(),
            };
            let error = fault("look", error);
            assert_eq!(
                (error.code, error.source.to_string().as_str()),
                (code, told)
            );
        };
        let empty = "it answered 403 Forbidden and nothing else";
        check(403, "", "target::unreachable", empty);
        check(403, "not you\n", "target::refused", "not you");
        let empty = "it answered 502 Bad Gateway and nothing else";
        check(502, " ", "target::refused", empty);
    }

    #[tokio::test]
    async fn an_engine_that_takes_connections_and_says_nothing_is_given_up_soon() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("tcp://{}", listener.local_addr().unwrap());
        let settings = DockerSettings {
            host: Some(place),
            ..DockerSettings::default()
        };
        let engine = Engine::connect(&settings).unwrap();
        let silent = async {
            let mut taken = Vec::new();
            loop {
                taken.push(listener.accept().await.unwrap());
            }
        };
        let patience = Duration::from_millis(50);
        let error = tokio::select! {
            answered = engine.answers_within(patience) => answered.unwrap_err(),
            () = silent => unreachable!("it never ends"),
        };
        assert_eq!(error.code, "target::unreachable");
        assert!(error.source.to_string().contains("has not answered"));
    }
}
