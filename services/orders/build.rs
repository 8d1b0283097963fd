//! Rebuilds when a migration is added, and tells the tests whether there is a PostgreSQL server to run against.

use std::path::Path;

/// Where Debian and its kin install the servers, one folder a version.
const SERVERS: &str = "/usr/lib/postgresql";

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-env-changed=DATABASE_URL");
    println!("cargo::rustc-check-cfg=cfg(has_postgres)");
    let installed = Path::new(SERVERS).exists();
    if installed {
        println!("cargo::rerun-if-changed={SERVERS}");
    }
    if installed || std::env::var_os("DATABASE_URL").is_some() {
        println!("cargo::rustc-cfg=has_postgres");
    }
}
