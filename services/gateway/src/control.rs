//! Puts configurations in force, one at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use platform_gateway_api::admin::Status;
use platform_gateway_api::{Config, Reason};
use tokio::sync::{Mutex, Notify};

use crate::app::App;
use crate::failure::MOST_ATTEMPTS;
use crate::fetch::look_at;
use crate::gateway::Gateway;
use crate::listen::{Listeners, Socket};
use crate::proxy::Proxy;
use crate::shared::Shared;
use crate::snapshot::{Made, Snapshot};
use crate::store::{Kept, Store};
use crate::tls::Secured;
use crate::upstream_tls::Trust;

/// Connections kept to services, per worker thread.
const POOL: usize = 1024;

/// Why a configuration was refused; the one before stays.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is older than the one in force, or this process is leaving.
    Stale(Vec<Reason>),
    /// It is wrong.
    Invalid(Vec<Reason>),
}

/// What changes the gateway while it runs.
pub(crate) struct Control {
    pub(crate) gateway: Arc<Gateway>,
    app: Arc<App>,
    listeners: Mutex<Listeners>,
    store: Option<Store>,
    /// Asked to drain and end.
    pub(crate) leave: Notify,
}

fn reason(path: &str, message: String) -> Vec<Reason> {
    vec![Reason {
        path: path.into(),
        message,
    }]
}

impl Control {
    pub(crate) fn new(gateway: Arc<Gateway>, store: Option<Store>) -> Arc<Self> {
        let settings = ServerConf {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            upstream_keepalive_pool_size: POOL,
            max_retries: MOST_ATTEMPTS as usize + 1,
            ..ServerConf::default()
        };
        let proxy = Proxy {
            gateway: gateway.clone(),
        };
        let mut app = HttpProxy::new(proxy, Arc::new(settings));
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        app.server_options = Some(options);
        app.handle_init_modules();
        Arc::new(Self {
            app: Arc::new(App {
                proxy: Arc::new(app),
                gateway: gateway.clone(),
            }),
            gateway,
            listeners: Mutex::default(),
            store,
            leave: Notify::new(),
        })
    }

    /// Puts a configuration in force: whole, or not at all.
    pub(crate) async fn apply(&self, config: Config) -> Result<u64, Refusal> {
        self.apply_with(config, Vec::new(), &BTreeMap::new()).await
    }

    /// As [`Self::apply`], with sockets of a predecessor and addresses of an earlier process.
    pub(crate) async fn apply_with(
        &self,
        config: Config,
        inherited: Vec<Socket>,
        before: &BTreeMap<String, String>,
    ) -> Result<u64, Refusal> {
        config.validate().map_err(Refusal::Invalid)?;
        let mut listeners = self.listeners.lock().await;
        self.switch(&mut listeners, config, inherited, before).await
    }

    /// Reads what services are shown and believed by again, as its files changed. Files that do not fit together, as in the
    /// middle of a renewal, leave what they were in use.
    pub(crate) async fn read_trust_again(&self) {
        // Whoever holds the lock reads them just now, or is giving the sockets away.
        let Ok(mut listeners) = self.listeners.try_lock() else {
            return;
        };
        let config = (*self.gateway.snapshot.load().config).clone();
        let none = BTreeMap::new();
        match self.switch(&mut listeners, config, Vec::new(), &none).await {
            Ok(_) => tracing::info!("certificates for services were read again"),
            Err(Refusal::Invalid(reasons)) => {
                let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let error = words.join("; ");
                tracing::warn!(error, "the old certificates for services stay in use");
            }
            Err(Refusal::Stale(_)) => {}
        }
    }

    /// Puts a valid configuration in force.
    async fn switch(
        &self,
        listeners: &mut Listeners,
        config: Config,
        mut inherited: Vec<Socket>,
        before: &BTreeMap<String, String>,
    ) -> Result<u64, Refusal> {
        if self.gateway.is_draining() {
            let message = "cannot be taken: this gateway is draining";
            return Err(Refusal::Stale(reason("revision", message.into())));
        }
        let in_force = self.gateway.snapshot.load().config.clone();
        let current = in_force.revision;
        if config.revision < current {
            let message = format!(
                "{} is older than {current}, which is in force",
                config.revision
            );
            return Err(Refusal::Stale(reason("revision", message)));
        }
        // Of two who both go on from the revision before, the second must not undo what the first one
        // did. The same once more is fine, as what its files hold may be new.
        let first = *in_force == Config::default();
        if config.revision == current && config != *in_force && !first {
            let message = format!(
                "{current} is in force with other content; \
                 take up what is in force and push the next revision"
            );
            return Err(Refusal::Stale(reason("revision", message)));
        }
        let prepared = listeners
            .prepare(&config, &mut inherited, before)
            .map_err(Refusal::Invalid)?;
        let made = self.make(&config).map_err(Refusal::Invalid)?;
        // From here on nothing can fail.
        let snapshot = Snapshot::new(config.clone(), &self.gateway.registry, &made);
        self.gateway.put_in_force(snapshot);
        self.gateway.registry.started();
        listeners.switch(&config, prepared, &self.gateway, &self.app);
        let revision = config.revision;
        self.keep(listeners).await;
        Ok(revision)
    }

