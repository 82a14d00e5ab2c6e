//! crates/gantry
fn main() {}
