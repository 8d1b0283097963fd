//! Asks gates: a command, a webhook, or the built-in smoke.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use platform_blueprint::{Gate, Period};
use platform_decide::observed::{GatewaySeen, Observed};
use platform_decide::plan::Plan;
use platform_decide::release::Release;
use platform_decide::rollout::{Ask, GateAnswer, GateCall, State};
use platform_port::{SecretValues, Target};
use reqwest::header::HeaderMap;
use serde::Serialize;

use super::body;
use super::metric;
use super::program;
use super::smoke::{self, Smoke};
use super::way::Way;
use crate::apply::Crew;

/// So much of what a webhook answers is read, in bytes; an answer that never ends is not waited for.
const ANSWER_AT_MOST: usize = 4 * 1024;

/// What a gate is told, as JSON of a webhook and as variables of a command.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Surroundings {
    project: String,
    environment: String,
    run: String,
    release: String,
    services: Vec<String>,
    stage: String,
    gateway: Option<String>,
    /// Header with which a request reaches the new release.
    header: String,
    /// The folder of the blueprint, in which commands run.
    #[serde(skip)]
    folder: PathBuf,
    #[serde(skip)]
    smoke: Smoke,
    #[serde(skip)]
    front: Option<GatewaySeen>,
}

impl Surroundings {
    /// - `current`: the release that serves
    pub(super) fn of(
        crew: &Crew,
        (plan, current): (&Plan, Option<&Release>),
        state: &State,
        observed: &Observed,
    ) -> Self {
        let front = observed.gateway.clone();
        let early = plan.early_traffic(observed, current);
        Self {
            project: plan.release.project.to_string(),
            environment: plan.release.environment.to_string(),
            run: crew.run.clone(),
            release: state.release.to_string(),
            services: state
                .members
                .iter()
                .map(|member| member.service().to_string())
                .collect(),
            stage: super::progress::stage_name(state),
            header: state.policy.opt_in.header.clone(),
            folder: crew.root.clone(),
            smoke: Smoke::of(plan, state, &early),
            gateway: front.as_ref().map(|gateway| gateway.url.clone()),
            front,
        }
    }

    fn variables(&self, when: &str) -> BTreeMap<String, String> {
        let pairs = [
            ("PLATFORM_PROJECT", self.project.clone()),
            ("PLATFORM_ENVIRONMENT", self.environment.clone()),
            ("PLATFORM_RUN", self.run.clone()),
            ("PLATFORM_RELEASE", self.release.clone()),
            ("PLATFORM_SERVICES", self.services.join(" ")),
            ("PLATFORM_STAGE", self.stage.clone()),
            ("PLATFORM_GATE", when.to_owned()),
            (
                "PLATFORM_GATEWAY_URL",
                self.gateway.clone().unwrap_or_default(),
            ),
            ("PLATFORM_PREVIEW_HEADER", format!("{}: new", self.header)),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// The same with the moment and the gate's name.
#[derive(Debug, Serialize)]
struct Letter<'a> {
    gate: &'a str,
    when: &'a str,
    #[serde(flatten)]
    surroundings: &'a Surroundings,
}

/// What a gate's webhook is sent with, beside the usual.
pub(super) fn headers(call: &GateCall, secrets: &SecretValues) -> Result<HeaderMap, String> {
    match &call.ask {
        Ask::Gate(gate) => metric::headers(&gate.headers, secrets),
        Ask::Smoke => Ok(HeaderMap::new()),
    }
}

/// Asks a gate and waits for its answer, but not longer than it may take.
pub(super) async fn ask(
    call: GateCall,
    headers: Result<HeaderMap, String>,
    surroundings: Surroundings,
    target: Arc<dyn Target>,
) -> GateAnswer {
    let answered = match &call.ask {
        Ask::Gate(gate) => match headers {
            Ok(headers) => ask_gate(gate, (&call, headers), surroundings, target).await,
            Err(said) => Err(said),
        },
        Ask::Smoke => match way(&surroundings, target).await {
            Ok(way) => smoke::smoke(way.as_ref(), &surroundings.header, &surroundings.smoke).await,
            Err(said) => Err(said),
        },
    };
    match answered {
        Ok(()) => GateAnswer::Agrees,
        Err(said) => GateAnswer::Refuses(said),
    }
}

/// A way to the gateway; `None` where none runs.
async fn way(surroundings: &Surroundings, target: Arc<dyn Target>) -> Result<Option<Way>, String> {
    match surroundings.front.clone() {
        Some(front) => Way::open(target, front).await.map(Some),
        None => Ok(None),
    }
}

async fn ask_gate(
    gate: &Gate,
    with: (&GateCall, HeaderMap),
    mut surroundings: Surroundings,
    target: Arc<dyn Target>,
) -> Result<(), String> {
    // On another machine's loopback, a command of this one would find nobody, or somebody else.
    let mut led = None;
    if !target.is_here() {
        led = way(&surroundings, target).await?;
        surroundings.gateway = led.as_ref().map(|way| way.url("127.0.0.1"));
    }
    let answered = agrees(gate, with, &surroundings).await;
    drop(led);
    answered
}

async fn agrees(
    gate: &Gate,
    (call, headers): (&GateCall, HeaderMap),
    surroundings: &Surroundings,
) -> Result<(), String> {
    let at_most = gate.timeout.duration();
    let when = call.when.as_str();
    if let Some(command) = &gate.command {
        let variables = surroundings.variables(when);
        let said = program::run(command, &variables, &surroundings.folder, at_most).await?;
        if !said.agreed {
            return Err(said.words);
        }
    }
    if let Some(url) = &gate.webhook {
        let letter = Letter {
            gate: &call.name,
            when,
            surroundings,
        };
        post(url, headers, &letter, at_most).await?;
    }
    Ok(())
}

async fn post(
    url: &str,
    headers: HeaderMap,
    letter: &Letter<'_>,
    at_most: Duration,
) -> Result<(), String> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            format!("no answer within {}", Period::from(at_most))
        } else {
            crate::error::in_words(&error.without_url())
        }
    };
    let mut answer = client(at_most)?
        .post(url)
        .json(letter)
        .headers(headers)
        .send()
        .await
        .map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut said = Vec::new();
    // What came before it broke off is of use, too.
    let _ = body::read(&mut answer, ANSWER_AT_MOST, &mut said).await;
    let said = String::from_utf8_lossy(&said);
    let said: String = said.trim().chars().take(500).collect();
    Err(if said.is_empty() {
        format!("answered {status}")
    } else {
        format!("answered {status}: {said}")
    })
}

/// A client that gives up after a while and follows nobody elsewhere.
pub(super) fn client(at_most: Duration) -> Result<reqwest::Client, String> {
    builder(at_most).build().map_err(no_client)
}

/// The same for who wants more of it.
pub(super) fn builder(at_most: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(at_most)
        .redirect(reqwest::redirect::Policy::none())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "whoever has one hands it over, in `map_err`"
)]
pub(super) fn no_client(error: reqwest::Error) -> String {
    format!("cannot make an HTTP client: {error}")
}

#[cfg(test)]
mod tests;
