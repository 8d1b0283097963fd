//! Reports for CI systems.

pub(crate) mod github;
pub(crate) mod junit;
pub(crate) mod sarif;
