//! Rollouts: how traffic and instances move from one release to the next.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shorthand::{Never, Refused, Shorthand, deserialize_shorthand, shorthand};
use crate::{Amount, Percent, Period, Probability, SecretName, ServiceName};

/// How traffic and instances move from one release to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    /// The way to move.
    pub strategy: Strategy,
    /// With `canary`: the shares of traffic that the new release gets, one
    /// after another; all of it comes last by itself.
    pub steps: Vec<Percent>,
    /// With `canary` and `blue-green`: the share of the requests of which the
    /// new release gets copies before it answers anybody, in a step of its own.
    /// Only requests that change nothing are copied.
    pub mirror: Percent,
    /// The shortest time at each step, before a blue-green switch, and the
    /// longest that a batch of a rolling update is watched.
    pub hold: Period,
    /// With `canary` and `blue-green`: how long the new release is watched with
    /// all traffic, while the old one stays warm.
    pub bake: Period,
    /// How many instances may run beyond the wanted number.
    pub surge: Amount,
    /// How many of the wanted instances may be missing.
    pub unavailable: Amount,
    /// With `canary`: whether fresh instances of the old release run beside
    /// the new ones, so that warm-up is not taken for a fault.
    pub baseline: bool,
    /// Requests that always go to the new release.
    pub opt_in: OptIn,
    /// Commands and webhooks that must agree.
    pub gates: Vec<Gate>,
    /// How new and old are compared; `false` for not at all.
    #[serde(
        serialize_with = "analysis_or_false",
        deserialize_with = "analysis_if_wanted"
    )]
    #[schemars(with = "AnalysisForms")]
    pub analysis: Option<Analysis>,
    /// In which order the services of one release move. Top level only.
    pub order: Order,
    /// The longest it may take; past it, it goes back. Time in which it is
    /// paused, or stays for somebody to decide, does not count.
    pub at_most: Period,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::Rolling,
            steps: [1, 5, 25, 50].map(Percent::whole).to_vec(),
            mirror: Percent::NONE,
            hold: Period::from_secs(30),
            bake: Period::from_secs(60),
            surge: Amount::Count(1),
            unavailable: Amount::Count(0),
            baseline: true,
            opt_in: OptIn::default(),
            gates: Vec::new(),
            analysis: Some(Analysis::default()),
            order: Order::Together,
            at_most: Period::from_secs(3600),
        }
    }
}

impl Rollout {
    /// The secrets that its webhooks and queries are sent with.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let gates = self.gates.iter().map(|gate| &gate.headers);
        let metrics = self.analysis.iter().flat_map(|analysis| &analysis.metrics);
        let headers = gates.chain(metrics.map(|metric| &metric.headers));
        headers.flat_map(|headers| headers.values().filter_map(HeaderValue::secret))
    }
}

/// A way to move from one release to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One batch of instances after another.
    #[default]
    Rolling,
    /// A growing share of the traffic.
    Canary,
    /// A second full set, and one switch.
    BlueGreen,
}

impl Strategy {
    /// The word in the blueprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// Requests that always go to the new release while there are two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptIn {
    /// A header; `new` or `old` is its value.
    pub header: String,
    /// A cookie; `new` or `old` is its value.
    pub cookie: String,
}

impl Default for OptIn {
    fn default() -> Self {
        Self {
            header: "x-platform-release".to_owned(),
            cookie: "platform-release".to_owned(),
        }
    }
}

/// A command or webhook that must agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// When it is asked.
    pub when: GateWhen,
    /// A name for messages.
    #[serde(default)]
    pub name: Option<String>,
    /// A program and its arguments; exit code 0 agrees.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// A URL that gets a POST; 2xx agrees.
    #[serde(default)]
    pub webhook: Option<String>,
    /// What a webhook is sent with, beside the usual: credentials such as
    /// `Authorization`, as secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderValue>,
    /// How long it may take; past it, it does not agree.
    #[serde(default = "a_minute")]
    pub timeout: Period,
}