    /// Writes what is in force to disk. A disk that is full must not stop a rollback, so it is in
    /// force all the same, and tried again until it is kept.
    async fn keep(&self, listeners: &Listeners) {
        let Some(store) = &self.store else {
            return;
        };
        let config = (*self.gateway.snapshot.load().config).clone();
        let revision = config.revision;
        let addresses = listeners
            .listening()
            .into_iter()
            .map(|listening| (listening.name, listening.address))
            .collect();
        match store.save(&Kept { config, addresses }).await {
            Ok(()) => {
                if self.gateway.unkept.swap(false, Ordering::Relaxed) {
                    tracing::info!(revision, "the configuration is kept on disk again");
                }
            }
            Err(error) => {
                if !self.gateway.unkept.swap(true, Ordering::Relaxed) {
                    tracing::error!(revision, %error, "cannot keep the configuration on disk");
                }
            }
        }
    }

    /// Writes what could not be written before.
    pub(crate) async fn keep_again(&self) {
        // Whoever holds the lock either keeps a newer one just now or is giving the sockets away.
        if let Ok(listeners) = self.listeners.try_lock() {
            self.keep(&listeners).await;
        }
    }

    /// Reads the files that a configuration names; certificates in use stay if nothing changed.
    fn make(&self, config: &Config) -> Result<Made, Vec<Reason>> {
        let current = self.gateway.snapshot.load();
        let mut secured = HashMap::new();
        let mut reasons = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let Some(settings) = &listener.tls else {
                continue;
            };
            let known = current
                .listeners
                .get(&listener.name)
                .and_then(|state| state.secured.clone())
                .filter(|known| known.is_for(settings));
            // Whoever brought other files is told of a revision, so they are in use by then.
            let known = known.inspect(|known| known.reload_if_changed());
            match known.map_or_else(|| Secured::new(settings).map(Arc::new), Ok) {
                Ok(state) => {
                    secured.insert(listener.name.clone(), state);
                }
                Err(message) => reasons.push(Reason {
                    path: format!("listeners.{index}.tls"),
                    message,
                }),
            }
        }
        let identity = config.identity.as_ref().and_then(|own| own.ca.as_ref());
        let traces = config.traces.as_ref().and_then(|own| own.ca.as_ref());
        for (path, file) in [("identity.ca", identity), ("traces.ca", traces)] {
            if let Some(Err(message)) = file.map(|file| look_at(file)) {
                reasons.extend(reason(path, message));
            }
        }
        let mut trust = HashMap::new();
        for (name, service) in &config.services {
            let shared = service.tls.iter().map(|tls| (tls, String::new()));
            let versions = service.versions.iter();
            let own = versions.filter_map(|(version, settings)| {
                Some((settings.tls.as_ref()?, format!(".versions.{version}")))
            });
            for (settings, place) in shared.chain(own) {
                if trust.contains_key(settings) {
                    continue;
                }
                match Trust::new(settings) {
                    Ok(found) => {
                        trust.insert(settings.clone(), Arc::new(found));
                    }
                    Err(message) => reasons.push(Reason {
                        path: format!("services.{name}{place}.tls"),
                        message,
                    }),
                }
            }
        }
        let known = current.shared.as_ref();
        let known = known.filter(|known| Some(&known.settings) == config.shared.as_ref());
        let mut shared = known.cloned();
        if let (None, Some(settings)) = (&shared, &config.shared) {
            match Shared::new(settings) {
                Ok(fresh) => shared = Some(Arc::new(fresh)),
                Err(message) => reasons.push(Reason {
                    path: "shared".to_owned(),
                    message,
                }),
            }
        }
        if reasons.is_empty() {
            Ok(Made {
                secured,
                trust,
                shared,
            })
        } else {
            Err(reasons)
        }
    }

    pub(crate) async fn status(&self) -> Status {
        Status {
            listeners: self.listeners.lock().await.listening(),
            ..self.gateway.status()
        }
    }

    /// Gives the sockets to a successor; nothing changes them meanwhile.
    pub(crate) async fn lock_listeners(&self) -> tokio::sync::MutexGuard<'_, Listeners> {
        self.listeners.lock().await
    }

    /// Stops accepting and lets each answer end its connection.
    pub(crate) async fn begin_draining(&self) {
        let mut listeners = self.listeners.lock().await;
        self.gateway.begin_draining();
        listeners.stop();
    }
}

/// Bounds on what one HTTP/2 connection may ask for.
pub(crate) fn http2_limits(streams: u32) -> pingora_core::protocols::http::v2::server::H2Options {
    let mut options = pingora_core::protocols::http::v2::server::H2Options::default();
    options
        .max_concurrent_streams(streams.max(1))
        .max_header_list_size(64 * 1024)
        .initial_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_pending_accept_reset_streams(32)
        .max_concurrent_reset_streams(32);
    options
}
