//! Options that say how changed services are rolled out.

use std::sync::Arc;

use platform_blueprint::Percent;
use platform_decide::desired::Desired;

use crate::error::CliError;

/// How changed services are rolled out, in place of what the blueprint says
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Rollout")]
pub(crate) struct Strategy {
    /// Replace instances batch by batch
    #[arg(long, group = "rollout_strategy")]
    rolling: bool,

    /// Shift traffic step by step, judged at each; steps such as `1%,10%,50%`
    #[arg(long, group = "rollout_strategy", value_name = "STEPS", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    canary: Option<Vec<Percent>>,

    /// Bring everything up beside what serves, check it, switch at once
    #[arg(long, group = "rollout_strategy")]
    blue_green: bool,
}

impl Strategy {
    /// Puts what was asked for in place of the blueprint's strategies.
    pub(crate) fn apply(&self, desired: &mut Desired) -> Result<(), CliError> {
        let strategy = match (&self.canary, self.rolling, self.blue_green) {
            (Some(_), _, _) => platform_blueprint::Strategy::Canary,
            (None, true, _) => platform_blueprint::Strategy::Rolling,
            (None, _, true) => platform_blueprint::Strategy::BlueGreen,
            (None, false, false) => return Ok(()),
        };
        let steps = self.canary.as_deref().unwrap_or_default();
        let bad = |message| {
            Err(CliError::new("usage::bad-steps", message)
                .help("write them as `--canary=1%,10%,50%`"))
        };
        if !steps.is_sorted_by(|a, b| a < b) {
            return bad("the steps of a canary must grow");
        }
        if steps.contains(&Percent::NONE) || steps.contains(&Percent::FULL) {
            return bad(
                "a step of a canary is more than 0 % and less than 100 %, which comes last by itself",
            );
        }
        for service in desired.services.values_mut() {
            service.rollout.strategy = strategy;
            if !steps.is_empty() {
                service.rollout.steps = steps.to_vec();
            }
            let spec = Arc::make_mut(&mut service.spec.service);
            spec.rollout = service.rollout.clone();
        }
        Ok(())
    }
}
