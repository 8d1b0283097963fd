//! One JSON line for each request.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use pingora_core::Error;
use pingora_proxy::Session;
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::clock::saturating_micros;
use crate::context::RequestContext;
use crate::forward::trace_id;
use crate::tally::Counter;

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
    let mut out = open(&target).await;
    let mut lines = Vec::new();
    let mut batch = Vec::new();
    while receiver.recv_many(&mut lines, 512).await > 0 {
        batch.clear();
        let count = lines.len();
        let count_lost = || (0..count).for_each(|_| lost.increment());
        for line in lines.drain(..) {
            batch.extend_from_slice(&line);
        }
        if let LogTarget::File(path) = &target
            && !tokio::fs::try_exists(path).await.unwrap_or(false)
        {
            out = open(&target).await;
        }
        let Some(writer) = &mut out else {
            out = open(&target).await;
            count_lost();
            continue;
        };
        let written = async {
            writer.write_all(&batch).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            // A full disk loses lines, never requests.
            tracing::warn!(%error, "cannot write the access log");
            count_lost();
            out = open(&target).await;
        }
    }
}

async fn open(target: &LogTarget) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
    match target {
        LogTarget::None => None,
        LogTarget::Stdout => Some(Box::new(tokio::io::stdout())),
        LogTarget::Stderr => Some(Box::new(tokio::io::stderr())),
        LogTarget::File(path) => {
            let file = tokio::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .await;
            match file {
                Ok(file) => Some(Box::new(file)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot open the access log");
                    None
                }
            }
        }
    }
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

/// Replaces the values of secret query parameters.
fn redact<'a>(target: &'a str, secret: &[String]) -> Cow<'a, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let is_secret = |pair: &str| {
        let name = pair.split('=').next().unwrap_or("");
        secret
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(name))
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(target);
    }
    let kept: Vec<String> = query
        .split('&')
        .map(|pair| {
            if is_secret(pair) {
                let name = pair.split('=').next().unwrap_or("");
                format!("{name}=[redacted]")
            } else {
                pair.to_string()
            }
        })
        .collect();
    Cow::Owned(format!("{path}?{}", kept.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_query() {
        let secret = ["token".to_string()];
        assert_eq!(redact("/a?b=1", &secret), "/a?b=1");
        assert_eq!(
            redact("/a?b=1&Token=abc&c", &secret),
            "/a?b=1&Token=[redacted]&c"
        );
    }
}
