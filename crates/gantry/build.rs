//! The program is entered at `gantry_start`, see `sys::early`. Release builds keep the functions that `gantry runtime`
//! needs next to each other; see `cargo xtask order`.

fn main() {
    println!("cargo::rerun-if-changed=order.ld");
    println!("cargo::rustc-link-arg-bins=-Wl,-e,gantry_start");
    let is = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|found| found == value);
    // The linkers of other systems have other scripts, and a program for tests is not worth the time.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("order.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
}
