//! Orders over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SubsecRound, Utc};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use platform_kit::Problem;
use platform_kit::extract::{Json, Path, Query};
use platform_kit::problem::ProblemDocument;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::cursor::Cursor;
use crate::order::{NewOrder, Order, Status};
use crate::precondition::{entity_tag, if_match, is_known};
use crate::store::{Answer, Outcome, Refusal, Store, StoreError, Token};
use crate::told;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Orders on a page where the caller does not say.
const PAGE: u32 = 20;
/// Most orders on a page.
const LARGEST_PAGE: u32 = 100;

#[derive(OpenApi)]
#[openapi(info(
    title = "Orders",
    description = "Takes orders, lists them, and takes them back."
))]
struct Document;

fn router() -> OpenApiRouter<Arc<Store>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(create, list))
        .routes(routes!(read))
        .routes(routes!(cancel))
}

/// Returns the routes of the API.
pub(crate) fn routes(store: Arc<Store>) -> Router {
    router().with_state(store).split_for_parts().0
}

/// Returns the OpenAPI document of the API.
pub(crate) fn openapi() -> String {
    let mut document = router().into_openapi();
    // The code changes more often than the API; its version is not the API's.
    "1".clone_into(&mut document.info.version);
    document.info.license = None;
    document.to_pretty_json().unwrap_or_default()
}

/// A page of orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Page {
    /// The orders
    items: Vec<Order>,
    /// What to give as `cursor` for the next page; null on the last
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListParameters {
    /// Most orders to return
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
    /// Only orders that stand there
    #[param(inline)]
    status: Option<Status>,
}

/// Place an order
#[utoipa::path(
    post,
    path = "/api/v1/orders",
    operation_id = "placeOrder",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "The same key and body give the same answer and one order, also after a restart")),
    request_body = NewOrder,
    responses(
        (status = 201, description = "Placed", body = Order,
            headers(("ETag", description = "Version of the order"), ("Location", description = "Where it is"))),
        (status = 400, description = "Not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "Not said to be JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "Not a valid order, or the key was used for another", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be reached", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
async fn create(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    Json(order): Json<NewOrder>,
) -> Result<Response, Problem> {
    let content = serde_json::to_vec(&order).unwrap_or_default();
    let token = token(&headers, "POST /api/v1/orders", &content)?;
    let total = order.check().map_err(|errors| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .code("orders::invalid")
            .detail("the order is not valid")
            .errors(errors)
    })?;
    let order = order.placed(total, Uuid::now_v7(), now());
    let outcome = store.create(&order, token.as_ref()).await;
    let answer = settle(outcome)?;
    if !answer.replayed {
        metrics::counter!("orders_placed_total").increment(1);
    }
    Ok(answered(&answer))
}

/// List orders, newest first
#[utoipa::path(
    get,
    path = "/api/v1/orders",
    operation_id = "listOrders",
    params(ListParameters),
    responses(
        (status = 200, description = "A page", body = Page),
        (status = 400, description = "Bad limit, cursor or status", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be reached", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
async fn list(
    State(store): State<Arc<Store>>,
    Query(parameters): Query<ListParameters>,
) -> Result<Response, Problem> {
    let bad = |detail: &str| {
        Problem::new(StatusCode::BAD_REQUEST)
            .code("request::bad-query")
            .detail(detail)
    };
    let limit = parameters.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(bad(&format!("limit must be 1 to {LARGEST_PAGE}")));
    }
    let cursor = match parameters.cursor.as_deref() {
        None => None,
        Some(text) => {
            Some(Cursor::decode(text).ok_or_else(|| bad("cursor is not one that we gave"))?)
        }
    };
    // One more than asked for tells whether there is a next page.
    let orders = store.list(cursor, parameters.status, i64::from(limit) + 1);
    let mut items = orders.await.map_err(|error| unavailable(&error))?;
    let length = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > length;
    items.truncate(length);
    let next_cursor = items.last().filter(|_| more).map(|order| {
        let created_at = order.created_at.timestamp_micros();
        let id = order.id;
        Cursor { created_at, id }.encode()
    });
    Ok(([private()], Json(Page { items, next_cursor })).into_response())
}

/// Read an order
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    operation_id = "readOrder",
    params(("id" = Uuid, Path, description = "Identifier of the order"),
        ("If-None-Match" = Option<String>, Header, description = "Version the caller has")),
    responses(
        (status = 200, description = "The order", body = Order, headers(("ETag", description = "Version of the order"))),
        (status = 304, description = "The caller has this version"),
        (status = 400, description = "Not an identifier", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No such order", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be reached", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
async fn read(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let order = store.read(id).await.map_err(|error| unavailable(&error))?;
    let order = order.ok_or_else(|| refused(&Refusal::NotFound))?;
    let marks = [entity_tag(order.version), private()];
    if is_known(&headers, order.version) {
        return Ok((StatusCode::NOT_MODIFIED, marks).into_response());
    }
    Ok((marks, Json(order)).into_response())
}

/// Cancel an order
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/cancel",
    operation_id = "cancelOrder",
    params(("id" = Uuid, Path, description = "Identifier of the order"),
        ("If-Match" = String, Header, description = "Entity tag of the version the caller saw, or `*`"),
        ("Idempotency-Key" = Option<String>, Header, max_length = 255,
            description = "The same key gives the same answer, also after a restart")),
    responses(
        (status = 200, description = "Cancelled", body = Order, headers(("ETag", description = "Version of the order"))),
        (status = 404, description = "No such order", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "Cancelled already", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "Changed since the caller saw it", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 422, description = "The key was used for another request", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 428, description = "If-Match is missing", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be reached", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
async fn cancel(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let precondition = if_match(&headers).ok_or_else(|| {
        Problem::new(StatusCode::PRECONDITION_REQUIRED)
            .code("orders::version-required")
            .detail("say with If-Match which version of the order you saw")
    })?;
    let scope = format!("POST /api/v1/orders/{id}/cancel");
    let token = token(&headers, &scope, b"")?;
    let outcome = store.cancel(id, &precondition, now(), token.as_ref()).await;
    Ok(answered(&settle(outcome)?))
}

/// Both databases keep microseconds, so an answer must not promise more.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

fn token(headers: &HeaderMap, scope: &str, content: &[u8]) -> Result<Option<Token>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match key {
        Some(key) if keys.next().is_none() => Ok(Some(Token::new(scope, key, content))),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST)
            .code("orders::bad-idempotency-key")
            .detail("Idempotency-Key must be one value of 1 to 255 visible ASCII characters")),
    }
}

fn settle(outcome: Outcome) -> Result<Answer, Problem> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(refusal)) => Err(refused(&refusal)),
        Err(error) => Err(unavailable(&error)),
    }
}

