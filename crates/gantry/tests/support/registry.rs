//! Gantry's own registry, beside an engine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::{Engine, GANTRY};

/// A registry in the engine's network namespace. It ends with the value.
pub struct GantryRegistry(Child);

impl Engine {
    /// Serves a registry on this address of the engine's network namespace, with more flags.
    pub fn gantry_registry(&self, address: &str, flags: &[&str]) -> GantryRegistry {
        let mut command = self.inside(GANTRY);
        command.args(["registry", "serve", "--access-log", "none", "--listen", address]).args(flags);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut said = Vec::new();
        loop {
            let Some(Ok(line)) = lines.next() else { panic!("the registry ended at once: {said:#?}") };
            if line.contains(" serving ") {
                break;
            }
            said.push(line);
        }
        // Nobody may block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        GantryRegistry(child)
    }
}

impl Drop for GantryRegistry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
