//! The command line as a program of its own is entered as the product is; see `sys::early`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-examples=-Wl,-e,gantry_start");
    }
}
