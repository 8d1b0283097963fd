//! The W3C trace context of a request.

use std::fmt;

use http::{HeaderMap, HeaderValue};

/// Name of the header that carries trace and parent.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the header that carries what vendors add.
pub const TRACESTATE: &str = "tracestate";

/// Where a request stands in a trace.
///
/// Source: <https://www.w3.org/TR/trace-context/>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// Starts a new trace.
    pub fn root() -> Self {
        Self {
            trace: rand::random::<u128>().max(1),
            span: rand::random::<u64>().max(1),
            sampled: true,
            state: None,
        }
    }

    /// Makes a context from identifiers chosen elsewhere.
    pub fn of(trace: u128, span: u64, sampled: bool, state: Option<HeaderValue>) -> Self {
        Self {
            trace,
            span,
            sampled,
            state,
        }
    }

    /// Reads the caller's context; a malformed one counts as absent.
    pub fn of_caller(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let text = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may add parts; version 0 must not have any.
        let more = parts.next().is_some();
        if version == 0xff || trace == 0 || span == 0 || (version == 0 && more) {
            return None;
        }
        let state = headers
            .get(TRACESTATE)
            .filter(|state| state.len() <= 512)
            .cloned();
        Some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
            state,
        })
    }

    /// Continues the trace with a span of its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: rand::random::<u64>().max(1),
            ..self.clone()
        }
    }

    /// Returns the trace's identifier as 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the span's identifier as 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Returns the identifiers and whether the trace is sampled.
    pub fn parts(&self) -> (u128, u64, bool) {
        (self.trace, self.span, self.sampled)
    }

    /// Writes the context into the headers of a call.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == digits && text.bytes().all(lower))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(text).unwrap());
        TraceContext::of_caller(&headers)
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_again() {
        let context = read(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        let child = context.child();
        assert_eq!(child.trace_id(), context.trace_id());
        assert_ne!(child.span_id(), context.span_id());
    }

    #[test]
    fn malformed_contexts_count_as_absent() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(read(&format!("01{}-later", &GOOD[2..])).is_some());
    }
}
