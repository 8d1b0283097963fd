//! The built-in check of a new colour: every route of its services, asked through the preview.

use std::net::Ipv4Addr;
use std::time::Duration;

use platform_blueprint::{Method, PathMatch, Tls};
use platform_decide::plan::Plan;
use platform_decide::rollout::State;
use platform_decide::traffic::Traffic;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;

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
    /// The gateway has a route for it, so that "no route leads here" is no answer.
    led: bool,
}

impl Smoke {
    /// - `early`: what the gateway has while the release is on trial
    pub(super) fn of(plan: &Plan, state: &State, early: &Traffic) -> Self {
        let tls = plan.release.ingress.gateway.tls.as_ref();
        let client_ca = |tls: &Tls| tls.client_ca.is_some();
        Self {
            wants_certificates: tls.is_some_and(client_ca),
            probes: probes(plan, state, early),
        }
    }
}

/// A request for each route of the rollout's services that may be asked without changing anything.
fn probes(plan: &Plan, state: &State, early: &Traffic) -> Vec<Probe> {
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
            let host = route.host.iter().find(|host| !host.contains('*')).cloned();
            let asked = route.headers.is_empty() && route.query.is_empty();
            let met = asked && host.is_some() != route.host.is_empty();
            Some(Probe {
                path,
                host,
                version: member.to.lane(),
                led: met && plan.leads(route, early),
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
            Ok(answer) if other(&answer, probe) => {
                // The gateway gives a request that the new release cannot take to the old one, and may not have the route yet.
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

/// Whether another version than the probe's answered, or the gateway itself, which knows nobody who would.
fn other(answer: &reqwest::Response, probe: &Probe) -> bool {
    let by = answer.headers().get("x-platform-version");
    is_other(by.map(HeaderValue::as_bytes), answer.status(), probe)
}

fn is_other(by: Option<&[u8]>, status: StatusCode, probe: &Probe) -> bool {
    match by {
        Some(by) => by != probe.version.as_bytes(),
        None => probe.led && status == StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_alone_answers_for_nobody() {
        let check = |by: Option<&str>, status, led, expected| {
            let probe = Probe {
                path: "/new".to_owned(),
                host: None,
                version: "r2".to_owned(),
                led,
            };
            assert_eq!(is_other(by.map(str::as_bytes), status, &probe), expected);
        };
        check(Some("r2"), StatusCode::NOT_FOUND, true, false);
        check(Some("r1"), StatusCode::OK, true, true);
        // Whom it refuses is the gateway's business, and a route that it does not have yet says nothing.
        check(None, StatusCode::UNAUTHORIZED, true, false);
        check(None, StatusCode::NOT_FOUND, true, true);
        check(None, StatusCode::NOT_FOUND, false, false);
    }
}