fn a_minute() -> Period {
    Period::from_secs(60)
}

/// When a gate is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateWhen {
    /// Before anything starts.
    BeforeStart,
    /// Before each step.
    PerStep,
    /// With the new release up and before it takes all traffic; `blue-green`
    /// checks the preview here.
    BeforePromote,
    /// After it went back; its answer changes nothing.
    AfterRollback,
}

impl GateWhen {
    /// The word in the blueprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeStart => "before-start",
            Self::PerStep => "per-step",
            Self::BeforePromote => "before-promote",
            Self::AfterRollback => "after-rollback",
        }
    }
}

/// In which order the services of one release move: `"together"`, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(with = "OrderForms")]
pub enum Order {
    /// They advance, promote and go back together.
    #[default]
    #[serde(serialize_with = "together")]
    Together,
    /// One after another; those not named come last, together.
    OneByOne(Vec<ServiceName>),
}

fn together<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("together")
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum OrderForms {
    Word(Together),
    List(Vec<ServiceName>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(
    dead_code,
    reason = "the variant describes the written form in the schema"
)]
enum Together {
    /// They advance, promote and go back together.
    Together,
}

impl Shorthand for Order {
    type Table = Never;
    const EXPECTED: &'static str = "\"together\" or a list of services";
    const LISTS: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        if text == "together" {
            Ok(Self::Together)
        } else {
            Err(Refused::Form)
        }
    }
    fn from_list(list: Vec<String>) -> Result<Self, Refused> {
        list.into_iter()
            .map(|name| ServiceName::new(name).map_err(|error| Refused::Value(error.to_string())))
            .collect::<Result<_, _>>()
            .map(Self::OneByOne)
    }
}

deserialize_shorthand!(Order);

/// How the new release is compared with the old one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Analysis {
    /// How much larger the share of bad answers may be.
    pub errors: Percent,
    /// How much larger the share of slow answers may be.
    pub slow: Percent,
    /// An answer is slow that takes longer.
    pub slow_after: Period,
    /// One minus the probability of going back without cause.
    pub confidence: Probability,
    /// The probability of noticing a release that is worse by three times
    /// what may be.
    pub power: Probability,
    /// The shortest time of looking at each step.
    pub at_least: Period,
    /// The longest time of looking at each step.
    pub at_most: Period,
    /// The fewest requests of each side before a verdict.
    pub min_samples: u32,
    /// The most requests of each side before a verdict must be.
    pub max_samples: Option<u32>,
    /// How many bad answers one cause brings at once, such as 3 for clients
    /// that retry twice; what is not stated is estimated.
    pub clump: u32,
    /// What becomes of a step that saw too few requests.
    pub when_quiet: WhenQuiet,
    /// How often an instance of the new release may end or be restarted.
    pub restarts: u32,
    /// Whether it only reports.
    pub dry_run: bool,
    /// More figures to compare.
    pub metrics: Vec<Metric>,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            errors: Percent::from_tenths(5).unwrap_or(Percent::NONE),
            slow: Percent::whole(1),
            slow_after: Period::from_millis(250),
            confidence: Probability::constant(0.99),
            power: Probability::constant(0.95),
            at_least: Period::from_secs(30),
            at_most: Period::from_secs(600),
            min_samples: 50,
            max_samples: None,
            clump: 1,
            when_quiet: WhenQuiet::Hold,
            restarts: 0,
            dry_run: false,
            metrics: Vec::new(),
        }
    }
}

/// Nothing is written as `false`, and an analysis in full.
#[expect(
    clippy::ref_option,
    reason = "serde hands over a reference to the field"
)]
fn analysis_or_false<S: Serializer>(
    analysis: &Option<Analysis>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match analysis {
        Some(analysis) => analysis.serialize(serializer),
        None => serializer.serialize_bool(false),
    }
}

fn analysis_if_wanted<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Analysis>, D::Error> {
    shorthand::<D, IfWanted>(deserializer).map(|wanted| wanted.0)
}

struct IfWanted(Option<Analysis>);

