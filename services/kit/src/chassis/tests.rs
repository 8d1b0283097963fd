//! What every service gets from its chassis, without a listener.

use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::problem::{MEDIA_TYPE, ProblemDocument};

const ABOUT: About = About {
    name: "test",
    version: "1.0.0",
};

fn chassis(more: &[(&str, &str)]) -> Chassis {
    let pairs = [("PORT", "0")].iter().chain(more).copied();
    let mut variables = Variables::new(pairs);
    let settings = Settings::read(ABOUT, &mut variables);
    Chassis {
        settings: variables.finish(settings).unwrap(),
        health: Arc::new(Health::default()),
        openapi: None,
    }
}

async fn ask(chassis: &Chassis, request: Request<Body>) -> Response {
    let routes = Router::new()
        .route(
            "/panic",
            get(async || -> &'static str { panic!("secret detail") }),
        )
        .route("/echo", post(async |body: String| body))
        .route(
            "/slow",
            post(async || futures::future::pending::<()>().await),
        );
    chassis.router(routes).oneshot(request).await.unwrap()
}

async fn problem(response: Response) -> ProblemDocument {
    assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
    let body = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn get_request(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_panic_is_an_answer_that_tells_nothing() {
    let problem = problem(ask(&chassis(&[]), get_request("/panic")).await).await;
    assert_eq!(problem.status, 500);
    assert_eq!(problem.code.as_deref(), Some("service::panic"));
    assert!(!problem.detail.unwrap().contains("secret"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let chassis = chassis(&[("MAX_BODY", "8B")]);
    let send = |body: &'static str| Request::post("/echo").body(Body::from(body)).unwrap();
    assert_eq!(
        ask(&chassis, send("12345678")).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        problem(ask(&chassis, send("123456789")).await).await.status,
        413
    );
}

#[tokio::test(start_paused = true)]
async fn who_was_too_slow_decides_the_status() {
    let chassis = chassis(&[("REQUEST_TIMEOUT", "1s")]);
    let arrived = Request::post("/slow").body(Body::from("x")).unwrap();
    // A body that nobody read has not arrived; an empty one has.
    assert_eq!(problem(ask(&chassis, arrived).await).await.status, 408);
    let empty = Request::post("/slow").body(Body::empty()).unwrap();
    assert_eq!(problem(ask(&chassis, empty).await).await.status, 503);
    let stream = futures::stream::pending::<Result<bytes::Bytes, io::Error>>();
    let never = Request::post("/echo")
        .body(Body::from_stream(stream))
        .unwrap();
    assert_eq!(problem(ask(&chassis, never).await).await.status, 408);
}

#[tokio::test]
async fn a_draining_instance_asks_for_the_connection_to_be_closed() {
    let chassis = chassis(&[]);
    let ready = ask(&chassis, get_request("/health/ready")).await;
    assert_eq!(ready.status(), StatusCode::OK);
    assert!(!ready.headers().contains_key("connection"));
    chassis.health().enter(Phase::Draining);
    let ready = ask(&chassis, get_request("/health/ready")).await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.headers()["connection"], "close");
}

#[tokio::test]
async fn a_task_that_panics_makes_the_instance_dead() {
    let chassis = chassis(&[]);
    chassis.background("sweep", async { panic!("no more") });
    while chassis.health().dead().is_none() {
        tokio::task::yield_now().await;
    }
    for path in ["/health/live", "/health/ready"] {
        let answer = ask(&chassis, get_request(path)).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
