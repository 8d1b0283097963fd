//! Compression of answers, where client, service and route agree.

use std::any::Any;
use std::io::{self, Write};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora_core::protocols::http::compression::{
    Algorithm, COMPRESSION_ERROR, ResponseCompressionCtx,
};
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::codings;
use crate::grpc;

/// Level of gzip, br and zstd: most of the gain at a small part of the cost.
const LEVEL: u32 = 4;
/// Base-two logarithm of brotli's window: 512 KiB for each answer under way.
const BROTLI_WINDOW: u32 = 19;

/// The codings that answers are compressed by.
const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// Writes one coding.
enum Coder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// Behind a lock that is never waited for, as it must not be shared between threads.
    Zstd(Mutex<zstd::Encoder<'static, Vec<u8>>>),
}

impl Coder {
    /// - `coding`: as it stands in `Content-Encoding`
    fn new(coding: &[u8]) -> io::Result<Option<Self>> {
        Ok(Some(match coding {
            b"gzip" => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(LEVEL))),
            b"br" => {
                let coder = brotli::CompressorWriter::new(Vec::new(), 4096, LEVEL, BROTLI_WINDOW);
                Self::Brotli(Box::new(coder))
            }
            b"zstd" => {
                let level = i32::try_from(LEVEL).unwrap_or_default();
                Self::Zstd(Mutex::new(zstd::Encoder::new(Vec::new(), level)?))
            }
            _ => return Ok(None),
        }))
    }

    /// Takes a part in; what came out so far.
    ///
    /// - `at_once`: whether all of the part must have come out
    fn code(&mut self, part: &[u8], at_once: bool) -> io::Result<Vec<u8>> {
        fn into(coder: &mut impl Write, part: &[u8], at_once: bool) -> io::Result<()> {
            coder.write_all(part)?;
            if at_once && !part.is_empty() {
                coder.flush()?;
            }
            Ok(())
        }
        let written = match self {
            Self::Gzip(coder) => {
                into(coder, part, at_once)?;
                coder.get_mut()
            }
            Self::Brotli(coder) => {
                into(coder, part, at_once)?;
                coder.get_mut()
            }
            Self::Zstd(coder) => {
                let coder = coder
                    .get_mut()
                    .map_err(|_| io::Error::other("a coder broke off"))?;
                into(coder, part, at_once)?;
                coder.get_mut()
            }
        };
        Ok(std::mem::take(written))
    }

    /// Ends it; the rest of what comes out.
    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(coder) => coder.finish(),
            Self::Brotli(coder) => Ok(coder.into_inner()),
            Self::Zstd(coder) => coder
                .into_inner()
                .map_err(|_| io::Error::other("a coder broke off"))?
                .finish(),
        }
    }
}

/// Compresses the body of an answer where [`turn_on`] asked for it. Pingora's own module decides by the heads and writes what the
/// client is told; it keeps what it codes until it has much of it, and does not end what it codes as brotli, so the body is coded here.
pub(crate) struct Compression {
    decision: ResponseCompressionCtx,
    /// Whether each part is passed on as it comes.
    at_once: bool,
    coder: Option<Coder>,
}

impl Compression {
    fn off() -> Self {
        Self {
            decision: ResponseCompressionCtx::new(0, false, false),
            at_once: false,
            coder: None,
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let rest = self.coder.take().map(Coder::finish).transpose();
        Ok(rest.map_err(failed)?.map(Bytes::from))
    }
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "what Pingora's modules return"
)]
fn failed(error: io::Error) -> Box<Error> {
    Error::because(COMPRESSION_ERROR, "compressing an answer", error)
}

#[async_trait]
impl HttpModule for Compression {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    async fn response_header_filter(&mut self, head: &mut ResponseHeader, end: bool) -> Result<()> {
        self.decision.response_header_filter(head, end);
        if self.decision.is_enabled() && !self.decision.is_header_phase() {
            let coding = head.headers.get(header::CONTENT_ENCODING);
            let coder = coding.map(|coding| Coder::new(coding.as_bytes()));
            self.coder = coder.transpose().map_err(failed)?.flatten();
            self.decision = ResponseCompressionCtx::new(0, false, false);
        }
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let Some(coder) = &mut self.coder else {
            return Ok(());
        };
        let part = body.take().unwrap_or_default();
        let mut out = coder.code(&part, self.at_once && !end).map_err(failed)?;
        if end && let Some(rest) = self.finish()? {
            out.extend_from_slice(&rest);
        }
        *body = (!out.is_empty()).then(|| out.into());
        Ok(())
    }

    /// What Pingora takes here it sends in place of the trailers, so they are lost. Answers that announce some are not compressed, and
    /// of others a service knows that none may come (see [`may_lose_trailers`]).
    fn response_trailer_filter(
        &mut self,
        _trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        self.finish()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.finish()
    }
}

/// Makes a [`Compression`] for each request, which does nothing until a route asks for it.
pub(crate) struct CompressionBuilder;

impl HttpModuleBuilder for CompressionBuilder {
    fn init(&self) -> Module {
        Box::new(Compression::off())
    }

