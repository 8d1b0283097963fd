//! Decisions as values: plan, rollout, analysis, drill. No I/O, no clock.
