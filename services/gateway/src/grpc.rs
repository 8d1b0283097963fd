//! What gRPC answers end with: their HTTP status says 200 even where the call failed.

use http::{HeaderMap, header};

const STATUS: &str = "grpc-status";
/// What a call came to that ends without a status, or with one that is none.
const UNKNOWN: u32 = 2;
/// The statuses that are the service's fault: `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `INTERNAL`, `UNAVAILABLE`
/// and `DATA_LOSS`. The others say something of the request.
///
/// Source: gRPC, "Status codes and their use in gRPC" (doc/statuscodes.md).
const BAD: [u32; 6] = [UNKNOWN, 4, 8, 13, 14, 15];
/// The highest status there is (`UNAUTHENTICATED`).
const LAST: u32 = 16;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not yet.
    Awaited,
    /// With this status.
    Status(u32),
}

impl Ending {
    /// What the head of an answer says; it alone, where there are no messages.
    ///
    /// - returns: `None` if it is no answer of gRPC
    pub(crate) fn of_head(head: &HeaderMap) -> Option<Self> {
        let kind = head.get(header::CONTENT_TYPE)?.to_str().ok()?;
        if !is_grpc(kind) {
            return None;
        }
        Some(if head.contains_key(STATUS) {
            Self::of_trailers(head)
        } else {
            Self::Awaited
        })
    }

    /// What trailers say.
    pub(crate) fn of_trailers(trailers: &HeaderMap) -> Self {
        let status = trailers
            .get(STATUS)
            .and_then(|status| status.to_str().ok()?.parse().ok())
            .filter(|status| *status <= LAST);
        Self::Status(status.unwrap_or(UNKNOWN))
    }

    /// Whether the service failed; `None` where that is not known yet.
    pub(crate) fn is_bad(self) -> Option<bool> {
        match self {
            Self::Awaited => None,
            Self::Status(status) => Some(BAD.contains(&status)),
        }
    }

    /// The same, once nothing more can come.
    pub(crate) fn concluded(self) -> Self {
        match self {
            Self::Awaited => Self::Status(UNKNOWN),
            known @ Self::Status(_) => known,
        }
    }
}

/// Whether a media type is gRPC over HTTP/2. What gRPC-Web ends with stands inside its body.
pub(crate) fn is_grpc(kind: &str) -> bool {
    let name = kind.split([';', '+']).next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case("application/grpc")
}

/// Whether a caller expects its answer within a time, rather than waiting for whatever comes.
pub(crate) fn has_deadline(head: &HeaderMap) -> bool {
    head.contains_key("grpc-timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_status_tells_whose_fault_it_is() {
        let bad: Vec<u32> = (0..=LAST + 1)
            .filter(|status| {
                let trailers = map(&[("grpc-status", &status.to_string())]);
                Ending::of_trailers(&trailers).is_bad() == Some(true)
            })
            .collect();
        // What is no status counts as unknown, as clients take it.
        assert_eq!(bad, [2, 4, 8, 13, 14, 15, 17]);
        for fields in [&[][..], &[("grpc-status", "-1")], &[("grpc-status", "")]] {
            assert_eq!(Ending::of_trailers(&map(fields)).is_bad(), Some(true));
        }
    }

    #[test]
    fn a_head_may_be_the_whole_answer() {
        let check = |fields: &[(&'static str, &str)], expected| {
            assert_eq!(Ending::of_head(&map(fields)), expected, "{fields:?}");
        };
        check(&[], None);
        check(
            &[("content-type", "application/json"), ("grpc-status", "2")],
            None,
        );
        check(&[("content-type", "application/grpc-web+proto")], None);
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/gRPC; a=b",
        ] {
            check(&[("content-type", kind)], Some(Ending::Awaited));
            let failed = [("content-type", kind), ("grpc-status", "14")];
            check(&failed, Some(Ending::Status(14)));
        }
        assert_eq!(Ending::Awaited.concluded(), Ending::Status(UNKNOWN));
    }
}
