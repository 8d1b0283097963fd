//! What happens on the engine and at the gateway between one look and the next.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::EventsOptions;
use futures::StreamExt;
use platform_gateway_api::Tallies;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::inside::{Answer, GatewayAsk};
use crate::keeper::Reach;
use crate::site::{Site, lock};

/// How often the gateway's word on readiness, which makes no event, is asked for: first while something is going on, then while
/// nothing is.
const ASK_EVERY: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// How long something is going on after the last that happened.
const LIVELY: Duration = Duration::from_secs(3);
/// A pause before an engine that hung up is listened to again.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What was heard, and what of it was looked at.
pub(crate) struct News {
    heard: watch::Sender<u64>,
    looked: AtomicU64,
    /// Instances that take requests, as the last look found them.
    serving: Mutex<BTreeSet<String>>,
    /// The last look found instances that the gateway is still to be told of.
    untold: AtomicBool,
    last: Mutex<Option<Instant>>,
    listening: OnceLock<AbortOnDropHandle<()>>,
}

impl Default for News {
    fn default() -> Self {
        Self {
            heard: watch::Sender::new(0),
            looked: AtomicU64::new(0),
            serving: Mutex::default(),
            untold: AtomicBool::new(false),
            last: Mutex::default(),
            listening: OnceLock::new(),
        }
    }
}

impl News {
    /// Notes that a look begins: what happens from now on is news.
    pub(crate) fn look(&self) {
        self.looked.store(*self.heard.borrow(), Ordering::SeqCst);
    }

    /// Notes who takes requests, as a look found it, and whether somebody does of whom the gateway was not told.
    pub(crate) fn found(&self, tallies: Option<&Tallies>, untold: bool) {
        self.untold.store(untold, Ordering::SeqCst);
        *lock(&self.serving) = tallies.map(serving).unwrap_or_default();
    }

    fn stir(&self) {
        *lock(&self.last) = Some(Instant::now());
    }

    fn pause(&self) -> Duration {
        let lively = lock(&self.last).is_some_and(|last| last.elapsed() < LIVELY);
        ASK_EVERY[usize::from(!lively)]
    }
}

/// Instances that take requests.
fn serving(tallies: &Tallies) -> BTreeSet<String> {
    tallies
        .services
        .values()
        .flat_map(|service| &service.endpoints)
        .filter(|(_, endpoint)| endpoint.serving)
        .map(|(name, _)| name.clone())
        .collect()
}

impl Site {
    /// Returns when something happened since the last look, or after `at_most`.
    pub(crate) async fn changed(&self, at_most: Duration) {
        let news = &self.news;
        news.listening.get_or_init(|| {
            news.stir();
            let filter = self.names.filter();
            let listening = listen(self.engine.docker.clone(), filter, news.heard.clone());
            AbortOnDropHandle::new(tokio::spawn(listening))
        });
        if news.untold.swap(false, Ordering::SeqCst)
            && let Err(error) = self.refresh().await
        {
            tracing::debug!(error = %error, cause = %error.source, "the gateway was not told");
        }
        let looked = news.looked.load(Ordering::SeqCst);
        let mut heard = news.heard.subscribe();
        let happened = async {
            tokio::select! {
                _ = heard.wait_for(|count| *count != looked) => {}
                () = self.serves_otherwise() => {}
            }
            news.stir();
        };
        let _ = tokio::time::timeout(at_most, happened).await;
    }

    /// Returns when other instances take requests than the last look found.
    async fn serves_otherwise(&self) {
        loop {
            tokio::time::sleep(self.news.pause()).await;
            let asked = self.gateway(GatewayAsk::Tallies, Reach::IfRunning).await;
            let now = match asked {
                Ok(Some(Answer::Tallies(tallies))) => serving(&tallies),
                // It comes and goes with its container, which makes events.
                _ => continue,
            };
            if now != *lock(&self.news.serving) {
                return;
            }
        }
    }
}

async fn listen(
    docker: Docker,
    filter: std::collections::HashMap<String, Vec<String>>,
    heard: watch::Sender<u64>,
) {
    let mut filters = filter;
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    loop {
        let options = EventsOptions {
            filters: Some(filters.clone()),
            ..EventsOptions::default()
        };
        let mut events = docker.events(Some(options));
        while let Some(Ok(event)) = events.next().await {
            // Health checks and commands of ours come and go all the time.
            let action = event.action.unwrap_or_default();
            if !action.starts_with("exec_") {
                heard.send_modify(|count| *count += 1);
            }
        }
        tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
    }
}
