//! Calls to other services: bounded in time, retried within a budget, and stopped while they are pointless.

mod breaker;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tower::retry::backoff::{Backoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower::util::rng::HasherRng;
use tracing::Instrument;

pub use breaker::{Breaker, BreakerPolicy};

use crate::request::{self, REQUEST_ID};
use crate::{export, trace_context::TraceContext};

/// How patient a client is.
#[derive(Debug, Clone)]
pub struct ClientPolicy {
    /// Longest time for a call with all its attempts.
    pub timeout: Duration,
    /// Longest time for one attempt.
    pub attempt_timeout: Duration,
    /// Most attempts, the first included.
    pub attempts: u32,
    /// Pause before the second attempt; doubles from then on, with jitter.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Retries allowed for each call that is made, over ten seconds; one a second is always allowed.
    pub retry_share: f32,
    /// Largest answer.
    pub max_body: usize,
    /// When to stop calling.
    pub breaker: BreakerPolicy,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(1),
            attempts: 3,
            first_pause: Duration::from_millis(25),
            longest_pause: Duration::from_millis(500),
            retry_share: 0.2,
            max_body: 4 << 20,
            breaker: BreakerPolicy::default(),
        }
    }
}

/// A request to another service.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// Makes a call; `path` begins with `/` and may have a query.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Makes a call that reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Sends a header along.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sends a body along.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns whether doing it twice is doing it once.
    fn is_repeatable(&self) -> bool {
        self.method.is_idempotent() || self.headers.contains_key("idempotency-key")
    }
}

/// What another service answered, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: recent calls failed, and the next one is tried later.
    #[error("{service} is not called for now, recent calls to it failed")]
    Refused {
        /// Name of the service.
        service: Arc<str>,
    },
    /// The time was up.
    #[error("{service} did not answer in time")]
    TimedOut {
        /// Name of the service.
        service: Arc<str>,
    },
    /// The service could not be reached, or the connection broke.
    #[error("cannot call {service}")]
    Failed {
        /// Name of the service.
        service: Arc<str>,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// The answer was larger than allowed.
    #[error("{service} answered more than {limit} bytes")]
    TooLarge {
        /// Name of the service.
        service: Arc<str>,
        /// Most bytes allowed.
        limit: usize,
    },
}

/// Calls one other service.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    service: Arc<str>,
    base: String,
    http: reqwest::Client,
    policy: ClientPolicy,
    budget: TpsBudget,
    breaker: Mutex<Breaker>,
}

/// A transport to a server. What is reached without TLS needs no authorities, which an image made of one program has none of.
pub(crate) fn transport(base: &str) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    if base.starts_with("https://") {
        builder
    } else {
        builder.tls_certs_only([])
    }
}

impl Client {
    /// Makes a client of the service that is reached at `base`, such as the value of `ORDERS_URL`.
    ///
    /// # Errors
    ///
    /// The transport could not be built.
    pub fn new(service: &str, base: &str, policy: ClientPolicy) -> Result<Self, reqwest::Error> {
        let http = transport(base)
            .connect_timeout(policy.attempt_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(30))
            .no_proxy()
            .build()?;
        let budget = TpsBudget::new(Duration::from_secs(10), 1, policy.retry_share);
        let breaker = Mutex::new(Breaker::new(policy.breaker.clone()));
        Ok(Self {
            inner: Arc::new(Inner {
                service: service.into(),
                base: base.trim_end_matches('/').to_owned(),
                http,
                policy,
                budget,
                breaker,
            }),
        })
    }

    /// Makes the call, again if that helps and is safe.
    ///
    /// # Errors
    ///
    /// [`CallError`] if there was no answer; one with an error status is an answer.
    pub async fn send(&self, call: Call) -> Result<Reply, CallError> {
        let inner = &*self.inner;
        let span = export::call_span(&call.method, &inner.service);
        let result = tokio::time::timeout(inner.policy.timeout, inner.attempts(&call))
            .instrument(span.clone())
            .await
            .unwrap_or_else(|_| Err(inner.timed_out()));
        let outcome = match &result {
            Ok(reply) => {
                export::answered(&span, reply.status);
                format!("{}xx", reply.status.as_u16() / 100)
            }
            Err(CallError::Refused { .. }) => "refused".to_owned(),
            Err(_) => "failed".to_owned(),
        };
        let client = inner.service.to_string();
        metrics::counter!("client_requests_total", "client" => client, "outcome" => outcome)
            .increment(1);
        result
    }
}

