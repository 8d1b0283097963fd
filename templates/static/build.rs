//! Compiles the server anew when a page is added, changed or removed.

fn main() {
    println!("cargo::rerun-if-changed=public");
}
