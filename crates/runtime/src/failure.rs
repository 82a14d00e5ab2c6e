//! Errors inside the new process: a stage, a sentence, and the error number that the caller decides by.

use std::fmt::Display;
use std::io;

use crate::channel::Channel;
use crate::error::{Error, Stage};

/// Why the new process gives up.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) message: String,
    pub(crate) errno: Option<i32>,
}

/// The result of a step inside the new process.
pub(crate) type Step<T = ()> = Result<T, Failure>;

impl Failure {
    /// Without an error number.
    pub(crate) fn new(stage: Stage, message: impl Into<String>) -> Self {
        Self { stage, message: message.into(), errno: None }
    }

    /// An error of something that either side does, on its way to the caller.
    pub(crate) fn of(error: Error) -> Self {
        match error {
            Error::Start { stage, message, errno } => Self { stage, message, errno },
            Error::System { operation, source } => Self {
                stage: Stage::Rootfs,
                message: format!("{operation}: {}", plain(&source)),
                errno: source.raw_os_error(),
            },
            other => Self::new(Stage::Rootfs, other.to_string()),
        }
    }

    /// Tells the caller. When nobody listens any more nothing can be done about it.
    pub(crate) fn report(self, channel: &Channel) {
        let _ = channel.fail(self.stage, self.message, self.errno);
    }
}

/// The text of a failed call as Go's `syscall.Errno` has it: without Rust's `(os error 2)`, in lower case.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        // A word of capitals, such as `I/O error`, keeps them.
        Some(first) if !text.chars().nth(1).is_some_and(|c| c.is_uppercase() || c == '/') => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Turns the error of a step into a [`Failure`] that says what was tried.
pub(crate) trait Context<T> {
    /// `what: error`.
    fn context(self, stage: Stage, what: impl Display) -> Step<T>;
    /// The same with a text that is made only when needed.
    fn with_context<D: Display>(self, stage: Stage, what: impl FnOnce() -> D) -> Step<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, stage: Stage, what: impl Display) -> Step<T> {
        self.with_context(stage, || what)
    }

    fn with_context<D: Display>(self, stage: Stage, what: impl FnOnce() -> D) -> Step<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            Failure { stage, message: format!("{}: {}", what(), plain(&error)), errno: error.raw_os_error() }
        })
    }
}
