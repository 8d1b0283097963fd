//! What the orchestrator needs from a target, in our words.
