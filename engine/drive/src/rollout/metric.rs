//! Extra metrics: numbers of both sides from a Prometheus or a command.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use platform_blueprint::{HeaderValue as Written, Metric, ServiceName};
use platform_decide::group::GroupId;
use platform_decide::plan::{Action, Plan};
use platform_decide::rollout::{Phase, Reading, State, Unread, arrangement};
use platform_decide::traffic::Share;
use platform_port::{Finding, SecretValues, Severity};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;

use super::body;
use super::driver::Told;
use super::program;

/// How long one number may take.
const WITHIN: Duration = Duration::from_secs(10);

/// So much is kept of why a number could not be read, in characters.
const TOLD_AT_MOST: usize = 300;

/// So long an answer to a query may be, in bytes: one number is asked for.
const ANSWER_AT_MOST: usize = 1024 * 1024;

/// The groups of one service that have requests, of which numbers can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answering {
    service: ServiceName,
    old: Option<GroupId>,
    new: Option<GroupId>,
}

/// Which groups have requests; nothing before anything is begun, and nothing once the rollout is on its last way.
pub(super) fn answering(state: &State) -> Vec<Answering> {
    let watched = matches!(state.phase, Phase::Starting { .. } | Phase::Serving { .. });
    let metrics = state.policy.analysis.as_ref();
    if !watched || metrics.is_none_or(|analysis| analysis.metrics.is_empty()) {
        return Vec::new();
    }
    let splits = arrangement(state).splits;
    let routed = state.members.iter().filter_map(|member| {
        let split = splits.get(member.service())?;
        let asked =
            |group: &GroupId| split.share(group) > Share::NONE || split.copied(group) > Share::NONE;
        let has = |group: GroupId| asked(&group).then_some(group);
        Some(Answering {
            service: member.service().clone(),
            // The fresh one where there is one, as it is as warm as the new one.
            old: has(member.baseline()).or_else(|| has(member.from.clone())),
            new: has(member.to.clone()),
        })
    });
    routed.collect()
}

/// A task for each metric of each service, which reads its sides for as long as it is kept.
///
/// - `secrets`, `root`: what queries are sent with, and the folder of the blueprint, in which commands run
pub(super) fn readers(
    state: &State,
    answering: &[Answering],
    (secrets, root): (&SecretValues, &Path),
    telling: &UnboundedSender<Told>,
) -> Vec<BoxFuture<'static, ()>> {
    let metrics = state.policy.analysis.iter().flat_map(|a| &a.metrics);
    let each = metrics.flat_map(|metric| answering.iter().map(move |sides| (metric, sides)));
    each.map(|(metric, sides)| {
        let asking = asking(metric, secrets, root);
        read(metric.clone(), asking, sides.clone(), telling.clone()).boxed()
    })
    .collect()
}

/// What is wrong with the files of authorities that the metrics of a plan's rollouts name.
///
/// - `root`: the folder of the blueprint
pub(crate) fn preflight(plan: &Plan, root: &Path) -> Vec<Finding> {
    let policies = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Rollout { policy, .. } => policy.analysis.as_ref(),
        _ => None,
    });
    let files: BTreeSet<(&str, &str)> = policies
        .flat_map(|analysis| &analysis.metrics)
        .filter_map(|metric| Some((metric.name.as_str(), metric.ca.as_deref()?)))
        .collect();
    let wrong = files.into_iter().filter_map(|(metric, file)| {
        let message = authorities(&root.join(file)).err()?;
        Some(Finding {
            code: "preflight::certificate".to_owned(),
            severity: Severity::Error,
            subject: Some(format!("metric `{metric}`")),
            message,
            help: Some("name a file of certificates in PEM as its `ca`".to_owned()),
        })
    });
    wrong.collect()
}

/// How a metric is asked for.
#[derive(Debug, Clone)]
enum Asking {
    /// By a command, in a folder.
    Command(PathBuf),
    /// By a query: by whom, who believes whose certificates, and what it is sent with.
    Query(reqwest::Client, HeaderMap),
}

fn asking(metric: &Metric, secrets: &SecretValues, root: &Path) -> Result<Asking, String> {
    if metric.query.is_none() {
        return Ok(Asking::Command(root.to_owned()));
    }
    let mut client = super::gate::builder(WITHIN);
    if let Some(file) = &metric.ca {
        client = client.tls_certs_only(authorities(&root.join(file))?);
    }
    let headers = headers(&metric.headers, secrets)?;
    let client = client.build().map_err(super::gate::no_client)?;
    Ok(Asking::Query(client, headers))
}