impl Shorthand for IfWanted {
    type Table = Analysis;
    const EXPECTED: &'static str = "true, false or { errors = \"0.5%\" }";
    const TABLES: bool = true;
    fn from_bool(wanted: bool) -> Result<Self, Refused> {
        Ok(Self(wanted.then(Analysis::default)))
    }
    fn from_table(analysis: Analysis) -> Result<Self, Refused> {
        Ok(Self(Some(analysis)))
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum AnalysisForms {
    Short(bool),
    Full(Analysis),
}

/// What becomes of a step that saw too few requests in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenQuiet {
    /// It stays until somebody decides.
    #[default]
    Hold,
    /// It goes on.
    Advance,
    /// It goes back.
    RollBack,
}

impl WhenQuiet {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Advance => "advance",
            Self::RollBack => "roll-back",
        }
    }
}

/// A figure to compare beside errors and slowness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// A Prometheus query; `${SERVICE}` and `${VERSION}` are replaced.
    #[serde(default)]
    pub query: Option<String>,
    /// Where Prometheus is.
    #[serde(default)]
    pub prometheus: Option<String>,
    /// What a query is sent with, beside the usual: credentials such as
    /// `Authorization`, as secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderValue>,
    /// A file beside the blueprint, in PEM: the authorities that may have
    /// signed what Prometheus shows over `https`; the public ones if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A program that prints one number for `${SERVICE}` and `${VERSION}`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Which way is better.
    #[serde(default)]
    pub better: Better,
    /// How much worse it may be: a share of the old release's, or a number
    /// in the figure's own unit.
    #[serde(default = "a_tenth")]
    pub margin: Leeway,
    /// The time between two samples.
    #[serde(default = "ten_seconds")]
    pub every: Period,
    /// Whether it only reports.
    #[serde(default)]
    pub dry_run: bool,
}

fn a_tenth() -> Leeway {
    Leeway::Share(Percent::whole(10))
}

/// What a header holds: a text, or `{ secret = "name" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderValue {
    /// A text that anybody may read.
    Text(String),
    /// The value of a secret, all of it.
    Secret(HeaderSecret),
}

impl HeaderValue {
    /// The secret that holds it.
    pub fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Text(_) => None,
            Self::Secret(reference) => Some(&reference.secret),
        }
    }
}

/// The secret that a header holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderSecret {
    /// The name of the secret.
    pub secret: SecretName,
}

impl Shorthand for HeaderValue {
    type Table = HeaderSecret;
    const EXPECTED: &'static str = "a text or { secret = \"name\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Ok(Self::Text(text.to_owned()))
    }
    fn from_table(reference: HeaderSecret) -> Result<Self, Refused> {
        Ok(Self::Secret(reference))
    }
}

deserialize_shorthand!(HeaderValue);

/// How much worse a figure may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Leeway {
    /// So much, in the figure's own unit.
    Absolute(#[schemars(range(min = 0))] f64),
    /// As a share of the old release's figure.
    Share(Percent),
}

impl Shorthand for Leeway {
    type Table = Never;
    const EXPECTED: &'static str = "a percentage such as \"10%\", or a number";
    fn from_text(text: &str) -> Result<Self, Refused> {
        text.parse()
            .map(Self::Share)
            .map_err(|error: crate::BadQuantity| Refused::Value(error.to_string()))
    }
    fn from_integer(number: i64) -> Result<Self, Refused> {
        #[expect(clippy::cast_precision_loss, reason = "a margin is no count")]
        Self::from_float(number as f64)
    }
    fn from_float(number: f64) -> Result<Self, Refused> {
        if number.is_finite() && number >= 0.0 {
            Ok(Self::Absolute(number))
        } else {
            Err(Refused::Value(format!(
                "`{number}` cannot be a margin; write 0 or more"
            )))
        }
    }
}

deserialize_shorthand!(Leeway);

fn ten_seconds() -> Period {
    Period::from_secs(10)
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// The lower, the better.
    #[default]
    Lower,
    /// The higher, the better.
    Higher,
}
