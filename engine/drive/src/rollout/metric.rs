//! Extra metrics: numbers of both sides from a Prometheus or a command.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use platform_blueprint::{Metric, ServiceName};
use platform_decide::group::GroupId;
use platform_decide::rollout::{Phase, Reading, State, arrangement};
use platform_decide::traffic::Share;
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;

use super::driver::Told;
use super::program;

/// How long one number may take.
const WITHIN: Duration = Duration::from_secs(10);

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
        let has = |group: GroupId| (split.share(&group) > Share::NONE).then_some(group);
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
pub(super) fn readers(
    state: &State,
    answering: &[Answering],
    telling: &UnboundedSender<Told>,
) -> Vec<BoxFuture<'static, ()>> {
    let metrics = state.policy.analysis.iter().flat_map(|a| &a.metrics);
    let each = metrics.flat_map(|metric| answering.iter().map(move |sides| (metric, sides)));
    each.map(|(metric, sides)| read(metric.clone(), sides.clone(), telling.clone()).boxed())
        .collect()
}

async fn read(metric: Metric, sides: Answering, telling: UnboundedSender<Told>) {
    let every = metric.every.duration().max(Duration::from_millis(100));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let of = async |side: &Option<GroupId>| match side {
            Some(group) => value(&metric, group).await.map(Some),
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
                tracing::debug!(metric = metric.name, error, "no reading");
            }
        }
    }
}

async fn value(metric: &Metric, group: &GroupId) -> Result<f64, String> {
    if let Some(command) = &metric.command {
        return from_command(command, group).await;
    }
    match (&metric.prometheus, &metric.query) {
        (Some(address), Some(query)) => from_prometheus(address, &filled(query, group)).await,
        _ => Err("neither a query nor a command".to_owned()),
    }
}

async fn from_command(command: &[String], group: &GroupId) -> Result<f64, String> {
    let command: Vec<String> = command.iter().map(|word| filled(word, group)).collect();
    let variables = BTreeMap::from([
        ("SERVICE".to_owned(), group.service.to_string()),
        ("VERSION".to_owned(), group.lane()),
    ]);
    let said = program::run(&command, &variables, WITHIN).await?;
    if !said.agreed {
        return Err(said.words);
    }
    let number = said.output.lines().last().unwrap_or_default().trim();
    number
        .parse()
        .map_err(|_| format!("`{number}` is no number"))
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

async fn from_prometheus(address: &str, query: &str) -> Result<f64, String> {
    let url = format!("{}/api/v1/query", address.trim_end_matches('/'));
    let words = |error: reqwest::Error| crate::error::in_words(&error);
    let answer = super::gate::client(WITHIN)?
        .get(url)
        .query(&[("query", query)])
        .send()
        .await
        .map_err(words)?;
    let text = answer.text().await.map_err(words)?;
    number_in(&text)
}

fn number_in(text: &str) -> Result<f64, String> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(data) = answer.data else {
        return Err(answer.error.unwrap_or_else(|| "no data".to_owned()));
    };
    let wrong = |error: serde_json::Error| error.to_string();
    let (_, number): (f64, String) = match data.kind.as_str() {
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
    number
        .parse()
        .map_err(|_| format!("`{number}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_a_scalar_or_a_single_series() {
        let table = [
            (
                r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"3.25"]}}"#,
                Ok(3.25),
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.5"]}]}}"#,
                Ok(0.5),
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                Err("0 series in place of one"),
            ),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
                Err("neither a scalar nor a vector"),
            ),
            (
                r#"{"status":"error","error":"parse error"}"#,
                Err("parse error"),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(number_in(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn the_query_is_told_which_side_is_meant() {
        let group: GroupId = "orders@r5-baseline".parse().unwrap();
        let query = "rate(x{service=\"${SERVICE}\",version=\"${VERSION}\"}[1m])";
        assert_eq!(
            filled(query, &group),
            "rate(x{service=\"orders\",version=\"r5-baseline\"}[1m])"
        );
    }
}
