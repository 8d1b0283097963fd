//! The built-in check of a new colour: every route of its services, asked through the preview.

use std::net::Ipv4Addr;
use std::time::Duration;

use platform_blueprint::{Method, PathMatch, Tls};
use platform_decide::plan::Plan;
use platform_decide::rollout::State;

use super::way::Way;

/// The host of a route that has none of its own.
const LOOPBACK: &str = "127.0.0.1";

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a route may take to answer well, the gateway having to learn of the preview.
const WELL_WITHIN: Duration = Duration::from_secs(10);

/// What is asked, and whether it can be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Smoke {
    /// The gateway wants certificates of its clients, and nobody has one here.
    wants_certificates: bool,
    probes: Vec<Probe>,
}

/// One request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Probe {
    path: String,
    host: Option<String>,
    /// The version that has to answer it.
    version: String,
}

impl Smoke {
    pub(super) fn of(plan: &Plan, state: &State) -> Self {
        let tls = plan.release.ingress.gateway.tls.as_ref();
        let client_ca = |tls: &Tls| tls.client_ca.is_some();
        Self {
            wants_certificates: tls.is_some_and(client_ca),
            probes: probes(plan, state),
        }
    }
}

/// A request for each route of the rollout's services that may be asked without changing anything.
fn probes(plan: &Plan, state: &State) -> Vec<Probe> {
    let moves = |service| {
        let mut members = state.members.iter();
        members.find(|member| member.service() == service)
    };
    plan.release
        .ingress
        .routes
        .iter()
        .filter(|route| route.methods.is_empty() || route.methods.contains(&Method::Get))
        .filter_map(|route| {
            let member = route.service.as_ref().and_then(moves)?;
            let path = match &route.path {
                PathMatch::Prefix(path) | PathMatch::Exact(path) => path.clone(),
                // A template has no path of its own.
                PathMatch::Template(_) => return None,
            };
            Some(Probe {
                path,
                host: route.host.iter().find(|host| !host.contains('*')).cloned(),
                version: member.to.lane(),
            })
        })
        .collect()
}

/// Sends every request to the new release; what is below 500 is an answer, as only the service knows what it refuses.
///
/// - `way`: leads to the gateway; `None` where none runs
pub(super) async fn smoke(way: Option<&Way>, header: &str, smoke: &Smoke) -> Result<(), String> {
    if smoke.probes.is_empty() {
        return Ok(());
    }
    let way = way.ok_or("the gateway does not run")?;
    if smoke.wants_certificates {
        return Err(
            "the gateway wants a certificate of whoever asks (`client_ca`); give the rollout a gate `before-promote` that has one"
                .to_owned(),
        );
    }
    for probe in &smoke.probes {
        asked(way, header, probe).await?;
    }
    Ok(())
}

async fn asked(way: &Way, header: &str, probe: &Probe) -> Result<(), String> {
    // A gateway with several certificates chooses by the host.
    let host = probe.host.as_deref().unwrap_or(LOOPBACK);
    let client = super::gate::builder(ANSWER_WITHIN)
        .resolve(host, (Ipv4Addr::LOCALHOST, 0).into())
        .http1_only()
        // The way leads to the gateway whatever its certificate is called; the release is asked here, not who the gateway is.
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .map_err(super::gate::no_client)?;
    let url = format!("{}{}", way.url(host), probe.path);
    let until = tokio::time::Instant::now() + WELL_WITHIN;
    let (mut own, mut others) = (None, None);
    loop {
        let mut request = client.get(&url).header(header, "new");
        if let Some(host) = &probe.host {
            request = request.header("host", host);
        }
        let said = match request.send().await {
            Ok(answer) if other(&answer, &probe.version) => {
                // The gateway gives a request that the new release cannot take to the old one.
                others = Some(format!(
                    "{} was not answered by {}",
                    probe.path, probe.version
                ));
                None
            }
            Ok(answer) if answer.status().as_u16() < 500 => return Ok(()),
            Ok(answer) => Some(format!("{} answered {}", probe.path, answer.status())),
            Err(error) => Some(format!(
                "{}: {}",
                probe.path,
                crate::error::in_words(&error.without_url())
            )),
        };
        // What it said itself tells more than who answered in its place.
        own = own.or(said);
        if tokio::time::Instant::now() >= until {
            return own.or(others).map_or(Ok(()), Err);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Whether another version than this one answered.
fn other(answer: &reqwest::Response, version: &str) -> bool {
    let by = answer.headers().get("x-platform-version");
    by.is_some_and(|by| by.as_bytes() != version.as_bytes())
}
