//! Rollouts: steps, gates, analysis.

use std::collections::BTreeMap;

use super::{Check, Scene, texts};
use crate::node::{Step, place, text};
use crate::secret_literal::looks_secret;
use crate::{
    Analysis, Code, HeaderValue, Metric, OptIn, Order, Percent, Period, Problem, Rollout, Service,
    ServiceName, Strategy,
};

impl Check<'_, '_> {
    pub(super) fn rollout_of_all(&mut self, scene: &Scene<'_>) {
        let top = [Step::Key("rollout")];
        self.rollout(&scene.rollout, &top);
        let canary = |rollout: &Rollout| rollout.strategy == Strategy::Canary;
        let any_canary = scene
            .services
            .values()
            .any(|service| canary(&service.rollout));
        if !any_canary {
            self.unused_keys(&top);
        }
        if let Order::OneByOne(order) = &scene.rollout.order {
            for (number, name) in order.iter().enumerate() {
                let place = [Step::Key("rollout"), "order".into(), number.into()];
                self.known_service(scene, name, &place);
                if order[..number].contains(name) {
                    let problem = Problem::new(
                        Code::Contradiction,
                        format!("`{name}` comes twice in the order"),
                        self.at(&place),
                    )
                    .help("keep one");
                    self.report(problem);
                }
            }
        }
    }

    /// Checks what a service writes of its own.
    pub(super) fn own_rollout(&mut self, name: &ServiceName, service: &Service) {
        let own = [
            Step::Key("services"),
            name.as_str().into(),
            "rollout".into(),
        ];
        if !self.written(&own) {
            return;
        }
        self.rollout(&service.rollout, &own);
        self.unused_keys(&own);
        let all = [Step::Key("rollout"), "order".into()];
        let mut layers = [Some(self.root), self.over].into_iter().flatten();
        if layers.any(|layer| text(layer, &all) == Some("together")) {
            let problem = Problem::new(
                Code::Contradiction,
                format!("`{name}` has a rollout of its own, so it does not move together with the others"),
                self.at(&own),
            )
            .label("before or after them")
            .warning()
            .help("take it out, or take out `order = \"together\"`");
            self.report(problem);
        }
        let order = [own[0], own[1], own[2], "order".into()];
        if self.written(&order) {
            let problem = Problem::new(
                Code::UnusedKey,
                "the order of services holds for all of them",
                self.at(&order),
            )
            .warning()
            .help("write it in the top-level `[rollout]`");
            self.report(problem);
        }
    }

