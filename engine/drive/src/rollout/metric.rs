//! Extra metrics: numbers of both sides from a Prometheus or a command.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use platform_blueprint::{HeaderValue as Written, Metric, ServiceName};
use platform_decide::group::GroupId;
use platform_decide::rollout::{Phase, Reading, State, Unread, arrangement};
use platform_decide::traffic::Share;
use platform_port::SecretValues;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;

use super::driver::Told;
use super::program;

/// How long one number may take.
const WITHIN: Duration = Duration::from_secs(10);

/// So much is kept of why a number could not be read, in characters.
const TOLD_AT_MOST: usize = 300;

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
pub(super) fn readers(
    state: &State,
    answering: &[Answering],
    secrets: &SecretValues,
    telling: &UnboundedSender<Told>,
) -> Vec<BoxFuture<'static, ()>> {
    let metrics = state.policy.analysis.iter().flat_map(|a| &a.metrics);
    let each = metrics.flat_map(|metric| answering.iter().map(move |sides| (metric, sides)));
    each.map(|(metric, sides)| {
        let headers = headers(metric, secrets);
        read(metric.clone(), headers, sides.clone(), telling.clone()).boxed()
    })
    .collect()
}

/// What a query is sent with. Neither names nor errors show a secret's value.
fn headers(metric: &Metric, secrets: &SecretValues) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &metric.headers {
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
    headers: Result<HeaderMap, String>,
    sides: Answering,
    telling: UnboundedSender<Told>,
) {
    let every = metric.every.duration().max(Duration::from_millis(100));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let of = async |side: &Option<GroupId>| match side {
            Some(group) => value(&metric, &headers, group).await.map(Some),
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
    headers: &Result<HeaderMap, String>,
    group: &GroupId,
) -> Result<f64, String> {
    if let Some(command) = &metric.command {
        return from_command(command, group).await;
    }
    match (&metric.prometheus, &metric.query) {
        (Some(address), Some(query)) => {
            let headers = headers.clone()?;
            from_prometheus(address, headers, &filled(query, group)).await
        }
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

async fn from_prometheus(address: &str, headers: HeaderMap, query: &str) -> Result<f64, String> {
    let url = format!("{}/api/v1/query", address.trim_end_matches('/'));
    // The address may hold a password.
    let words = |error: reqwest::Error| crate::error::in_words(&error.without_url());
    let answer = super::gate::client(WITHIN)?
        .get(url)
        .headers(headers)
        .query(&[("query", query)])
        .send()
        .await
        .map_err(words)?;
    let status = answer.status();
    let text = answer.text().await.map_err(words)?;
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
    use std::io::{Read, Write};

    use platform_port::SecretValue;

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

    fn metric(address: &str, headers: &str) -> Metric {
        let text = format!(
            r#"{{ "name": "heap", "query": "heap", "prometheus": "{address}", "headers": {headers} }}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn secrets() -> SecretValues {
        let value = SecretValue::new("Bearer s3cr3t\n".to_owned());
        [("metrics".parse().unwrap(), value)].into()
    }

    async fn asked(address: &str, headers: &str) -> Result<f64, String> {
        let metric = metric(address, headers);
        let headers = super::headers(&metric, &secrets());
        value(&metric, &headers, &"orders@r5".parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_query_is_sent_with_the_headers_that_are_asked_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let body = r#"{"data":{"resultType":"scalar","result":[1,"5"]}}"#;
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let headers = r#"{ "Authorization": { "secret": "metrics" }, "X-Scope-OrgID": "shop" }"#;
        assert_eq!(asked(&address, headers).await, Ok(5.0));
        let head = answers.join().unwrap();
        assert!(head.contains("authorization: Bearer s3cr3t\r\n"), "{head}");
        assert!(head.contains("x-scope-orgid: shop\r\n"), "{head}");
    }

    #[tokio::test]
    async fn what_cannot_be_asked_says_why_and_no_secret() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let address = format!("http://ada:s3cr3t@127.0.0.1:{port}");
        for (headers, expected) in [
            ("{}", "error sending request"),
            (
                r#"{ "Authorization": { "secret": "other" } }"#,
                "secret `other` has no value",
            ),
            (r#"{ "a b": "c" }"#, "`a b` cannot be the name of a header"),
            (
                r#"{ "a": "b\nc" }"#,
                "the value of `a` cannot be sent as a header",
            ),
        ] {
            let error = asked(&address, headers).await.unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        let shown = super::headers(
            &metric(&address, r#"{ "Authorization": { "secret": "metrics" } }"#),
            &secrets(),
        );
        assert!(!format!("{shown:?}").contains("s3cr3t"));
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
