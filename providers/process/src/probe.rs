//! Health checks: HTTP, TCP or a command, and what their results mean.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use platform_blueprint::{Check, Health};
use tokio::net::TcpStream;

/// Where and how an instance is checked.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// Where it listens.
    pub(crate) address: Option<SocketAddr>,
    /// Programs are looked for here.
    pub(crate) search: Vec<PathBuf>,
    /// Commands run here,
    pub(crate) folder: PathBuf,
    /// with this environment,
    pub(crate) environment: BTreeMap<String, String>,
    /// for so long.
    pub(crate) timeout: Duration,
}

impl Probe {
    /// Runs the checks that are due, both over one connection where the server keeps it: most of what a check costs is
    /// the making of a connection.
    pub(crate) async fn round(&self, ready: Option<Check>, live: Option<Check>) -> Round {
        let mut kept = None;
        let mut run = async |check: Option<Check>, goes_on: bool| match check {
            Some(check) => Some(self.run(&check, &mut kept, goes_on).await),
            None => None,
        };
        let both_http = matches!(
            (&ready, &live),
            (Some(Check::Http(_)), Some(Check::Http(_)))
        );
        Round {
            ready: run(ready, both_http).await,
            live: run(live, false).await,
        }
    }

    /// Runs one check.
    ///
    /// - `kept`: a connection to use, and where one is left if it `goes_on`
    async fn run(
        &self,
        check: &Check,
        kept: &mut Option<Line>,
        goes_on: bool,
    ) -> Result<(), String> {
        let passed = tokio::time::timeout(self.timeout, async {
            match check {
                Check::Http(path) => self.http(path, kept, goes_on).await,
                Check::Tcp { .. } => self.connect().await.map(drop),
                Check::Command { command } => self.command(command).await,
            }
        });
        passed.await.unwrap_or_else(|_| {
            Err(format!(
                "{} took longer than {} ms",
                describe(check),
                self.timeout.as_millis()
            ))
        })
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let address = self.address.ok_or("it has no port to check")?;
        TcpStream::connect(address)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    format!("nothing listens on its port {}", address.port())
                }
                _ => format!("cannot connect to port {}: {error}", address.port()),
            })
    }

    async fn http(&self, path: &str, kept: &mut Option<Line>, goes_on: bool) -> Result<(), String> {
        let answered = match kept.take() {
            Some(line) => line.get(path, goes_on).await.ok(),
            None => None,
        };
        let (status, left) = if let Some(answered) = answered {
            answered
        } else {
            // A server may close what it kept at any time, and that says nothing of its health.
            let fresh = Line::over(self.connect().await?).await?;
            fresh.get(path, goes_on).await?
        };
        *kept = left;
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        Err(format!("GET {path} answered {}", status.as_u16()))
    }

    async fn command(&self, command: &[String]) -> Result<(), String> {
        let (name, arguments) = command.split_first().ok_or("the check has no command")?;
        let program = crate::surroundings::find_program(name, &self.search, &self.folder)
            .ok_or_else(|| format!("`{name}` of the check was not found"))?;
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run `{name}`: {error}"))?;
        let status = child
            .wait()
            .await
            .map_err(|error| format!("cannot wait for `{name}`: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{name}` ended with {status}"))
        }
    }
}

/// A connection to an instance.
struct Line {
    sender: SendRequest<Empty<Bytes>>,
    connection: Pin<Box<Connection<TokioIo<TcpStream>, Empty<Bytes>>>>,
}

impl Line {
    async fn over(stream: TcpStream) -> Result<Self, String> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self {
            sender,
            connection: Box::pin(connection),
        })
    }

    /// Sends one request and reads its answer to the end; leaves the connection where it `goes_on` and is open.
    async fn get(
        mut self,
        path: &str,
        goes_on: bool,
    ) -> Result<(StatusCode, Option<Self>), String> {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("user-agent", "platform")
            .header("connection", if goes_on { "keep-alive" } else { "close" })
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("GET {path}: {error}"))?;
        let (status, open) = {
            let sender = &mut self.sender;
            let answer = async {
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                // Read to its end, so that the server does not see a broken connection.
                let _ = Limited::new(answer.into_body(), 64 * 1024).collect().await;
                Ok::<_, hyper::Error>(status)
            };
            let mut answer = std::pin::pin!(answer);
            tokio::select! {
                biased;
                status = &mut answer => (status, goes_on),
                ended = &mut self.connection => match ended {
                    Ok(()) => (answer.await, false),
                    Err(error) => (Err(error), false),
                },
            }
        };
        let status = status.map_err(|_| format!("GET {path} got no answer"))?;
        Ok((status, open.then_some(self)))
    }
}

