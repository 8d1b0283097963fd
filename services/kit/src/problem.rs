//! Errors as problem documents (RFC 9457).

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::request;

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An answer that says what went wrong, in a form that programs can read.
///
/// Without a code its type is `about:blank`: the status says it all. A code such as `orders::not-found` is stable and
/// gives the type `urn:problem:orders:not-found`.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: Option<Cow<'static, str>>,
    detail: Option<String>,
    errors: Vec<FieldError>,
    headers: HeaderMap,
}

/// One thing wrong in a request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where, as a JSON pointer such as `/items/0/quantity`
    pub pointer: String,
    /// What, in words
    pub detail: String,
}

/// The problem document as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemDocument {
    /// Kind of problem: `about:blank`, or a URN made from the code
    #[serde(rename = "type")]
    pub kind: String,
    /// What the status means
    pub title: String,
    /// HTTP status
    pub status: u16,
    /// What went wrong this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable code for programs, such as `orders::not-found`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong in the body, all of it
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Identifier to quote when asking about it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Trace the request belonged to
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl Problem {
    /// Makes a problem that its status explains.
    pub fn new(status: StatusCode) -> Self {
        Self(Box::new(Parts {
            status,
            code: None,
            detail: None,
            errors: Vec::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// Gives it a stable code, such as `orders::not-found`.
    #[must_use]
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// Says what went wrong this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Lists what is wrong in the body.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Sends a header along.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Tells the client when asking again makes sense.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Returns its status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let parts = *self.0;
        let context = request::current();
        let document = ProblemDocument {
            kind: parts.code.as_ref().map_or_else(
                || "about:blank".to_owned(),
                |code| format!("urn:problem:{}", code.replace("::", ":")),
            ),
            title: parts
                .status
                .canonical_reason()
                .unwrap_or("Error")
                .to_owned(),
            status: parts.status.as_u16(),
            detail: parts.detail,
            code: parts.code.map(Cow::into_owned),
            errors: parts.errors,
            request_id: context.as_ref().map(|context| context.request_id.clone()),
            trace_id: context.map(|context| context.trace.trace_id()),
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (parts.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(parts.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_code_becomes_the_type() {
        let response = Problem::new(StatusCode::NOT_FOUND)
            .code("orders::not-found")
            .detail("no such order")
            .into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        let document: ProblemDocument = serde_json::from_slice(&body).unwrap();
        assert_eq!(document.kind, "urn:problem:orders:not-found");
        assert_eq!(document.title, "Not Found");
    }
}
