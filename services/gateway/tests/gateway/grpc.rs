//! gRPC as it stands on the wire: messages both ways over one stream, and what it ends with.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bench::{PATIENCE, Place, Running, at};

/// A body that is written while it is read.
pub(crate) struct Written(UnboundedReceiver<Frame<Bytes>>);

impl Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

pub(crate) fn channel() -> (UnboundedSender<Frame<Bytes>>, Written) {
    let (sender, receiver) = unbounded_channel();
    (sender, Written(receiver))
}

/// A service over HTTP/2 without TLS that answers so.
pub(crate) async fn service<A>(
    answer: impl Fn(Request<Incoming>) -> A + Copy + Send + Sync + 'static,
) -> SocketAddr
where
    A: Future<Output = Response<Written>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answers),
            );
        }
    });
    address
}

/// Has the gateway lead to a service, and speaks HTTP/2 with it.
async fn call(gateway: &Running, service: SocketAddr) -> (SendRequest<Written>, SocketAddr) {
    let mut services = at(service);
    services["orders"]["http2"] = json!(true);
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    (sender, address)
}

/// A call of gRPC.
fn request(address: SocketAddr, path: &str, body: Written) -> Request<Written> {
    Request::post(format!("http://{address}/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

/// Answers each message with itself, and ends with a status.
async fn echo(request: Request<Incoming>) -> Response<Written> {
    assert_eq!(request.headers()["te"], "trailers");
    let mut messages = request.into_body();
    let (sender, body) = channel();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = messages.frame().await {
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                let _ = sender.send(Frame::data(data));
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        trailers.insert("grpc-message", "done".parse().expect("a value"));
        let _ = sender.send(Frame::trailers(trailers));
    });
    let answer = Response::builder().header("content-type", "application/grpc");
    answer.body(body).expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_both_ways_and_trailers_end_them() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (mut sender, address) = call(&gateway, service(echo).await).await;
    let (messages, body) = channel();
    let request = request(address, "shop.Orders/Watch", body);
    let exchange = async {
        messages.send(Frame::data("one".into())).unwrap();
        let mut answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let first = answer.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one");
        // The second is only sent once the first came back.
        messages.send(Frame::data("two".into())).unwrap();
        let second = answer.frame().await.unwrap().unwrap();
        assert_eq!(second.into_data().unwrap(), "two");
        drop(messages);
        loop {
            let frame = answer.frame().await.expect("trailers").unwrap();
            if let Ok(trailers) = frame.into_trailers() {
                return trailers;
            }
        }
    };
    let trailers = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["grpc-message"], "done");
    let tallies = gateway.counted().await;
    assert_eq!(tallies.version("orders", "r1").unwrap().good, 1);
    gateway.drain().await;
}

/// Ends each call as its path says: `/trailers/14` with that status in trailers, `/head/14` in the head.
async fn ending(request: Request<Incoming>) -> Response<Written> {
    let mut path = request.uri().path().split('/').skip(1);
    let (place, status) = (path.next(), path.next().expect("a status"));
    let status = status.parse().expect("a value");
    let (sender, body) = channel();
    let mut answer = Response::builder().header("content-type", "application/grpc");
    if place == Some("head") {
        answer = answer.header("grpc-status", status);
    } else {
        let _ = sender.send(Frame::data("one".into()));
        if place == Some("trailers") {
            let named = ("grpc-status".parse().expect("a name"), status);
            let trailers = HeaderMap::from_iter([named]);
            let _ = sender.send(Frame::trailers(trailers));
        }
    }
    answer.body(body).expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_judged_by_what_they_end_with() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (mut sender, address) = call(&gateway, service(ending).await).await;
    let (mut good, mut bad) = (0, 0);
    for (path, is_bad) in [
        ("trailers/0", false),
        ("trailers/14", true),
        // What the caller asked for is not there, which is no fault of the service's.
        ("trailers/5", false),
        ("head/13", true),
        ("head/0", false),
        ("head/16", false),
        // Ends without saying how.
        ("nowhere/0", true),
    ] {
        let request = request(address, path, Written(unbounded_channel().1));
        let exchange = async {
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            answer.into_body().collect().await.unwrap()
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap();
        if is_bad {
            bad += 1;
        } else {
            good += 1;
        }
        let tallies = gateway.counted().await;
        let version = tallies.version("orders", "r1").unwrap();
        assert_eq!((version.good, version.bad), (good, bad), "{path}");
        let route = &tallies.routes["all"];
        assert_eq!((route.good, route.bad), (good, bad), "{path}");
        let endpoint = &tallies.services["orders"].endpoints["one"];
        assert_eq!((endpoint.good, endpoint.bad), (good, bad), "{path}");
    }
    gateway.drain().await;
}
