//! The gateway's configuration, tallies and admin protocol as values.