fn answered(answer: &Answer) -> Response {
    let status = u16::try_from(answer.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::OK);
    let kind = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let marks = [kind, entity_tag(answer.version), private()];
    let mut response = (status, marks, answer.body.clone()).into_response();
    if answer.replayed {
        let replayed = HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert(IDEMPOTENCY_REPLAYED, replayed);
    }
    if status == StatusCode::CREATED
        && let Some(id) = id_of(&answer.body)
        && let Ok(place) = HeaderValue::from_str(&format!("/api/v1/orders/{id}"))
    {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

fn id_of(body: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Identified {
        id: Uuid,
    }
    let order: Identified = serde_json::from_str(body).ok()?;
    Some(order.id)
}

fn refused(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::NotFound => Problem::new(StatusCode::NOT_FOUND)
            .code("orders::not-found")
            .detail("there is no such order"),
        Refusal::VersionMismatch { current } => {
            let (name, tag) = entity_tag(*current);
            Problem::new(StatusCode::PRECONDITION_FAILED)
                .code("orders::version-mismatch")
                .detail(format!("the order is at version {current} now"))
                .header(name, tag)
        }
        Refusal::AlreadyCancelled => Problem::new(StatusCode::CONFLICT)
            .code("orders::already-cancelled")
            .detail("the order is cancelled already"),
        Refusal::TokenReused => Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .code("orders::idempotency-key-reused")
            .detail("this Idempotency-Key was used for a different request"),
    }
}

fn unavailable(error: &StoreError) -> Problem {
    tracing::error!(error = told(error), "orders cannot be served");
    match error {
        StoreError::Unreadable { .. } => Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
            .code("orders::unreadable")
            .detail("the order cannot be read by this release"),
        StoreError::NotReady(_) | StoreError::Database(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .code("orders::database-unavailable")
                .detail("the database cannot be used at the moment")
                .retry_after(1)
        }
    }
}

/// An order is its owner's; caches between must not keep it.
fn private() -> (HeaderName, HeaderValue) {
    (CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))
}
