//! The blueprint language: parse, validate, resolve.
