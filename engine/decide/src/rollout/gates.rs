//! Gates: what has to agree, and when.

use std::fmt;

use platform_blueprint::{Gate, GateWhen, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phase::Phase;
use super::state::State;

/// Names one asking of one gate, such as `before-promote/3/0`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct GateKey(pub String);

impl fmt::Display for GateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// A gate of the blueprint.
    Gate(Gate),
    /// The health of every new service, asked through its preview.
    Smoke,
}

/// A gate that should be asked now.
#[derive(Debug, Clone, PartialEq)]
pub struct GateCall {
    /// Names this asking.
    pub key: GateKey,
    /// Its name for people.
    pub name: String,
    /// When in a rollout it is asked.
    pub when: GateWhen,
    /// What is asked.
    pub ask: Ask,
}

/// Gates that should be asked in this state and have not answered.
///
/// A gate of a stage may look through the preview, so its moment comes when that leads to instances that are up; the gates of one
/// moment are asked together, and those before promotion after those of the step.
pub fn due(state: &State) -> Vec<GateCall> {
    if matches!(state.phase, Phase::Starting { .. }) && !state.previewed {
        return Vec::new();
    }
    let mut open = all(state);
    open.retain(|call| !state.gates.contains_key(&call.key));
    let first = open.first().map(|call| call.when);
    open.retain(|call| Some(call.when) == first);
    open
}

/// Gates that belong to the phase, whether or not they have answered.
pub(super) fn all(state: &State) -> Vec<GateCall> {
    moments(state)
        .into_iter()
        .flat_map(|(when, at)| at_moment(state, when, at))
        .collect()
}

fn at_moment(state: &State, when: GateWhen, at: usize) -> Vec<GateCall> {
    let mut calls: Vec<GateCall> = state
        .policy
        .gates
        .iter()
        .enumerate()
        .filter(|(_, gate)| gate.when == when)
        .map(|(index, gate)| GateCall {
            key: GateKey(format!("{}/{at}/{index}", when.as_str())),
            name: name_of(gate),
            when,
            ask: Ask::Gate(gate.clone()),
        })
        .collect();
    let unchecked = calls.is_empty() && when == GateWhen::BeforePromote;
    if unchecked
        && state.policy.strategy == Strategy::BlueGreen
        && state.members.iter().any(|m| m.routed)
    {
        calls.push(GateCall {
            key: GateKey(format!("smoke/{at}")),
            name: "smoke".to_owned(),
            when,
            ask: Ask::Smoke,
        });
    }
    calls
}

/// Which gates the phase is the moment for, and at which stage.
fn moments(state: &State) -> Vec<(GateWhen, usize)> {
    if state.forced && state.phase.is_forward() {
        return Vec::new(); // An operator answered for them.
    }
    let last = state.stages().len() - 1;
    match &state.phase {
        Phase::BeforeStart => vec![(GateWhen::BeforeStart, 0)],
        Phase::Starting { stage } if *stage == last => {
            vec![
                (GateWhen::PerStep, *stage),
                (GateWhen::BeforePromote, *stage),
            ]
        }
        Phase::Starting { stage } => vec![(GateWhen::PerStep, *stage)],
        Phase::AfterBack { .. } => vec![(GateWhen::AfterRollback, 0)],
        _ => Vec::new(),
    }
}

fn name_of(gate: &Gate) -> String {
    gate.name.clone().unwrap_or_else(|| {
        let what = gate
            .command
            .as_ref()
            .and_then(|command| command.first().cloned())
            .or_else(|| gate.webhook.as_deref().map(without_credentials));
        what.unwrap_or_else(|| gate.when.as_str().to_owned())
    })
}

/// An address without what may be a password or a token in it.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let between = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{between}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_named_without_its_credentials() {
        for (url, expected) in [
            ("https://ops.example/approve", "https://ops.example/approve"),
            (
                "https://ada:s3cr3t@ops.example:8443/approve?token=s3cr3t#s3cr3t",
                "https://ops.example:8443/approve",
            ),
            ("http://ops?token=a@b/c", "http://ops"),
            ("http://a@s3cr3t@ops/d@e", "http://ops/d@e"),
            ("ada:s3cr3t@ops/approve", "ops/approve"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }
}
