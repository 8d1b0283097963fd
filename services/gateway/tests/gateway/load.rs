//! Clients that ask without pause, and for whom no request may fail.

use std::error::Error;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;

use crate::bench::{Http, ask, client, until};

/// How the clients of a load ask.
#[derive(Clone, Copy)]
enum Manner {
    /// All on connections that are kept.
    Kept,
    /// On a new connection each time.
    Fresh,
    /// As streams of one connection.
    Http2,
}

/// Clients that ask without pause.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// With requests that must not be repeated.
    pub(crate) fn start(address: SocketAddr) -> Self {
        Self::with(address, "POST", &[Manner::Kept, Manner::Fresh])
    }

    /// With requests that may be repeated.
    pub(crate) fn get(address: SocketAddr) -> Self {
        Self::with(address, "GET", &[Manner::Kept, Manner::Fresh])
    }

    /// With requests that must not be repeated, over both protocols.
    pub(crate) fn of_both_protocols(address: SocketAddr) -> Self {
        let all = [Manner::Kept, Manner::Fresh, Manner::Http2];
        Self::with(address, "POST", &all)
    }

    fn with(address: SocketAddr, method: &'static str, manners: &[Manner]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let http2 = http2();
        let start = |manner: &Manner| {
            let (stop, asked, manner) = (stop.clone(), asked.clone(), *manner);
            let kept = match manner {
                Manner::Http2 => http2.clone(),
                Manner::Kept | Manner::Fresh => client(),
            };
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let client = match manner {
                        Manner::Kept | Manner::Http2 => kept.clone(),
                        Manner::Fresh => client(),
                    };
                    let answer = match ask(&client, method, address, "/", &[], b"x").await {
                        Err(error) if was_not_sent(&*error) => continue,
                        answer => answer.expect("an answer"),
                    };
                    assert_eq!(answer.status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let tasks = manners.iter().cycle().take(8).map(start).collect();
        Self { stop, asked, tasks }
    }

    /// Waits until many more were answered.
    pub(crate) async fn goes_on(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        until("requests are answered", async || {
            self.asked.load(Ordering::Relaxed) > before + 50
                || self.tasks.iter().any(JoinHandle::is_finished)
        })
        .await;
    }

    /// Ends it; how many requests there were.
    pub(crate) async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no request fails");
        }
        self.asked.load(Ordering::Relaxed)
    }
}

/// Whether the gateway had just said that it takes no more requests on this connection when hyper
/// was about to send one. Such a request was not processed (RFC 9113, 6.8).
pub(crate) fn was_not_sent(error: &(dyn Error + 'static)) -> bool {
    let mut causes = iter::successors(Some(error), |error| (*error).source());
    causes.any(|cause| {
        let error = cause.downcast_ref::<h2::Error>();
        error
            .is_some_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}

fn http2() -> Http {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}