fn describe(check: &Check) -> String {
    match check {
        Check::Http(path) => format!("GET {path}"),
        Check::Tcp { .. } => "connecting".to_owned(),
        Check::Command { command } => {
            format!("`{}`", command.first().map_or("", String::as_str))
        }
    }
}

/// What to check, and what the results add up to. Time is an argument.
#[derive(Debug, Clone)]
pub(crate) struct HealthWatch {
    ready_check: Option<Check>,
    live_check: Option<Check>,
    policy: Health,
    started: Instant,
    next_at: Instant,
    tight_pause: Duration,
    ready: bool,
    ever_ready: bool,
    unready_in_row: u32,
    dead_in_row: u32,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
}

/// What the results of checks mean for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing new.
    Same,
    /// It is ready now.
    Ready,
    /// It was ready and is not now.
    Unready,
    /// It must be restarted.
    Dead(String),
    /// It did not become ready in time.
    TooSlow(String),
}

/// Results of one round of checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Round {
    /// Of the readiness check, where one was due.
    pub(crate) ready: Option<Result<(), String>>,
    /// Of the liveness check, where one was due.
    pub(crate) live: Option<Result<(), String>>,
}

const TIGHTEST: Duration = Duration::from_millis(20);
const LOOSEST_AT_START: Duration = Duration::from_millis(250);
/// A program without port and check counts as ready once it has run for so long.
const PROOF_OF_LIFE: Duration = Duration::from_millis(500);

impl HealthWatch {
    /// Begins at the start of a process.
    ///
    /// - `has_port`: without a check of its own, its port is checked
    /// - `ever_ready`: it was ready before, as after an agent's restart; then it is checked at once and counts as ready
    pub(crate) fn new(policy: &Health, has_port: bool, was_ready: bool, now: Instant) -> Self {
        let ready_check = policy
            .ready
            .clone()
            .or_else(|| has_port.then_some(Check::Tcp { tcp: true }));
        let first = if ready_check.is_none() {
            PROOF_OF_LIFE
        } else {
            Duration::from_millis(2)
        };
        Self {
            ready_check,
            live_check: policy.live.clone(),
            policy: policy.clone(),
            started: now,
            next_at: now + first,
            tight_pause: TIGHTEST,
            ready: was_ready,
            ever_ready: was_ready,
            unready_in_row: 0,
            dead_in_row: 0,
            reason: None,
        }
    }

    /// When the next round is due; `None` where nothing is to be checked any more.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let idle = self.ready && self.ready_check.is_none() && self.live_check.is_none();
        (!idle).then_some(self.next_at)
    }

    /// The checks of the next round: readiness, and liveness once it was ready.
    pub(crate) fn due(&self) -> (Option<Check>, Option<Check>) {
        let live = self.live_check.clone().filter(|live| {
            // One question is enough where both are the same.
            self.ever_ready && Some(live) != self.ready_check.as_ref()
        });
        (self.ready_check.clone(), live)
    }

    /// Takes the results of a round in.
    ///
    /// - `jitter`: 0.0 to 1.0, spreads the checks of many instances
    pub(crate) fn record(&mut self, round: Round, now: Instant, jitter: f64) -> Verdict {
        let same_check = self.live_check.is_some() && self.live_check == self.ready_check;
        let live = if same_check && self.ever_ready {
            round.ready.clone()
        } else {
            round.live
        };
        let patience = self.policy.failures.max(1);
        match live {
            Some(Err(why)) => {
                self.dead_in_row += 1;
                if self.dead_in_row >= patience {
                    return Verdict::Dead(why);
                }
            }
            Some(Ok(())) => self.dead_in_row = 0,
            None => {}
        }
        let was_ready = self.ready;
        match round.ready.unwrap_or(Ok(())) {
            Ok(()) => {
                self.ready = true;
                self.ever_ready = true;
                self.unready_in_row = 0;
                self.reason = None;
            }
            Err(why) => {
                self.unready_in_row += 1;
                if self.unready_in_row >= patience {
                    self.ready = false;
                }
                self.reason = Some(why);
            }
        }
        self.schedule(now, jitter);
        if self.ready && !was_ready {
            return Verdict::Ready;
        }
        if !self.ready && was_ready {
            return Verdict::Unready;
        }
        let limit = self.policy.start_within.duration();
        if !self.ever_ready && now.duration_since(self.started) >= limit {
            return Verdict::TooSlow(self.reason.clone().unwrap_or_default());
        }
        Verdict::Same
    }

    fn schedule(&mut self, now: Instant, jitter: f64) {
        let interval = self.policy.interval.duration();
        self.next_at = if self.ready {
            // 90 % to 110 %, so that instances that started together drift apart.
            now + interval.mul_f64(0.9 + 0.2 * jitter)
        } else {
            let pause = self.tight_pause;
            // A tenth more each time: readiness is noticed within about a tenth of the time it took. What needs a chain of
            // services waits for each of them, so these pauses add up.
            self.tight_pause = (pause * 11 / 10).min(LOOSEST_AT_START.min(interval.max(TIGHTEST)));
            let mut next = now + pause;
            if !self.ever_ready {
                // The verdict comes at the limit, not a pause after it.
                next = next.min((self.started + self.policy.start_within.duration()).max(now));
            }
            next
        };
        if self.ready {
            self.tight_pause = TIGHTEST;
        }
    }
}

