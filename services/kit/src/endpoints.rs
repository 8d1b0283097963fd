//! The paths that every service answers beside its own.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::health::Health;
use crate::measure;
use crate::settings::Identity;

/// What the health endpoints answer from.
#[derive(Debug)]
pub(crate) struct HealthState {
    pub(crate) health: Arc<Health>,
    pub(crate) identity: Identity,
}

impl HealthState {
    fn answer(&self, good: bool, status: &str, more: serde_json::Value) -> Response {
        let mut body = json!({
            "status": status,
            "service": self.identity.service,
            "version": self.identity.version,
            "release": self.identity.release,
            "instance": self.identity.instance,
        });
        if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let code = if good {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let fresh = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (code, [fresh], axum::Json(body)).into_response()
    }
}

pub(crate) async fn live(State(state): State<Arc<HealthState>>) -> Response {
    match state.health.dead() {
        None => state.answer(true, "live", json!({})),
        Some(reason) => state.answer(false, "dead", json!({ "detail": reason })),
    }
}

pub(crate) async fn ready(State(state): State<Arc<HealthState>>) -> Response {
    let report = state.health.report().await;
    let checks = json!({ "checks": report.checks });
    state.answer(report.is_ready(), report.status, checks)
}

pub(crate) async fn metrics() -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind)], measure::render()).into_response()
}
