//! One mount as the parts of Gantry hand it to each other: the store says what a root filesystem is made of,
//! the runtime mounts it inside the container's mount namespace.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A mount to be made, in the words of mount(2).
///
/// For `overlay`, the lower directories are listed from the uppermost down as repeated `lowerdir+=PATH` options: one
/// `fsconfig` call each, so that their number is not limited by the page that mount(2) passes its options in. Whoever
/// has only mount(2) joins them with `:` into one `lowerdir=`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// File system type, e.g. `overlay` or `bind`.
    #[serde(rename = "type")]
    pub fstype: String,
    /// Device, directory or label, e.g. `overlay`.
    pub source: PathBuf,
    /// Where, relative to the root that is being built; empty or `/` is that root itself.
    #[serde(default)]
    pub target: PathBuf,
    /// Flags (`ro`, `nosuid`, …) and options of the file system (`upperdir=/x`).
    #[serde(default)]
    pub options: Vec<String>,
}

impl Mount {
    /// The values of all options `key=value` with this key, in order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.options.iter().filter_map(move |option| option.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_whole_keys() {
        let mount = Mount {
            options: vec!["lowerdir+=/a".into(), "lowerdir+=/b=c".into(), "ro".into(), "lowerdir=/x".into()],
            ..Mount::default()
        };
        assert_eq!(mount.values("lowerdir+").collect::<Vec<_>>(), ["/a", "/b=c"]);
        assert_eq!(mount.values("lowerdir").collect::<Vec<_>>(), ["/x"]);
    }
}
