//! Extractors whose rejections are problem documents.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::problem::Problem;

/// A JSON body, in and out.
#[derive(Debug, Clone, Copy, FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The parameters of the query.
#[derive(Debug, Clone, Copy, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// The parameters of the path.
#[derive(Debug, Clone, Copy, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

macro_rules! rejected {
    ($($rejection:ty => $code:literal),* $(,)?) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                let problem = Self::new(rejection.status());
                match rejection.status().as_u16() {
                    400 | 422 => problem.code($code).detail(rejection.body_text()),
                    _ => problem.detail(rejection.body_text()),
                }
            }
        }
    )*};
}

rejected! {
    JsonRejection => "request::bad-body",
    QueryRejection => "request::bad-query",
    PathRejection => "request::bad-path",
}
