//! `OS[/ARCH[/VARIANT]]`, as `--platform` takes it.

use oci::ImageConfig;

use crate::error::{Error, Result};

fn normal(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "386",
        "armhf" | "armel" => "arm",
        other => other,
    }
}

fn valid(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Fails with dockerd's sentence when an image is not for the platform that was asked for.
pub(crate) fn matches(wanted: &str, image: &ImageConfig, name: &str) -> Result<()> {
    let parts: Vec<&str> = wanted.split('/').collect();
    if let Some(bad) = parts.iter().find(|part| !valid(part)) {
        return Err(Error::invalid(format!(
            "{bad:?} is an invalid OS component of {wanted:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$\": invalid argument"
        )));
    }
    let (os, architecture, variant) = match parts[..] {
        // A single word is an operating system or an architecture.
        [one] if matches!(one, "linux" | "windows" | "darwin" | "freebsd") => {
            (one, crate::system::architecture(), None)
        }
        [one] => ("linux", normal(one), None),
        [os, architecture] => (os, normal(architecture), None),
        [os, architecture, variant] => (os, normal(architecture), Some(variant)),
        _ => {
            return Err(Error::invalid(format!("{wanted:?}: cannot parse platform specifier: invalid argument")));
        }
    };
    let same_variant = variant.is_none_or(|v| image.variant == v || (image.variant.is_empty() && v == "v8"));
    if image.os == os && image.architecture == architecture && same_variant {
        return Ok(());
    }
    let actual = format!("{}/{}", image.os, image.architecture);
    let actual = if image.variant.is_empty() { actual } else { format!("{actual}/{}", image.variant) };
    Err(Error::not_found(format!(
        "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {actual}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_compared() {
        let image = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        for same in ["linux/amd64", "linux/x86_64", "amd64"] {
            matches(same, &image, "busybox").unwrap();
        }
        assert_eq!(
            matches("linux/s390x", &image, "busybox").unwrap_err().message(),
            "image with reference busybox was found but does not match the specified platform: wanted linux/s390x, actual: linux/amd64"
        );
        assert_eq!(matches("lin@ux", &image, "b").unwrap_err().kind(), crate::Kind::InvalidParameter);
    }
}
