//! Asks gates: a command, a webhook, or the built-in smoke.

use std::collections::BTreeMap;
use std::time::Duration;

use platform_blueprint::Gate;
use platform_decide::observed::Observed;
use platform_decide::plan::Plan;
use platform_decide::rollout::{Ask, GateAnswer, GateCall, State};
use serde::Serialize;

use super::program;
use super::smoke::{self, Probe};
use crate::apply::Crew;

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
    #[serde(skip)]
    probes: Vec<Probe>,
}

impl Surroundings {
    pub(super) fn of(crew: &Crew, plan: &Plan, state: &State, observed: &Observed) -> Self {
        let gateway = observed.gateway.as_ref().map(|gateway| gateway.url.clone());
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
            probes: smoke::probes(plan, state),
            gateway,
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

/// Asks a gate and waits for its answer, but not longer than it may take.
pub(super) async fn ask(call: GateCall, surroundings: Surroundings) -> GateAnswer {
    let answered = match &call.ask {
        Ask::Gate(gate) => ask_gate(gate, &call, &surroundings).await,
        Ask::Smoke => {
            smoke::smoke(
                surroundings.gateway.as_deref(),
                &surroundings.header,
                &surroundings.probes,
            )
            .await
        }
    };
    match answered {
        Ok(()) => GateAnswer::Agrees,
        Err(said) => GateAnswer::Refuses(said),
    }
}

async fn ask_gate(gate: &Gate, call: &GateCall, surroundings: &Surroundings) -> Result<(), String> {
    let at_most = gate.timeout.duration();
    let when = call.when.as_str();
    if let Some(command) = &gate.command {
        let said = program::run(command, &surroundings.variables(when), at_most).await?;
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
        post(url, &letter, at_most).await?;
    }
    Ok(())
}

async fn post(url: &str, letter: &Letter<'_>, at_most: Duration) -> Result<(), String> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            format!("no answer within {} s", at_most.as_secs())
        } else {
            crate::error::in_words(&error.without_url())
        }
    };
    let answer = client(at_most)?
        .post(url)
        .json(letter)
        .send()
        .await
        .map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = answer.text().await.unwrap_or_default();
    let said: String = said.trim().chars().take(500).collect();
    Err(if said.is_empty() {
        format!("answered {status}")
    } else {
        format!("answered {status}: {said}")
    })
}

/// A client that gives up after a while and follows nobody elsewhere.
pub(super) fn client(at_most: Duration) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .timeout(at_most)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| format!("cannot make an HTTP client: {error}"))
}