    /// Checks one policy, as far as it is written at `base`.
    fn rollout(&mut self, rollout: &Rollout, base: &[Step<'_>]) {
        if self.written(&below(base, &["steps".into()])) {
            self.steps(rollout, base);
        }
        if self.written(&below(base, &["gates".into()])) {
            self.gates(rollout, base);
        }
        self.opt_in(&rollout.opt_in, base);
        let at_most = below(base, &["at_most".into()]);
        if self.written(&at_most) {
            let help = "write one in which all of its steps end, such as `1h`";
            self.lasts(rollout.at_most, "a rollout", help, &at_most);
        }
        let analysis = below(base, &["analysis".into()]);
        if let Some(written) = rollout
            .analysis
            .as_ref()
            .filter(|_| self.written(&analysis))
        {
            self.analysis(written, &analysis);
        }
    }

    fn steps(&mut self, rollout: &Rollout, base: &[Step<'_>]) {
        let mut before = Percent::NONE;
        for (number, step) in rollout.steps.iter().copied().enumerate() {
            if step > before && step < Percent::FULL {
                before = step;
                continue;
            }
            let (message, help) = if step == Percent::NONE {
                (
                    "a step of 0% shows nothing".to_owned(),
                    "begin with a share above 0%",
                )
            } else if step == Percent::FULL {
                (
                    "the step to 100% comes by itself".to_owned(),
                    "end with a share below 100%",
                )
            } else {
                (
                    format!("the step to {step} comes after one to {before}"),
                    "let each step be larger than the one before",
                )
            };
            let problem = Problem::new(
                Code::BadSteps,
                message,
                self.at(&below(base, &["steps".into(), number.into()])),
            )
            .help(help);
            self.report(problem);
        }
        if rollout.strategy == Strategy::Canary && rollout.steps.is_empty() {
            let problem = Problem::new(
                Code::BadSteps,
                "a canary without steps is none",
                self.at(&below(base, &["steps".into()])),
            )
            .help("write shares such as `[\"1%\", \"10%\", \"50%\"]`, or another strategy");
            self.report(problem);
        }
    }

    /// Checks what a request says to choose its side.
    fn opt_in(&mut self, opt_in: &OptIn, base: &[Step<'_>]) {
        let header = below(base, &["opt_in".into(), "header".into()]);
        if self.written(&header) {
            self.field_name(&opt_in.header, &header);
        }
        let cookie = below(base, &["opt_in".into(), "cookie".into()]);
        if self.written(&cookie) && !texts::is_token(&opt_in.cookie) {
            let problem = Problem::new(
                Code::BadValue,
                format!(
                    "`{}` is not the name of a cookie",
                    opt_in.cookie.escape_debug()
                ),
                self.at(&cookie),
            )
            .help("write letters, digits and hyphens, such as `platform-release`");
            self.report(problem);
        }
    }

    /// Checks that something is given time at all.
    fn lasts(&mut self, time: Period, what: &str, help: &str, place: &[Step<'_>]) {
        if time.duration().is_zero() {
            let problem = Problem::new(
                Code::BadValue,
                format!("{what} that may last for {time} can only fail"),
                self.at(place),
            )
            .help(help);
            self.report(problem);
        }
    }

    fn gates(&mut self, rollout: &Rollout, base: &[Step<'_>]) {
        for (number, gate) in rollout.gates.iter().enumerate() {
            let own = below(base, &["gates".into(), number.into()]);
            let timeout = below(&own, &["timeout".into()]);
            let help = "write one in which it can answer, such as `1m`";
            self.lasts(gate.timeout, "a gate", help, &timeout);
            if let Some(webhook) = &gate.webhook {
                let place = below(&own, &["webhook".into()]);
                self.url(webhook, "https://ops.example/approve", &place);
            } else if !gate.headers.is_empty() {
                let problem = Problem::new(
                    Code::UnusedKey,
                    "`headers` has no effect on a gate that asks no webhook",
                    self.at(&below(&own, &["headers".into()])),
                )
                .warning()
                .help("take it out; a command finds its credentials itself");
                self.report(problem);
            }
            self.headers(&gate.headers, &own);
            let place = self.at(&own);
            let command = gate
                .command
                .as_ref()
                .is_some_and(|command| !command.is_empty());
            let problem = match (command, gate.webhook.is_some()) {
                (true, true) => Problem::new(
                    Code::Contradiction,
                    "a gate asks a command or a webhook, not both",
                    place,
                )
                .help("write two gates"),
                (false, false) => {
                    Problem::new(Code::MissingSetting, "the gate has nobody to ask", place)
                        .help("add `command = [\"…\"]` or `webhook = \"https://…\"`")
                }
                _ => continue,
            };
            self.report(problem);
        }
    }

    fn analysis(&mut self, analysis: &Analysis, base: &[Step<'_>]) {
        if analysis.at_least > analysis.at_most {
            let problem = Problem::new(
                Code::Contradiction,
                format!(
                    "a step is looked at for at least {} and at most {}",
                    analysis.at_least, analysis.at_most
                ),
                self.at(&below(base, &["at_least".into()])),
            )
            .help("make `at_most` the longer one");
            self.report(problem);
        }
        if analysis
            .max_samples
            .is_some_and(|most| most < analysis.min_samples)
        {
            let problem = Problem::new(
                Code::Contradiction,
                format!(
                    "fewer than the {} requests that a verdict takes are allowed",
                    analysis.min_samples
                ),
                self.at(&below(base, &["max_samples".into()])),
            )
            .help("make `max_samples` the larger one");
            self.report(problem);
        }
        for (number, metric) in analysis.metrics.iter().enumerate() {
            self.asked_with(metric, &below(base, &["metrics".into(), number.into()]));
            self.believed(metric, &below(base, &["metrics".into(), number.into()]));
            let own = below(base, &["metrics".into(), number.into()]);
            self.metric_name(&analysis.metrics[..number], metric, &own);
            let place = self.at(&own);
            let name = &metric.name;
            let problem = match (&metric.query, &metric.command) {
                (Some(_), Some(_)) => Problem::new(
                    Code::Contradiction,
                    format!("the metric `{name}` has both a query and a command"),
                    place,
                )
                .help("keep one"),
                (None, None) => Problem::new(
                    Code::MissingSetting,
                    format!("the metric `{name}` does not say where it comes from"),
                    place,
                )
                .help("add `query` and `prometheus`, or `command`"),
                (Some(_), None) if metric.prometheus.is_none() => Problem::new(
                    Code::MissingSetting,
                    format!("the metric `{name}` does not say whom to query"),
                    place,
                )
                .help("add `prometheus = \"http://…\"`"),
                _ => continue,
            };
            self.report(problem);
        }
    }

    /// Checks that a metric has a name, which no other one has.
    fn metric_name(&mut self, before: &[Metric], metric: &Metric, base: &[Step<'_>]) {
        let place = self.at(&below(base, &["name".into()]));
        let name = &metric.name;
        let problem = if name.trim().is_empty() {
            Problem::new(Code::BadValue, "a metric without a name is none", place)
                .help("write what it counts, such as `heap`")
        } else if before.iter().any(|other| other.name == *name) {
            Problem::new(
                Code::Contradiction,
                format!("two metrics are called `{name}`"),
                place,
            )
            .help("give one of them another name: verdicts and reports tell them apart by it")
        } else {
            return;
        };
        self.report(problem);
    }

    /// Checks what a metric's query is sent with.
    fn asked_with(&mut self, metric: &Metric, base: &[Step<'_>]) {
        if !metric.headers.is_empty() && metric.query.is_none() {
            let problem = Problem::new(
                Code::UnusedKey,
                format!(
                    "`headers` has no effect on the metric `{}`, which is no query",
                    metric.name
                ),
                self.at(&below(base, &["headers".into()])),
            )
            .warning()
            .help("take it out; a command finds its credentials itself");
            self.report(problem);
        }
        self.headers(&metric.headers, base);
    }

    /// Checks that headers hold no credentials for everyone to read.
    ///
    /// - `base`: the table that has them
    fn headers(&mut self, headers: &BTreeMap<String, HeaderValue>, base: &[Step<'_>]) {
        for (name, value) in headers {
            let HeaderValue::Text(text) = value else {
                continue;
            };
            let credentials = ["authorization", "cookie", "x-api-key"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known));
            let named = name.replace('-', "_");
            let why = looks_secret(&named, text)
                .or_else(|| credentials.then_some("its name says that it is one"));
            if let Some(why) = why {
                let problem = Problem::new(
                    Code::LiteralSecret,
                    format!("the header `{name}` holds a secret as a literal: {why}"),
                    self.at(&below(base, &["headers".into(), name.as_str().into()])),
                )
                .label("readable by everyone")
                .help(
                    "store it with `platform secrets set NAME` and write `{ secret = \"NAME\" }`",
                );
                self.report(problem);
            }
        }
    }

    /// Checks whose signature a metric's query believes.
    fn believed(&mut self, metric: &Metric, base: &[Step<'_>]) {
        let Some(ca) = &metric.ca else {
            return;
        };
        let place = self.at(&below(base, &["ca".into()]));
        let secured = |address: &String| address.starts_with("https://");
        let problem = if ca.is_empty() {
            Problem::new(
                Code::MissingSetting,
                format!("`ca` of the metric `{}` names no file", metric.name),
                place,
            )
            .help("name a file of certificates in PEM beside the blueprint")
        } else if metric.query.is_none() || !metric.prometheus.as_ref().is_some_and(secured) {
            Problem::new(
                Code::UnusedKey,
                format!(
                    "`ca` has no effect on the metric `{}`, which asks nobody over `https`",
                    metric.name
                ),
                place,
            )
            .warning()
            .help("take it out, or write `prometheus = \"https://…\"`")
        } else {
            return;
        };
        self.report(problem);
    }

    /// Warns of keys that stand beside a strategy which has no use for them.
    /// Where the strategy comes from elsewhere, another may come as well.
    fn unused_keys(&mut self, base: &[Step<'_>]) {
        for layer in [Some(self.root), self.over].into_iter().flatten() {
            let strategy = text(layer, &below(base, &["strategy".into()]));
            let unused: &[_] = match strategy {
                Some("rolling") => &["steps", "mirror", "baseline", "bake"],
                Some("blue-green") => &["steps", "baseline"],
                _ => continue,
            };
            for key in unused {
                let path = below(base, &[(*key).into()]);
                let (Some(span), steps) = place(layer, &path) else {
                    continue;
                };
                if steps == path.len() {
                    let strategy = strategy.unwrap_or_default();
                    let strategies = match *key {
                        "bake" | "mirror" => "`canary` and `blue-green`",
                        _ => "`canary`",
                    };
                    let problem = Problem::new(
                        Code::UnusedKey,
                        format!("`{key}` has no effect on a {strategy} rollout"),
                        Some(span),
                    )
                    .label(format!("only with {strategies}"))
                    .warning()
                    .help("take it out, or choose the strategy that it is for");
                    self.report(problem);
                }
            }
        }
    }
}

fn below<'path>(base: &[Step<'path>], rest: &[Step<'path>]) -> Vec<Step<'path>> {
    base.iter().chain(rest).copied().collect()
}
