//! The processes of a container as `ps` lists them.

use api::container::TopResponse;
use runtime::ps;

use super::actor::Request;
use super::transitions::Command;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Lists processes; `arguments` are those of ps: empty, `-ef`, `aux`, `-o LIST` and their like.
    pub async fn container_top(&self, id: &str, arguments: &str) -> Result<TopResponse> {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        // The options are judged before the container is, as dockerd's order of errors has it.
        list(&[], &words)?;
        let container = self.containers.get(id)?;
        let monitor = container.ask(|reply| Request::Monitor { command: Command::Top, reply }).await?;
        let pids = monitor.processes().await?;
        let listed = self.blocking(move || list(&pids, &words)).await?;
        self.container_event(&container.record(), "top", &[]);
        Ok(TopResponse { processes: listed.rows, titles: listed.titles })
    }
}

/// Errors in dockerd's words, which are those of ps.
fn list(pids: &[i32], words: &[String]) -> Result<ps::Table> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ps::list(pids, &words).map_err(|error| match error {
        ps::Error::NoPid => Error::system("Couldn't find PID field in ps output"),
        ps::Error::Option(_) => Error::system("ps: error: unsupported SysV option"),
        other => Error::system(other.to_string()),
    })
}
