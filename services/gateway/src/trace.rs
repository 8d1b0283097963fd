//! The trace that a request belongs to (W3C Trace Context).

use http::HeaderMap;

/// The trace context to send on: the client's, if it is well formed, or a new one.
///
/// - returns: it, and whether it is the client's
///
/// Source: W3C Trace Context, 3.2.
pub(crate) fn trace_parent(headers: &HeaderMap) -> (String, bool) {
    let given = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_trace_parent(text));
    given.map_or_else(
        || {
            let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
            let mut text = String::with_capacity(55);
            text.push_str("00-");
            push_hex(&mut text, &trace.to_be_bytes());
            text.push('-');
            push_hex(&mut text, &span.to_be_bytes());
            text.push_str("-01");
            (text, false)
        },
        |text| (text.to_owned(), true),
    )
}

/// Adds bytes as hexadecimal digits, without the detour of `format!`.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn is_trace_parent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let [version, trace, span, flags, rest @ ..] = parts.as_slice() else {
        return false;
    };
    hex(version, 2)
        && *version != "ff"
        && (rest.is_empty() || *version != "00")
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && trace.bytes().any(|byte| byte != b'0')
        && span.bytes().any(|byte| byte != b'0')
}

/// The span id inside a `traceparent`.
pub(crate) fn span_id(trace_parent: &str) -> &str {
    trace_parent.get(36..52).unwrap_or("")
}

/// Makes this gateway's span a part of the trace, if it is exported.
///
/// - `sample`: share of the traces begun here that are, in thousandths
/// - `trusted`: whether what came before may decide
/// - returns: the context to send on, the span before, and whether the trace is sampled
pub(crate) fn join_trace(
    before: &str,
    given: bool,
    sample: u32,
    trusted: bool,
) -> (String, Option<String>, bool) {
    let trace = trace_id(before);
    let sampled = if given && trusted {
        let flags = before
            .get(53..55)
            .and_then(|flags| u8::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & 1 == 1)
    } else {
        // By the trace's own id, so that all gateways decide alike.
        let last = trace
            .get(18..32)
            .and_then(|id| u64::from_str_radix(id, 16).ok());
        last.is_some_and(|id| id % 1000 < u64::from(sample))
    };
    let span = rand::random::<u64>() | 1;
    let parent = given.then(|| span_id(before).to_owned());
    let flags = if sampled { "01" } else { "00" };
    (format!("00-{trace}-{span:016x}-{flags}"), parent, sampled)
}

/// The trace id inside a `traceparent`.
pub(crate) fn trace_id(trace_parent: &str) -> &str {
    trace_parent.get(3..35).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents_are_checked() {
        for (text, expected) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                true,
            ),
            (
                "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                false,
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
                false,
            ),
            (
                "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
                true,
            ),
            ("", false),
        ] {
            assert_eq!(is_trace_parent(text), expected, "{text}");
        }
        let (made, given) = trace_parent(&HeaderMap::new());
        assert!(is_trace_parent(&made) && !given);
        let (joined, before, sampled) = join_trace(&made, false, 1000, false);
        assert!(is_trace_parent(&joined) && sampled && before.is_none());
        assert_eq!(trace_id(&joined), trace_id(&made));
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let (joined, before, sampled) = join_trace(unsampled, true, 1000, true);
        assert_eq!(
            (before.as_deref(), sampled),
            (Some("00f067aa0ba902b7"), false)
        );
        assert!(joined.ends_with("-00"));
    }
}
