//! Compression of answers, where client, service and route agree.

use http::{Method, StatusCode, Version, header};
use pingora_core::Result;
use pingora_core::modules::http::compression::ResponseCompression;
use pingora_core::protocols::http::compression::Algorithm;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::codings;

/// Level of gzip, br and zstd: most of the gain at a small part of the cost.
const LEVEL: u32 = 4;

/// Turns compression on for an answer that may be compressed.
///
/// - `encodings`: which to use; any when empty
/// - `whole`: whether all of the answer is here already
pub(crate) fn turn_on(
    session: &mut Session,
    answer: &ResponseHeader,
    encodings: &[String],
    whole: bool,
) -> Result<()> {
    let head = session.req_header();
    if head.version == Version::HTTP_10 || !may_be(answer, whole) {
        return Ok(());
    }
    // Pingora's module knows no weights, so it is shown what is wanted, the most wanted first.
    let mut shown = RequestHeader::build(Method::GET, b"/", Some(1))?;
    shown.insert_header(
        header::ACCEPT_ENCODING,
        codings::wanted(&head.headers).join(", "),
    )?;
    let modules = &mut session.downstream_modules_ctx;
    if let Some(compression) = modules.get_mut::<ResponseCompression>() {
        if encodings.is_empty() {
            compression.adjust_level(LEVEL);
        }
        for encoding in encodings {
            let algorithm = Algorithm::from(encoding.as_str());
            compression.adjust_algorithm_level(algorithm, LEVEL);
        }
        compression.request_filter(&shown);
    }
    Ok(())
}

/// Whether an answer may be another for the client than it is for the gateway. One whose length is
/// not known is passed on as it comes; compressing would gather it first.
fn may_be(answer: &ResponseHeader, whole: bool) -> bool {
    let headers = &answer.headers;
    let directives = headers.get_all(header::CACHE_CONTROL);
    let fixed = directives
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"));
    let part =
        answer.status == StatusCode::PARTIAL_CONTENT || headers.contains_key(header::CONTENT_RANGE);
    !fixed && !part && (whole || headers.contains_key(header::CONTENT_LENGTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_streams_and_what_is_fixed_stay_as_they_are() {
        let check = |status: u16, fields: &[(&'static str, &str)], expected: bool| {
            let mut answer = ResponseHeader::build(status, None).unwrap();
            for (name, value) in fields {
                answer.append_header(*name, *value).unwrap();
            }
            assert_eq!(may_be(&answer, false), expected, "{status} {fields:?}");
        };
        let length = ("content-length", "9000");
        check(200, &[length], true);
        check(200, &[], false);
        check(206, &[length], false);
        check(
            200,
            &[length, ("cache-control", "public, No-Transform")],
            false,
        );
    }
}
