//! Runs a blueprint as supervised local processes behind the gateway.
