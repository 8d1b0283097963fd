//! The loops that observe, decide, act and record.
