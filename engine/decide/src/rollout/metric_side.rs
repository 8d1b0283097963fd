//! What extra metrics show of a service, worse or not, judging or not.

use std::fmt;

use platform_blueprint::Analysis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plain::plain;
use super::state::MemberState;
use crate::analysis::{PairedEvidence, PairedVerdict};

/// What one extra metric shows of one service in a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSide {
    /// Its name.
    pub metric: String,
    /// It reports and does not judge.
    pub only_reports: bool,
    /// The new release's value in the last pair.
    pub new: Option<f64>,
    /// The old release's.
    pub old: Option<f64>,
    /// Pairs that were looked at.
    pub pairs: u64,
    /// Of those, how many in which the new release was worse than tolerated.
    pub worse_pairs: u64,
    /// What they show.
    pub verdict: PairedVerdict,
    /// The same in words, with its numbers.
    pub words: String,
    /// Why it could not be read when it was last asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

impl fmt::Display for MetricSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reports = if self.only_reports {
            ", which only reports,"
        } else {
            ""
        };
        write!(f, "metric `{}`{reports} is {}", self.metric, self.words)
    }
}

impl MemberState {
    /// What each extra metric shows so far in the stage it is at or had come to.
    pub fn metrics(&self, analysis: &Analysis) -> Vec<MetricSide> {
        let comparison = &self.comparison;
        let side = |name: &String, only_reports: bool| {
            let evidence = comparison.metrics.get(name);
            let last = evidence.and_then(PairedEvidence::last);
            let unread = comparison.unread.get(name).cloned();
            let words =
                evidence.map_or_else(|| "without any reading".to_owned(), PairedEvidence::explain);
            MetricSide {
                metric: name.clone(),
                only_reports,
                new: last.map(|(_, new)| new),
                old: last.map(|(old, _)| old),
                pairs: evidence.map_or(0, PairedEvidence::pairs),
                worse_pairs: evidence.map_or(0, PairedEvidence::worse_pairs),
                verdict: evidence.map_or(PairedVerdict::CannotTellYet, PairedEvidence::verdict),
                words: match &unread {
                    Some(why) => format!("{words}; it could not be read: {}", plain(why)),
                    None => words,
                },
                unread,
            }
        };
        if !self.routed {
            return Vec::new();
        }
        let metrics = analysis.metrics.iter();
        metrics
            .map(|metric| side(&metric.name, metric.dry_run || analysis.dry_run))
            .collect()
    }
}
