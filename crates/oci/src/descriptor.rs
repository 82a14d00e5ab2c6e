//! Descriptors: how one piece of content points at another, and the platform that it may be for.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;

/// A pointer to content. Fields that are not known here survive a round trip in `extra`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is, see [`crate::media_type`].
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Other places to download it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The content itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// In an index: what the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor with the three required fields.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: None,
            data: None,
            platform: None,
            artifact_type: None,
            extra: Map::new(),
        }
    }

    /// Describes these bytes.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// What a container image runs on, in Go's words (`linux`, `amd64`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU, e.g. `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Kernel, e.g. `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the kernel (Windows only).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Required features of the kernel (Windows only).
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Flavour of the CPU, e.g. `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not of the form `os[/arch[/variant]]`.
    #[error("\"{0}\": invalid platform component: must match \"^[A-Za-z0-9_.-]+$\": invalid argument")]
    Component(String),
    /// A single word that is neither a kernel nor a CPU.
    #[error("\"{0}\": unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// More than three parts.
    #[error("\"{0}\": cannot parse platform specifier: invalid argument")]
    Specifier(String),
}

impl Platform {
    /// The platform of this machine.
    #[must_use]
    pub fn host() -> Self {
        Self::normalized("linux", std::env::consts::ARCH, None)
    }

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant`, as in `--platform`.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_component = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if let Some(bad) = parts.iter().find(|part| !is_component(part)) {
            return Err(PlatformError::Component((*bad).to_owned()));
        }
        match parts[..] {
            [word] if is_known_os(&word.to_ascii_lowercase()) => {
                let host = Self::host();
                Ok(Self::normalized(word, &host.architecture, host.variant.as_deref()))
            }
            [word] if is_known_arch(&normalize_arch(word, None).0) => Ok(Self::normalized("linux", word, None)),
            [_] => Err(PlatformError::Unknown(text.to_owned())),
            [os, arch] => Ok(Self::normalized(os, arch, None)),
            [os, arch, variant] => Ok(Self::normalized(os, arch, Some(variant))),
            _ => Err(PlatformError::Specifier(text.to_owned())),
        }
    }

    fn normalized(os: &str, arch: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalize_arch(arch, variant);
        Self { architecture, os, variant, ..Self::default() }
    }

    /// Can an image for `self` run on a machine that is `wanted`?
    ///
    /// Equal after normalisation, where a missing variant means the usual one; an `amd64` or `arm` machine also runs
    /// lower variants of its own architecture.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let image = Self::normalized(&self.os, &self.architecture, self.variant.as_deref());
        let machine = Self::normalized(&wanted.os, &wanted.architecture, wanted.variant.as_deref());
        if image.os != machine.os || image.architecture != machine.architecture {
            return false;
        }
        match image.architecture.as_str() {
            "arm" | "amd64" => image.variant_number() <= machine.variant_number(),
            _ => image.variant == machine.variant,
        }
    }

    /// `v7` → 7; the usual variant of the architecture when none is said. To order candidates: higher is better.
    #[must_use]
    pub fn variant_number(&self) -> u32 {
        let usual = if self.architecture == "arm" { 7 } else { 1 };
        self.variant.as_deref().and_then(|text| text.strip_prefix('v')?.parse().ok()).unwrap_or(usual)
    }
}

impl fmt::Display for Platform {
    /// `linux/arm/v7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let os = if self.os.is_empty() { "unknown" } else { &self.os };
        f.write_str(os)?;
        for part in [Some(&self.architecture), self.variant.as_ref()].into_iter().flatten() {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// The many names of one CPU, and the variants that are the default and therefore left out.
fn normalize_arch(arch: &str, variant: Option<&str>) -> (String, Option<String>) {
    let arch = arch.to_ascii_lowercase();
    let variant = variant.filter(|text| !text.is_empty()).map(str::to_ascii_lowercase);
    let (arch, variant) = match arch.as_str() {
        "i386" | "x86" => ("386", None),
        "x86_64" | "x86-64" | "amd64" => ("amd64", variant.filter(|text| text != "v1")),
        "aarch64" | "arm64" => ("arm64", variant.filter(|text| text != "8" && text != "v8")),
        "armhf" => ("arm", Some("v7".to_owned())),
        "armel" => ("arm", Some("v6".to_owned())),
        "arm" => (
            "arm",
            Some(match variant.as_deref() {
                None | Some("7") => "v7".to_owned(),
                Some(number @ ("5" | "6" | "8")) => format!("v{number}"),
                Some(other) => other.to_owned(),
            }),
        ),
        other => return (other.to_owned(), variant),
    };
    (arch.to_owned(), variant)
}

fn is_known_os(os: &str) -> bool {
    matches!(
        os,
        "aix"
            | "android"
            | "darwin"
            | "dragonfly"
            | "freebsd"
            | "illumos"
            | "ios"
            | "js"
            | "linux"
            | "macos"
            | "netbsd"
            | "openbsd"
            | "plan9"
            | "solaris"
            | "wasip1"
            | "windows"
    )
}

fn is_known_arch(arch: &str) -> bool {
    matches!(
        arch,
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mips64"
            | "mips64le"
            | "mipsle"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive() {
        let text = format!(
            r#"{{"mediaType":"x/y","digest":"{}","size":3,"platform":{{"architecture":"arm","os":"linux","new":1}},"other":[1]}}"#,
            Digest::of(b"abc")
        );
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&descriptor).unwrap(), text);
    }

    #[test]
    fn platforms() {
        for (text, shown) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/ARMHF", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "linux/", "a/b/c/d", "linux/am d64", "nonsense"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
        let machine = Platform::parse("linux/amd64/v3").unwrap();
        assert!(Platform::parse("linux/amd64").unwrap().satisfies(&machine));
        assert!(!machine.satisfies(&Platform::parse("linux/amd64").unwrap()));
        assert!(!Platform::parse("linux/arm64").unwrap().satisfies(&machine));
    }
}
