//! The built-in check of a new colour: every route of its services, asked through the preview.

use std::time::Duration;

use platform_blueprint::{Method, PathMatch};
use platform_decide::plan::Plan;
use platform_decide::rollout::State;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a route may take to answer well, the gateway having to learn of the preview.
const WELL_WITHIN: Duration = Duration::from_secs(10);

/// One request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) path: String,
    pub(super) host: Option<String>,
    /// The version that has to answer it.
    pub(super) version: String,
}

/// A request for each route of the rollout's services that may be asked without changing anything.
pub(super) fn probes(plan: &Plan, state: &State) -> Vec<Probe> {
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
pub(super) async fn smoke(
    gateway: Option<&str>,
    header: &str,
    probes: &[Probe],
) -> Result<(), String> {
    let Some(gateway) = gateway else {
        return if probes.is_empty() {
            Ok(())
        } else {
            Err("the gateway does not run".to_owned())
        };
    };
    let client = super::gate::client(ANSWER_WITHIN)?;
    for probe in probes {
        let url = format!("{}{}", gateway.trim_end_matches('/'), probe.path);
        let until = tokio::time::Instant::now() + WELL_WITHIN;
        let mut first = None;
        loop {
            let mut request = client.get(&url).header(header, "new");
            if let Some(host) = &probe.host {
                request = request.header("host", host);
            }
            let said = match request.send().await {
                Ok(answer) if other(&answer, &probe.version) => {
                    // The gateway gives a request that the new release cannot take to the old one.
                    format!("{} was not answered by {}", probe.path, probe.version)
                }
                Ok(answer) if answer.status().as_u16() < 500 => break,
                Ok(answer) => format!("{} answered {}", probe.path, answer.status()),
                Err(error) => format!(
                    "{}: {}",
                    probe.path,
                    crate::error::in_words(&error.without_url())
                ),
            };
            // What it said itself tells more than who answered in its place.
            let said = first.get_or_insert(said);
            if tokio::time::Instant::now() >= until {
                return Err(said.clone());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    Ok(())
}

/// Whether another version than this one answered.
fn other(answer: &reqwest::Response, version: &str) -> bool {
    let by = answer.headers().get("x-platform-version");
    by.is_some_and(|by| by.as_bytes() != version.as_bytes())
}