    /// After whatever else changes an answer.
    fn order(&self) -> i16 {
        i16::MIN / 2
    }
}

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
    if head.version == Version::HTTP_10 || !may_be(answer) {
        return Ok(());
    }
    // Pingora's module knows no weights, so it is shown what is wanted, the most wanted first.
    let mut shown = RequestHeader::build(Method::GET, b"/", Some(1))?;
    let wanted = usable(&head.headers, encodings).join(", ");
    shown.insert_header(header::ACCEPT_ENCODING, wanted)?;
    let modules = &mut session.downstream_modules_ctx;
    if let Some(compression) = modules.get_mut::<Compression>() {
        compression.at_once = !whole && !answer.headers.contains_key(header::CONTENT_LENGTH);
        for algorithm in CODINGS.map(Algorithm::from) {
            compression
                .decision
                .adjust_algorithm_level(algorithm, LEVEL);
        }
        compression.decision.request_filter(&shown);
    }
    Ok(())
}

/// The codings that a client takes and an answer may be compressed by, the most wanted first.
///
/// - `encodings`: which to use; any when empty
fn usable<'a>(headers: &'a HeaderMap, encodings: &[String]) -> Vec<&'a str> {
    let mut wanted = codings::wanted(headers);
    wanted.retain(|coding| {
        let known = CODINGS.iter().any(|name| name.eq_ignore_ascii_case(coding));
        let named = encodings
            .iter()
            .any(|name| name.eq_ignore_ascii_case(coding));
        known && (named || encodings.is_empty())
    });
    wanted
}

/// Whether the service must not be told that trailers are taken, as its answer may be compressed, which loses them.
///
/// Who passes `TE: trailers` on says that it will not discard any, and who was not told may send none that matter (RFC 9110, 10.1.4
/// and 6.5.1). To compress nothing for such clients is no way, as browsers are among them.
///
/// - `encodings`: those of the route
pub(crate) fn may_lose_trailers(headers: &HeaderMap, encodings: &[String]) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    !grpc::is_grpc(kind) && !usable(headers, encodings).is_empty()
}

/// Whether an answer may be another for the client than it is for the gateway. Events are few and small, and who reads
/// them may not expect a coding; what gRPC sends has its own.
fn may_be(answer: &ResponseHeader) -> bool {
    let headers = &answer.headers;
    let directives = headers.get_all(header::CACHE_CONTROL);
    let fixed = directives
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"));
    let part =
        answer.status == StatusCode::PARTIAL_CONTENT || headers.contains_key(header::CONTENT_RANGE);
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let events = kind
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("text/event-stream");
    let calls = grpc::is_grpc(kind) || kind.starts_with("application/grpc-web");
    !fixed && !part && !events && !calls && !headers.contains_key(header::TRAILER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_events_calls_and_what_is_fixed_stay_as_they_are() {
        let check = |status: u16, fields: &[(&'static str, &str)], expected: bool| {
            let mut answer = ResponseHeader::build(status, None).unwrap();
            for (name, value) in fields {
                answer.append_header(*name, *value).unwrap();
            }
            assert_eq!(may_be(&answer), expected, "{status} {fields:?}");
        };
        check(200, &[("content-length", "9000")], true);
        check(200, &[], true);
        check(206, &[], false);
        check(200, &[("cache-control", "public, No-Transform")], false);
        check(200, &[("content-type", "application/json")], true);
        check(
            200,
            &[("content-type", "Text/Event-Stream; charset=utf-8")],
            false,
        );
        check(200, &[("content-type", "application/grpc+proto")], false);
        check(200, &[("content-type", "application/grpc-web")], false);
        check(200, &[("trailer", "x-sum")], false);
    }

    #[test]
    fn services_know_whether_their_trailers_may_be_lost() {
        let check = |fields: &[(&'static str, &str)], encodings: &[&str], expected: bool| {
            let named = fields.iter().map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_str(value).unwrap(),
                )
            });
            let headers: HeaderMap = named.collect();
            let encodings: Vec<String> = encodings.iter().map(ToString::to_string).collect();
            assert_eq!(may_lose_trailers(&headers, &encodings), expected);
        };
        let gzip = ("accept-encoding", "gzip");
        check(&[gzip], &[], true);
        check(&[gzip], &["br"], false);
        check(&[], &[], false);
        check(&[("accept-encoding", "identity, gzip;q=0")], &[], false);
        check(&[gzip, ("content-type", "application/grpc")], &[], false);
    }

    #[test]
    fn each_part_comes_out_at_once_where_it_must() {
        for coding in CODINGS {
            let mut coder = Coder::new(coding.as_bytes()).unwrap().unwrap();
            let mut all = Vec::new();
            for part in [&b"first"[..], b"", b"second"] {
                let out = coder.code(part, true).unwrap();
                assert_eq!(out.is_empty(), part.is_empty(), "{coding}");
                all.extend(out);
            }
            all.extend(coder.finish().unwrap());
            let mut text = Vec::new();
            let read = match coding {
                "gzip" => io::copy(&mut flate2::read::GzDecoder::new(&all[..]), &mut text),
                "br" => io::copy(&mut brotli::Decompressor::new(&all[..], 4096), &mut text),
                _ => io::copy(&mut zstd::Decoder::new(&all[..]).unwrap(), &mut text),
            };
            assert_eq!(
                (read.unwrap(), &text[..]),
                (11, &b"firstsecond"[..]),
                "{coding}"
            );
        }
        assert!(Coder::new(b"identity").unwrap().is_none());
    }
}
