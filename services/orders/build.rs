//! Rebuilds when a migration is added, and tells the tests whether there is a PostgreSQL server to run against.

use std::env::var_os;
use std::path::Path;

/// Where Debian and its kin install the servers, one folder a version.
const SERVERS: &str = "/usr/lib/postgresql";

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rustc-check-cfg=cfg(has_postgres, has_postgres_programs)");
    for variable in ["DATABASE_URL", "PLATFORM_TEST_NOTHING_SKIPPED"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let installed = Path::new(SERVERS).exists();
    if installed {
        println!("cargo::rerun-if-changed={SERVERS}");
    }
    // Where nothing may be skipped, a test that finds no server fails.
    let programs = installed || var_os("PLATFORM_TEST_NOTHING_SKIPPED").is_some();
    if programs {
        println!("cargo::rustc-cfg=has_postgres_programs");
    }
    if programs || var_os("DATABASE_URL").is_some() {
        println!("cargo::rustc-cfg=has_postgres");
    }
}
