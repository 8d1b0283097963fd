//! Structured log lines on standard output.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde::Serializer;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::request;
use crate::settings::{Identity, LogFormat};

/// Lines that wait for a reader of standard output; more are dropped and counted, so a reader that stalls does not stall
/// the service.
const WAITING_LINES: usize = 4096;
/// How long the end of the program waits for the last lines to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// A layer that writes each event as one line.
#[derive(Debug)]
pub(crate) struct LogLayer {
    format: LogFormat,
    service: String,
    release: Option<String>,
    instance: Option<String>,
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message")
    }
}

/// Waits for lines to be written.
#[derive(Debug, Clone)]
pub(crate) struct Flush {
    lines: SyncSender<Message>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Flush {
    /// Waits until every line so far is written, or nobody takes them.
    pub(crate) fn wait(&self) {
        if self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
        {
            return;
        }
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Starts the thread that writes lines.
pub(crate) fn start(format: LogFormat, identity: &Identity) -> (LogLayer, Flush) {
    let (lines, waiting) = sync_channel(WAITING_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let count = dropped.clone();
    let writer = std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || write_lines(&waiting, &count))
        .ok();
    let layer = LogLayer {
        format,
        service: identity.service.clone(),
        release: identity.release.clone(),
        instance: identity.instance.clone(),
        lines: lines.clone(),
        dropped,
    };
    let writer = Arc::new(Mutex::new(writer));
    (layer, Flush { lines, writer })
}

fn write_lines(waiting: &Receiver<Message>, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(message) = waiting.recv() {
        match message {
            Message::Line(line) => {
                // Nothing sensible can be done where standard output is gone.
                let _ = std::io::stdout().lock().write_all(&line);
            }
            Message::Flush(done) => {
                let _ = std::io::stdout().lock().flush();
                let _ = done.try_send(());
            }
        }
        let total = dropped.load(Ordering::Relaxed);
        if total > told {
            metrics::counter!("log_lines_dropped_total").absolute(total);
            told = total;
        }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = match self.format {
            LogFormat::Json => self.json(event),
            LogFormat::Text => self.text(event),
        };
        line.push(b'\n');
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogLayer {
    fn json(&self, event: &Event<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(16);
        let mut put = |name: &'static str, value: &str| line.push((name, Value::from(value)));
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        put("time", &time);
        put("level", event.metadata().level().as_str());
        put("target", event.metadata().target());
        put("service", &self.service);
        if let Some(release) = &self.release {
            put("release", release);
        }
        if let Some(instance) = &self.instance {
            put("instance", instance);
        }
        request::with_current(|context| {
            put("request_id", &context.request_id);
            put("trace_id", &context.trace.trace_id());
            put("span_id", &context.trace.span_id());
        });
        event.record(&mut Fields(&mut line));
        let mut bytes = Vec::with_capacity(384);
        // Writing JSON values to memory cannot fail.
        let _ = serde_json::Serializer::new(&mut bytes).collect_map(line);
        bytes
    }

    fn text(&self, event: &Event<'_>) -> Vec<u8> {
        let mut fields = Vec::new();
        event.record(&mut Fields(&mut fields));
        let message = fields
            .iter()
            .position(|(name, _)| *name == "message")
            .map(|place| fields.remove(place).1);
        let mut line = format!(
            "{} {:5} {}: {}",
            Utc::now().format("%H:%M:%S%.3f"),
            event.metadata().level(),
            self.service,
            message.as_ref().and_then(Value::as_str).unwrap_or_default(),
        );
        for (name, value) in fields {
            let _ = write!(line, " {name}={value}");
        }
        line.into_bytes()
    }
}

/// Collects an event's fields as JSON values, in order.
struct Fields<'a>(&'a mut Vec<(&'static str, Value)>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        // Events that come from the `log` crate repeat their metadata as fields.
        if !field.name().starts_with("log.") {
            self.0.push((field.name(), value));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.put(field, Value::from(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}
