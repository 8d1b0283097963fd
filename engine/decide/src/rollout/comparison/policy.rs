//! How new and old are compared, as a rollout's policy says.

use platform_blueprint::{Analysis, Better, Leeway, Metric, Rollout, WhenQuiet};

use crate::analysis::{Margin, PairedPolicy, Policy, Tolerance, Undecided, WorseWhen};

/// A regression is this many times what is allowed, as in every table of docs/analysis.md.
const REGRESSION: f64 = 3.0;

/// The analysis as a rollout's policy asks for it, or `None` where nothing is compared.
///
/// The probability of a false rollback holds for the rollout as a whole, so each of its comparisons gets a part of it.
///
/// - `comparisons`: stages that are judged, times services that requests reach, times what is compared of each
pub fn comparison_policy(rollout: &Rollout, comparisons: usize) -> Option<Policy> {
    let analysis = rollout.analysis.as_ref()?;
    let policy = Policy {
        errors: Some(Margin::allowing(analysis.errors.fraction())),
        slow: Some(Margin::allowing(analysis.slow.fraction())),
        alpha: alpha(analysis),
        beta: beta(analysis),
        min_samples: u64::from(analysis.min_samples),
        max_samples: analysis.max_samples.map(u64::from),
        at_least: analysis.at_least.duration(),
        at_most: analysis.at_most.duration(),
        clump: f64::from(analysis.clump.max(1)),
        undecided: match analysis.when_quiet {
            WhenQuiet::Hold => Undecided::Hold,
            WhenQuiet::Advance => Undecided::Advance,
            WhenQuiet::RollBack => Undecided::RollBack,
        },
    };
    Some(policy.for_each_of(u32::try_from(comparisons).unwrap_or(u32::MAX)))
}

pub(in crate::rollout) fn alpha(analysis: &Analysis) -> f64 {
    1.0 - analysis.confidence.get()
}

pub(in crate::rollout) fn beta(analysis: &Analysis) -> f64 {
    1.0 - analysis.power.get()
}

/// How an extra metric is compared.
pub(super) fn paired_policy(metric: &Metric, alpha: f64, beta: f64) -> PairedPolicy {
    PairedPolicy {
        worse_when: match metric.better {
            Better::Lower => WorseWhen::Higher,
            Better::Higher => WorseWhen::Lower,
        },
        allowed: tolerance(metric.margin, 1.0),
        regression: tolerance(metric.margin, REGRESSION),
        alpha,
        beta,
    }
}

fn tolerance(leeway: Leeway, times: f64) -> Tolerance {
    match leeway {
        Leeway::Share(share) => Tolerance::Relative(share.fraction() * times),
        Leeway::Absolute(difference) => Tolerance::Absolute(difference * times),
    }
}