/// The certificates in a file.
fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let of_no_use = |why: &str| format!("`{}` is of no use: {why}", path.display());
    let text = std::fs::read(path).map_err(|error| of_no_use(&error.to_string()))?;
    match reqwest::Certificate::from_pem_bundle(&text) {
        Ok(found) if found.is_empty() => Err(of_no_use("it holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(of_no_use(&crate::error::in_words(&error))),
    }
}

/// What a query or a webhook is sent with. Neither names nor errors show a secret's value.
pub(super) fn headers(
    written: &BTreeMap<String, Written>,
    secrets: &SecretValues,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("`{name}` cannot be the name of a header"))?;
        let text = match value {
            Written::Text(text) => text.as_str(),
            Written::Secret(reference) => secrets
                .get(&reference.secret)
                .ok_or_else(|| format!("secret `{}` has no value", reference.secret))?
                .reveal()
                .trim(),
        };
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| format!("the value of `{name}` cannot be sent as a header"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

async fn read(
    metric: Metric,
    asking: Result<Asking, String>,
    sides: Answering,
    telling: UnboundedSender<Told>,
) {
    let every = metric.every.duration().max(Duration::from_millis(100));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let of = async |side: &Option<GroupId>| match side {
            Some(group) => value(&metric, &asking, group).await.map(Some),
            None => Ok(None),
        };
        match tokio::join!(of(&sides.old), of(&sides.new)) {
            (Ok(old), Ok(new)) => {
                let reading = Reading {
                    service: sides.service.clone(),
                    metric: metric.name.clone(),
                    old,
                    new,
                };
                if telling.send(Told::Reading(reading)).is_err() {
                    return;
                }
            }
            // No number is no evidence.
            (Err(error), _) | (_, Err(error)) => {
                let unread = Unread {
                    service: sides.service.clone(),
                    metric: metric.name.clone(),
                    why: error.chars().take(TOLD_AT_MOST).collect(),
                };
                if telling.send(Told::Unread(unread)).is_err() {
                    return;
                }
            }
        }
    }
}

async fn value(
    metric: &Metric,
    asking: &Result<Asking, String>,
    group: &GroupId,
) -> Result<f64, String> {
    match (asking.as_ref()?, metric) {
        (
            Asking::Query(client, headers),
            Metric {
                prometheus: Some(address),
                query: Some(query),
                ..
            },
        ) => from_prometheus(address, (client, headers), &filled(query, group)).await,
        (
            Asking::Command(folder),
            Metric {
                command: Some(command),
                ..
            },
        ) => from_command(command, folder, group).await,
        _ => Err("neither a query nor a command".to_owned()),
    }
}

async fn from_command(command: &[String], folder: &Path, group: &GroupId) -> Result<f64, String> {
    let command: Vec<String> = command.iter().map(|word| filled(word, group)).collect();
    let variables = BTreeMap::from([
        ("SERVICE".to_owned(), group.service.to_string()),
        ("VERSION".to_owned(), group.lane()),
    ]);
    let said = program::run(&command, &variables, folder, WITHIN).await?;
    if !said.agreed {
        return Err(said.words);
    }
    number(said.output.lines().last().unwrap_or_default().trim())
}

/// A number that can be laid beside another one.
fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        // `NaN` is what Prometheus makes of 0/0, and `+Inf` of 1/0.
        Ok(_) => Err(format!(
            "`{text}` is no number that can be compared, as where something was divided by 0"
        )),
        Err(_) => Err(format!("`{text}` is no number")),
    }
}

/// Puts the service and the version where the text asks for them.
fn filled(text: &str, group: &GroupId) -> String {
    text.replace("${SERVICE}", ServiceName::as_str(&group.service))
        .replace("${VERSION}", &group.lane())
}

/// The part of Prometheus' answer that is read: <https://prometheus.io/docs/prometheus/latest/querying/api/>.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Sample {
    value: (f64, String),
}

async fn from_prometheus(
    address: &str,
    (client, headers): (&reqwest::Client, &HeaderMap),
    query: &str,
) -> Result<f64, String> {
    let url = format!("{}/api/v1/query", address.trim_end_matches('/'));
    // The address may hold a password.
    let words = |error: reqwest::Error| crate::error::in_words(&error.without_url());
    let mut answer = client
        .get(url)
        .headers(headers.clone())
        .query(&[("query", query)])
        .send()
        .await
        .map_err(words)?;
    let status = answer.status();
    let mut text = Vec::new();
    let all = body::read(&mut answer, ANSWER_AT_MOST, &mut text).await;
    if !all.map_err(words)? {
        let most = ANSWER_AT_MOST / 1024;
        return Err(format!("answered {status} with more than {most} KiB"));
    }
    let text = String::from_utf8_lossy(&text);
    // A query that is wrong is told in the body.
    number_in(&text).map_err(|error| {
        if status.is_success() {
            error
        } else {
            format!("answered {status}: {error}")
        }
    })
}

fn number_in(text: &str) -> Result<f64, String> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(data) = answer.data else {
        return Err(answer.error.unwrap_or_else(|| "no data".to_owned()));
    };
    let wrong = |error: serde_json::Error| error.to_string();
    let (_, read): (f64, String) = match data.kind.as_str() {
        "scalar" => serde_json::from_value(data.result).map_err(wrong)?,
        "vector" => {
            let samples: Vec<Sample> = serde_json::from_value(data.result).map_err(wrong)?;
            match <[Sample; 1]>::try_from(samples) {
                Ok([sample]) => sample.value,
                Err(samples) => return Err(format!("{} series in place of one", samples.len())),
            }
        }
        _ => return Err("neither a scalar nor a vector".to_owned()),
    };
    number(&read)
}

#[cfg(test)]
mod tests;
