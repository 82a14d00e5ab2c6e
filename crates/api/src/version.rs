//! Versions of the Engine API and what a request's version allows.

use std::fmt;

/// A version of the API, `MAJOR.MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Always 1 so far.
    pub major: u16,
    /// Counts up with every change.
    pub minor: u16,
}

impl Version {
    /// The newest version that is served: Docker 28.2's.
    pub const LATEST: Self = Self::new(1, 50);
    /// The oldest version that is served.
    pub const OLDEST: Self = Self::new(1, 24);

    /// Version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether it is older than `1.minor`, for the rules of the form "before 1.44 …".
    pub const fn before(self, minor: u16) -> bool {
        self.major < 1 || (self.major == 1 && self.minor < minor)
    }

    /// Reads `1.45`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        Some(Self::new(number(major)?, number(minor)?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_number_not_by_text() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("1.9") < version("1.24"));
        assert!(version("1.43").before(44) && !version("1.44").before(44));
        assert_eq!(version("1.50").to_string(), "1.50");
        for bad in ["1", "1.", ".5", "1.x", "1.-4", "v1.5", "1.5.6"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
