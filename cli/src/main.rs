//! The `platform` command line.

fn main() {}
