//! Says for what it is compiled; the same sources, target and `XLAT_COMMIT` give the same bytes.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=XLAT_COMMIT");
    // Cargo always says it.
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=XLAT_TARGET={target}");
}
