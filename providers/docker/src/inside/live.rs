//! Stands beside a service's program: asks `health.live` and ends a program that must be restarted, which the engine does; and has
//! its certificates replaced where it speaks mtls.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platform_blueprint::{Check, Health, Port, Stop};
use platform_traffic::authority;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::certified::{Certified, Way, secure};
use super::reach::{reach_in_http2, reach_over};
use super::run::{read, unstarted};
use super::{HANDED, SECRETS, SIGNING};

/// What tells that a program lives, and how it is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) health: Health,
    pub(crate) stop: Stop,
    /// The service's own port.
    pub(crate) port: Option<Port>,
    /// It speaks HTTP/2.
    #[serde(default)]
    pub(crate) http2: bool,
    /// The service in whose name it has certificates, where it speaks mtls.
    pub(crate) certified: Option<String>,
    /// How it is believed, where it shows a certificate of its own.
    #[serde(default)]
    pub(crate) own: Option<Shown>,
}

/// A certificate that a service shows of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// The name that it must be for.
    pub(crate) name: String,
    /// Whether who must have signed it is handed over; else it is one of the public authorities.
    pub(crate) is_handed: bool,
}

/// Signals that are meant for the program.
const HANDED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Runs a program for as long as it lives.
///
/// # Errors
///
/// If signals cannot be heard.
pub(super) async fn live(live: &Live, words: &[String]) -> io::Result<ExitCode> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(ExitCode::from(64));
    };
    let mut heard: Vec<(Signal, Stream)> = HANDED_ON
        .into_iter()
        .map(|own| Ok((own, signal(SignalKind::from_raw(own as i32))?)))
        .collect::<io::Result<_>>()?;
    let mut certified = None;
    if let Some(service) = &live.certified {
        let mut own = certificates(service)?;
        let held = {
            let mut beginning = std::pin::pin!(own.begin());
            loop {
                tokio::select! {
                    held = &mut beginning => break held,
                    own = next(&mut heard) => {
                        if matches!(own, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) {
                            return Ok(u8::try_from(own as i32).map_or(ExitCode::FAILURE, |own| ExitCode::from(128 + own)));
                        }
                    }
                }
            }
        };
        certified = Some((own, held));
    }
    let way = match (&certified, &live.certified, &live.own) {
        (Some((own, _)), Some(service), _) => Some((own.way.clone(), service.clone())),
        (_, _, Some(shown)) => Some((believing(shown)?, shown.name.clone())),
        _ => None,
    };
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => return Ok(unstarted(program, &error)),
    };
    let mut dies = std::pin::pin!(dies(live, way.as_ref()));
    let mut renewing = std::pin::pin!(async {
        match certified {
            Some((mut own, held)) => own.stay(held).await,
            None => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(code(ended?)),
            own = next(&mut heard) => send(&child, own),
            never = &mut renewing => match never {},
            why = &mut dies => {
                let why = match why {
                    Ok(never) => match never {},
                    Err(why) => why,
                };
                let _ = writeln!(
                    io::stderr(),
                    "`live` failed {} times in a row, so the service is ended: {why}",
                    live.health.failures.max(1)
                );
                let ended = end(&mut child, &live.stop).await?;
                // It did not end by itself, whatever it says of that.
                let own = if ended.success() { ExitCode::FAILURE } else { code(ended) };
                return Ok(own);
            }
        }
    }
}

/// How an instance is asked that shows a certificate of its own.
fn believing(shown: &Shown) -> io::Result<Way> {
    let authorities = if shown.is_handed {
        let handed = read(Path::new(HANDED))?;
        Some(handed.authority.unwrap_or_default())
    } else {
        None
    };
    let config = authority::believing(authorities.as_deref()).map_err(io::Error::other)?;
    Ok(Rc::new(RefCell::new(Some(Arc::new(config)))))
}