impl Inner {
    async fn attempts(&self, call: &Call) -> Result<Reply, CallError> {
        let policy = &self.policy;
        let mut backoff = ExponentialBackoffMaker::new(
            policy.first_pause,
            policy.longest_pause,
            0.5,
            HasherRng::default(),
        )
        .map(|mut maker| maker.make_backoff())
        .ok();
        self.budget.deposit();
        let mut attempt = 1;
        loop {
            let result = self.guarded(call).await;
            let Some(least_pause) = self.worth_repeating(call, &result) else {
                return result;
            };
            if policy.attempts <= attempt || !self.budget.withdraw() {
                return result;
            }
            attempt += 1;
            let client = self.service.to_string();
            metrics::counter!("client_retries_total", "client" => client).increment(1);
            tokio::time::sleep(least_pause).await;
            if let Some(backoff) = &mut backoff {
                backoff.next_backoff().await;
            }
        }
    }

    /// Returns the least pause before another attempt if one could help and does no harm.
    fn worth_repeating(&self, call: &Call, result: &Result<Reply, CallError>) -> Option<Duration> {
        match result {
            Ok(reply) => {
                let passing = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ];
                let asked: u64 = reply
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .unwrap_or(0);
                let pause = Duration::from_secs(asked);
                (passing.contains(&reply.status)
                    && call.is_repeatable()
                    && pause < self.policy.timeout)
                    .then_some(pause)
            }
            // What never left cannot have been done.
            Err(CallError::Failed { source, .. }) if source.is_connect() => Some(Duration::ZERO),
            Err(CallError::Failed { .. } | CallError::TimedOut { .. }) => {
                call.is_repeatable().then_some(Duration::ZERO)
            }
            Err(CallError::Refused { .. } | CallError::TooLarge { .. }) => None,
        }
    }

    async fn guarded(&self, call: &Call) -> Result<Reply, CallError> {
        if !self.with_breaker(|breaker| breaker.admit(Instant::now())) {
            return Err(CallError::Refused {
                service: self.service.clone(),
            });
        }
        let result = tokio::time::timeout(self.policy.attempt_timeout, self.attempt(call))
            .await
            .unwrap_or_else(|_| Err(self.timed_out()));
        let good = match &result {
            Ok(reply) => !reply.status.is_server_error(),
            Err(CallError::TooLarge { .. }) => true,
            Err(_) => false,
        };
        self.with_breaker(|breaker| breaker.record(Instant::now(), good));
        result
    }

    async fn attempt(&self, call: &Call) -> Result<Reply, CallError> {
        let failed = |source| CallError::Failed {
            service: self.service.clone(),
            source,
        };
        let mut headers = call.headers.clone();
        let context = request::current();
        let trace = export::context_of(&tracing::Span::current())
            .or_else(|| context.as_ref().map(|context| context.trace.child()))
            .unwrap_or_else(TraceContext::root);
        trace.write(&mut headers);
        if let Some(id) =
            context.and_then(|context| HeaderValue::from_str(&context.request_id).ok())
        {
            headers.insert(REQUEST_ID, id);
        }
        let mut response = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base, call.path))
            .headers(headers)
            .body(call.body.clone())
            .send()
            .await
            .map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if self.policy.max_body < body.len() + chunk.len() {
                return Err(CallError::TooLarge {
                    service: self.service.clone(),
                    limit: self.policy.max_body,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }

    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut breaker);
        let refusing = f64::from(u8::from(breaker.is_refusing()));
        drop(breaker);
        let client = self.service.to_string();
        metrics::gauge!("client_refusing", "client" => client).set(refusing);
        result
    }

    fn timed_out(&self) -> CallError {
        CallError::TimedOut {
            service: self.service.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
