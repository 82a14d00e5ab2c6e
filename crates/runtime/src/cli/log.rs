//! `--log` and `--log-format`: lines as logrus writes them, since containerd looks for the last error there.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// Where messages go besides the exit code.
#[derive(Debug, Clone)]
pub(super) struct Log {
    file: Option<Arc<File>>,
    json: bool,
    debug: bool,
}

impl Log {
    pub(super) fn to_stderr() -> Self {
        Self { file: None, json: false, debug: false }
    }

    /// The file is appended to.
    pub(super) fn open(path: Option<&str>, format: Option<&str>, debug: bool) -> io::Result<Self> {
        let json = match format {
            None | Some("" | "text") => false,
            Some("json") => true,
            Some(other) => return Err(io::Error::other(format!("invalid log-format: {other}"))),
        };
        let file = match path {
            None | Some("") => None,
            Some(path) => {
                let file = File::options().create(true).append(true).open(path);
                Some(Arc::new(file.map_err(|error| io::Error::other(format!("open {path}: {error}")))?))
            }
        };
        Ok(Self { file, json, debug })
    }

    pub(super) fn is_stderr(&self) -> bool {
        self.file.is_none()
    }

    pub(super) fn error(&self, message: &str) {
        self.line("error", message);
    }

    pub(super) fn warning(&self, message: &str) {
        self.line("warning", message);
    }

    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.line("debug", message);
        }
    }

    fn line(&self, level: &str, message: &str) {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let line = if self.json {
            let line = serde_json::json!({ "level": level, "msg": message, "time": time.to_string() });
            format!("{line}\n")
        } else {
            format!("time=\"{time}\" level={level} msg={message:?}\n")
        };
        // A log that cannot be written to leaves nobody to tell.
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}
