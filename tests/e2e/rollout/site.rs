//! A project of one small service that is rolled out again and again.

use crate::sandbox::Seen;
use crate::withstand::project::{Api, Project};

/// Strategies with short holds, judged by what they answer.
pub(crate) const STRATEGIES: [&str; 3] = [
    r#"strategy = "canary"
steps = ["20%", "50%"]"#,
    r#"strategy = "blue-green""#,
    r#"strategy = "rolling""#,
];

/// A project whose service has served, and is changed by one strategy or another.
pub(crate) struct Site {
    pub(crate) project: Project,
}

impl Site {
    /// `one` is served.
    pub(crate) fn deployed() -> Self {
        Self {
            project: Project::deployed(),
        }
    }

    /// Has the service answer this from the next deploy on, which a gate lets pass or not before all users get it.
    pub(crate) fn wants(&self, answer: &str, strategy: &str, passes: bool) {
        self.project.change(&Api::good(answer));
        let text = self.project.sandbox.read("platform.toml");
        let (head, _) = text.split_once("[rollout]").expect("a policy");
        let gate = if passes { "true" } else { "false" };
        let policy = format!(
            r#"[rollout]
{strategy}
hold = "300ms"
bake = "300ms"
analysis = {{ errors = "5%", slow = "20%", slow_after = "2s", at_least = "300ms", at_most = "2m", min_samples = 20 }}
gates = [{{ when = "before-promote", command = ["{gate}"] }}]
"#
        );
        let text = format!("{head}{policy}");
        self.project.sandbox.write("platform.toml", &text);
    }

    /// Runs a command that answers every question with yes.
    pub(crate) fn run(&self, verbs: &[&str]) -> Seen {
        self.project.sandbox.run(&[verbs, &["--yes"]].concat())
    }

    /// This and nothing else is served, by two instances that are well.
    #[track_caller]
    pub(crate) fn serves(&self, answer: &str, when: &str) {
        assert_eq!(self.project.answer().as_deref(), Some(answer), "{when}");
        let status = self.run(&["status", "--format", "json"]).ok();
        let status = status.line("status");
        let groups = status["services"].as_array().expect("services");
        assert_eq!(groups.len(), 1, "{when}: {status:#}");
        assert_eq!(groups[0]["share"], 1000, "{when}: {status:#}");
        assert_eq!(groups[0]["ready"], 2, "{when}: {status:#}");
        assert!(status["unfinished"].is_null(), "{when}: {status:#}");
        let instances = self.project.instances();
        assert_eq!(instances.len(), 2, "{when}: {instances:?}");
    }
}
