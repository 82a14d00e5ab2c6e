//! Why a command failed, in the words and with the exit code of Docker's command line.

use std::io;

/// A failed command. What `Display` gives is what the user reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line itself is wrong.
    #[error("{text}\n\nUsage:  {usage}\n\n{hint}")]
    Usage { text: String, usage: String, hint: String, code: u8 },
    /// The engine refused.
    #[error("Error response from daemon: {}", .0.message)]
    Daemon(api::ApiError),
    /// Nothing listens where the engine should.
    #[error("Cannot connect to the Docker daemon at {0}. Is the docker daemon running?")]
    Unreachable(String),
    /// The socket is there and not ours to open.
    #[error("permission denied while trying to connect to the Docker daemon socket at {host}: {source}")]
    Forbidden { host: String, source: io::Error },
    /// The connection broke, or what came over it is not the Engine API.
    #[error("error during connect: {0}")]
    Protocol(String),
    /// A local file or stream failed.
    #[error("{what}: {}", reason(.source))]
    Io { what: String, source: io::Error },
    /// Anything that needs one sentence.
    #[error("{message}")]
    Plain { message: String, code: u8 },
}

impl Error {
    /// One sentence, exit code 1.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::Plain { message: message.into(), code: 1 }
    }

    /// Several failures, one per line, exit code 1; each was said in full before or is said now.
    pub(crate) fn joined(messages: &[String]) -> Self {
        Self::plain(messages.join("\n"))
    }

    /// A local failure: `open /x`, and why.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The status of an answer of the engine, 0 for all else.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Daemon(error) => error.status,
            _ => 0,
        }
    }

    /// The exit code of the process.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage { code, .. } | Self::Plain { code, .. } => *code,
            _ => 1,
        }
    }
}

/// The system's text in Go's form: lower case, no number behind it.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if error.raw_os_error().is_some() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