/// The loopback address of a port.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use platform_blueprint::Period;

    use super::*;

    fn policy() -> Health {
        Health {
            ready: Some(Check::Http("/ready".to_owned())),
            live: Some(Check::Http("/live".to_owned())),
            interval: Period::from_secs(2),
            failures: 2,
            start_within: Period::from_secs(1),
            ..Health::default()
        }
    }

    fn ready(result: Result<(), &str>) -> Round {
        Round {
            ready: Some(result.map_err(str::to_owned)),
            live: None,
        }
    }

    #[test]
    fn checks_are_tight_until_it_is_ready_and_then_calm() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&policy(), true, false, start);
        assert_eq!(watch.due().1, None);
        assert_eq!(watch.record(ready(Err("no")), start, 0.5), Verdict::Same);
        assert_eq!(watch.next_at(), Some(start + TIGHTEST));
        assert_eq!(watch.record(ready(Ok(())), start, 0.5), Verdict::Ready);
        assert_eq!(watch.next_at(), Some(start + Duration::from_secs(2)));
        assert!(watch.due().1.is_some());
    }

    #[test]
    fn readiness_is_noticed_within_a_tenth_of_the_time_it_took() {
        let start = Instant::now();
        let patient = Health {
            start_within: Period::from_secs(60),
            ..policy()
        };
        for millis in [1, 100, 500, 1_500, 10_000] {
            let mut watch = HealthWatch::new(&patient, true, false, start);
            let up = start + Duration::from_millis(millis);
            let mut checks = 0;
            let mut now = start;
            while now < up {
                now = watch.next_at().expect("a next round");
                let seen = if now < up { Err("no") } else { Ok(()) };
                watch.record(ready(seen), now, 0.5);
                checks += 1;
            }
            let late = now - up;
            assert!(
                late <= TIGHTEST + Duration::from_millis(millis) / 10,
                "{late:?}"
            );
            assert!(checks <= 80, "{checks} checks in {millis} ms");
        }
    }

    #[test]
    fn what_is_not_ready_in_time_is_too_slow() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&policy(), true, false, start);
        let late = start + Duration::from_secs(1);
        assert_eq!(
            watch.record(ready(Err("503")), late, 0.5),
            Verdict::TooSlow("503".to_owned())
        );
        // What was ready before has no such limit.
        let mut watch = HealthWatch::new(&policy(), true, true, start);
        assert_eq!(watch.record(ready(Err("503")), late, 0.5), Verdict::Same);
        assert_eq!(watch.record(ready(Err("503")), late, 0.5), Verdict::Unready);
        assert_eq!(watch.record(ready(Ok(())), late, 0.5), Verdict::Ready);
    }

    #[test]
    fn it_is_dead_after_so_many_failures_in_a_row() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&policy(), true, true, start);
        let round = |live: Result<(), &str>| Round {
            ready: Some(Ok(())),
            live: Some(live.map_err(str::to_owned)),
        };
        assert_eq!(watch.record(round(Err("x")), start, 0.5), Verdict::Same);
        assert_eq!(watch.record(round(Ok(())), start, 0.5), Verdict::Same);
        assert_eq!(watch.record(round(Err("x")), start, 0.5), Verdict::Same);
        assert_eq!(
            watch.record(round(Err("x")), start, 0.5),
            Verdict::Dead("x".to_owned())
        );
    }

    #[test]
    fn a_program_without_port_and_check_proves_itself_by_running() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&Health::default(), false, false, start);
        assert_eq!(watch.next_at(), Some(start + PROOF_OF_LIFE));
        assert_eq!(watch.record(Round::default(), start, 0.5), Verdict::Ready);
        assert_eq!(watch.next_at(), None);
    }
}
