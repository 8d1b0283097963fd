//! One JSON line for each request.

use std::borrow::Cow;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use pingora_core::Error;
use pingora_proxy::Session;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::clock::saturating_micros;
use crate::context::RequestContext;
use crate::redaction::redact;
use crate::tally::Counter;
use crate::trace::trace_id;

/// Lines that may wait for the disk; what is over them is counted and lost.
const WAITING: usize = 16_384;

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    #[default]
    None,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to a file, which is opened anew when it was moved away.
    File(PathBuf),
}

/// The way of lines to their target. Never makes a request wait.
#[derive(Debug)]
pub(crate) struct AccessLogWriter {
    sender: Option<mpsc::Sender<Vec<u8>>>,
    pub(crate) lost: Arc<Counter>,
}

impl AccessLogWriter {
    /// Starts the task that writes; it ends with the writer.
    pub(crate) fn new(target: LogTarget) -> Self {
        let lost = Arc::new(Counter::default());
        let sender = (target != LogTarget::None).then(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            tokio::spawn(write_all(target, receiver, lost.clone()));
            sender
        });
        Self { sender, lost }
    }

    fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    fn send(&self, line: Vec<u8>) {
        if let Some(sender) = &self.sender
            && sender.try_send(line).is_err()
        {
            self.lost.increment();
        }
    }
}

async fn write_all(target: LogTarget, mut receiver: mpsc::Receiver<Vec<u8>>, lost: Arc<Counter>) {
    let mut out = None;
    let mut lines = Vec::new();
    let mut batch = Vec::new();
    // Told when it begins and when it is over, not for each line.
    let mut in_trouble = false;
    let mut lost_now = 0_u64;
    while receiver.recv_many(&mut lines, 512).await > 0 {
        batch.clear();
        let count = lines.len() as u64;
        for line in lines.drain(..) {
            batch.extend_from_slice(&line);
        }
        if let LogTarget::File(path) = &target
            && !tokio::fs::try_exists(path).await.unwrap_or(false)
        {
            out = None;
        }
        match append(&mut out, &target, &batch).await {
            Ok(()) if in_trouble => {
                tracing::info!(
                    lines = lost_now,
                    "the access log is written again; lines are missing"
                );
                (in_trouble, lost_now) = (false, 0);
            }
            Ok(()) => (),
            Err(error) => {
                // A full disk loses lines, never requests.
                if !in_trouble {
                    tracing::warn!(%error, "cannot write the access log");
                }
                in_trouble = true;
                lost_now += count;
                (0..count).for_each(|_| lost.increment());
                out = None;
            }
        }
    }
}

type Out = Box<dyn AsyncWrite + Send + Unpin>;

/// Writes lines to the target, which is opened where it is not.
async fn append(out: &mut Option<Out>, target: &LogTarget, batch: &[u8]) -> std::io::Result<()> {
    let writer = match out {
        Some(writer) => writer,
        None => out.insert(open(target).await?),
    };
    writer.write_all(batch).await?;
    writer.flush().await
}

async fn open(target: &LogTarget) -> std::io::Result<Out> {
    Ok(match target {
        LogTarget::None => Box::new(tokio::io::sink()),
        LogTarget::Stdout => Box::new(tokio::io::stdout()),
        LogTarget::Stderr => Box::new(tokio::io::stderr()),
        LogTarget::File(path) => {
            let mut file = tokio::fs::OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .open(path)
                .await?;
            // A line that was cut off, as by a full disk, must not swallow the next one.
            if file.metadata().await?.len() > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1)).await?;
                file.read_exact(&mut last).await?;
                if last != *b"\n" {
                    file.write_all(b"\n").await?;
                }
            }
            Box::new(file)
        }
    })
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    trace_id: &'a str,
    client: Option<std::net::IpAddr>,
    listener: &'a str,
    protocol: &'a str,
    method: &'a str,
    host: &'a str,
    target: Cow<'a, str>,
    status: Option<u16>,
    received: usize,
    sent: usize,
    took_micros: u64,
    head_micros: Option<u64>,
    route: Option<&'a str>,
    service: Option<&'a str>,
    version: Option<&'a str>,
    endpoint: Option<&'a str>,
    attempts: u32,
    own: Option<&'a str>,
    error: Option<String>,
    user_agent: Option<Cow<'a, str>>,
}

/// Writes the line of a request that is over.
pub(crate) fn write(
    session: &Session,
    context: &RequestContext,
    status: Option<u16>,
    error: Option<&Error>,
) {
    let log = &context.gateway.log;
    if !log.is_on() {
        return;
    }
    let settings = &context.snapshot.access_log;
    let good = status.is_some_and(|status| status < 500) && error.is_none();
    if good && settings.sample < 1000 && rand::random_range(0..1000) >= settings.sample {
        return;
    }
    let head = session.req_header();
    let service = context.service();
    let version = service
        .zip(context.version)
        .filter(|_| context.attempts > 0)
        .map(|(service, version)| &*service.versions[version].name);
    let line = Line {
        time: Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        request_id: &context.request_id,
        trace_id: trace_id(&context.trace_parent),
        client: context.client,
        listener: context
            .connection
            .as_ref()
            .map_or("", |connection| &connection.listener),
        protocol: if session.is_http2() {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        },
        method: head.method.as_str(),
        host: &context.host,
        target: redact(&context.target, &settings.redact_query),
        status,
        received: session.body_bytes_read(),
        sent: session.body_bytes_sent(),
        took_micros: saturating_micros(context.started.elapsed()),
        head_micros: context.head_after.map(saturating_micros),
        route: context
            .route
            .as_ref()
            .map(|route| route.route.name.as_str()),
        service: service.map(|service| service.name.as_str()),
        version,
        endpoint: context.tried.last().map(|endpoint| &*endpoint.id),
        attempts: context.attempts,
        own: context.own.as_ref().map(|own| own.code),
        error: error.map(|error| error.etype().as_str().to_string()),
        user_agent: head
            .headers
            .get(http::header::USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes())),
    };
    if let Ok(mut text) = serde_json::to_vec(&line) {
        text.push(b'\n');
        log.send(text);
    }
}
