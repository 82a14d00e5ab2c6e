//! The messages of pull, push, import, load and build: one JSON object per line.
#![allow(missing_docs)] // the fields are those of the Engine API document's `CreateImageInfo`, `PushImageInfo` and `BuildInfo`

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::is_default;

/// One line of a progress stream. Which members are set decides what a client draws.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// `{}` on lines about one layer, absent on lines about the whole.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar as text, for clients that draw none ([`ProgressDetail::bar`]).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    #[serde(skip_serializing_if = "is_default")]
    pub time: i64,
    #[serde(rename = "timeNano", skip_serializing_if = "is_default")]
    pub time_nano: i64,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far one layer is, in bytes unless `units` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "is_default")]
    pub current: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub total: i64,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "is_default")]
    pub start: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub hidecounts: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// Why a stream ended early; the HTTP status was sent long before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "is_default")]
    pub code: i64,
    pub message: String,
}

impl Message {
    /// A line about the whole: `{"status": "…"}`, with an id where there is one.
    pub fn status(id: &str, status: impl Into<String>) -> Self {
        Self { status: status.into(), id: id.into(), ..Self::default() }
    }

    /// A line about one layer: `{"status": "…", "progressDetail": {…}, "progress": "…", "id": "…"}`.
    pub fn action(id: &str, action: &str, detail: ProgressDetail) -> Self {
        let progress = detail.bar();
        Self { status: action.into(), id: id.into(), progress, progress_detail: Some(detail), ..Self::default() }
    }

    /// The last line of a failed stream.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        Self { error: message, error_detail, ..Self::default() }
    }

    /// A line that carries data for programs.
    pub fn aux(value: Value) -> Self {
        Self { aux: Some(value), ..Self::default() }
    }

    /// The line as it is sent, with its `\r\n`.
    pub fn to_line(&self) -> Vec<u8> {
        // A structure of strings and numbers always serializes.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        line
    }
}

impl ProgressDetail {
    /// `current` of `total` bytes.
    pub fn bytes(current: i64, total: i64) -> Self {
        Self { current, total, ..Self::default() }
    }

    /// The bar that the engine sends along: `[=====>      ]  1.2MB/3MB`, empty when nothing is known.
    pub fn bar(&self) -> String {
        if self.current <= 0 && self.total <= 0 {
            return String::new();
        }
        if self.total <= 0 {
            return format!("{:>8}", size(self.current));
        }
        let share = ((self.current * 100 / self.total) / 2).clamp(0, 50);
        let share = usize::try_from(share).unwrap_or(0);
        let rest = if share == 50 { String::new() } else { " ".repeat(50 - share) };
        let numbers = format!("{:>8}/{}", size(self.current), size(self.total));
        let bar = format!("[{}>{rest}] ", "=".repeat(share));
        if self.hidecounts { bar } else { format!("{bar}{numbers}") }
    }
}

/// Go's `units.HumanSize`: four significant digits, powers of 1000.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    #[allow(clippy::cast_precision_loss)] // four digits are shown
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= 1000.0 && unit < UNITS.len() - 1 {
        number /= 1000.0;
        unit += 1;
    }
    format!("{}{}", four_digits(number), UNITS[unit])
}

/// C's `%.4g` for numbers below 1000.
fn four_digits(number: f64) -> String {
    let decimals = match number.abs() {
        n if n >= 100.0 => 1,
        n if n >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_docker_s() {
        let line = |message: Message| String::from_utf8(message.to_line()).unwrap();
        assert_eq!(
            line(Message::action("abc", "Pulling fs layer", ProgressDetail::default())),
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(line(Message::status("", "Digest: x")), "{\"status\":\"Digest: x\"}\r\n");
        assert_eq!(line(Message::failure("no")), "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n");
    }

    #[test]
    fn bars_are_docker_s() {
        assert_eq!(
            ProgressDetail::bytes(32_768, 1_500_000).bar(),
            "[=>                                                 ]  32.77kB/1.5MB"
        );
        assert_eq!(ProgressDetail::bytes(10, 10).bar(), format!("[{}>] {:>8}/10B", "=".repeat(50), "10B"));
        assert_eq!(ProgressDetail::bytes(2048, 0).bar(), " 2.048kB");
        assert_eq!(size(999), "999B");
        assert_eq!(size(215_363_495), "215.4MB");
    }
}