/// Who has certificates signed for this instance.
fn certificates(service: &str) -> io::Result<Certified> {
    let handed = read(Path::new(HANDED))?;
    let token = handed.token.unwrap_or_default();
    Certified::new(service, &token, Path::new(SIGNING), Path::new(SECRETS))
}

/// The next signal that comes in.
async fn next(heard: &mut [(Signal, Stream)]) -> Signal {
    poll_fn(|context| {
        for (own, stream) in heard.iter_mut() {
            if matches!(stream.poll_recv(context), Poll::Ready(Some(()))) {
                return Poll::Ready(*own);
            }
        }
        Poll::Pending
    })
    .await
}

fn send(child: &Child, own: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have just ended.
        let _ = kill(Pid::from_raw(pid), own);
    }
}

/// Ends a program: by its signal, and by force after its grace.
async fn end(child: &mut Child, stop: &Stop) -> io::Result<ExitStatus> {
    send(
        child,
        stop.signal.as_str().parse().unwrap_or(Signal::SIGTERM),
    );
    if let Ok(ended) = timeout(stop.grace.duration(), child.wait()).await {
        return ended;
    }
    child.start_kill()?;
    child.wait().await
}

/// As a shell tells it: 128 and the signal for what was ended by one.
fn code(ended: ExitStatus) -> ExitCode {
    let own = ended
        .code()
        .or_else(|| Some(128 + ended.signal()?))
        .and_then(|own| u8::try_from(own).ok());
    own.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Asks until so many checks in a row have failed; returns why the last did. What has not passed yet has its time to
/// start.
///
/// - `way`: how it is asked over TLS, and for a certificate of which name, where it speaks that
async fn dies(live: &Live, way: Option<&(Way, String)>) -> Result<Infallible, String> {
    let Health {
        live: Some(check),
        interval,
        timeout: patience,
        start_within,
        failures,
        ..
    } = &live.health
    else {
        return std::future::pending().await;
    };
    let begun = Instant::now();
    let mut passed = false;
    let mut in_row = 0;
    loop {
        sleep(interval.duration().max(Duration::from_millis(10))).await;
        let asked = timeout(patience.duration(), ask(live, check, way)).await;
        let answered = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match answered {
            Ok(()) => (passed, in_row) = (true, 0),
            Err(_) if !passed && begun.elapsed() < start_within.duration() => {}
            Err(why) => {
                in_row += 1;
                if in_row >= (*failures).max(1) {
                    return Err(why.to_string());
                }
            }
        }
    }
}

async fn ask(live: &Live, check: &Check, way: Option<&(Way, String)>) -> io::Result<()> {
    let own = || {
        let port = live
            .port
            .ok_or_else(|| io::Error::other("the service has no port"))?;
        io::Result::Ok(format!("127.0.0.1:{port}"))
    };
    match check {
        Check::Http(path) => {
            let address = own()?;
            let stream = TcpStream::connect(&address).await?;
            match (way, live.http2) {
                (None, false) => reach_over(stream, &address, path, b"23").await,
                (None, true) => reach_in_http2(stream, "http", path).await,
                (Some((way, name)), http2) => {
                    let stream = secure(way, name, http2, stream).await?;
                    if http2 {
                        reach_in_http2(stream, "https", path).await
                    } else {
                        reach_over(stream, &address, path, b"23").await
                    }
                }
            }
        }
        Check::Tcp { .. } => TcpStream::connect(own()?).await.map(drop),
        Check::Command { command } => {
            let Some((program, arguments)) = command.split_first() else {
                return Ok(());
            };
            let mut asking = Command::new(program);
            asking.args(arguments).kill_on_drop(true);
            asking.stdin(Stdio::null()).stdout(Stdio::null());
            let ended = asking.stderr(Stdio::null()).status().await?;
            if ended.success() {
                return Ok(());
            }
            Err(io::Error::other(format!("`{program}` ended with {ended}")))
        }
    }
}
