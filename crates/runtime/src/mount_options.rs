//! Mount options as words, sorted into what the kernel takes in different places.
//!
//! `ro` of a bind mount is an attribute of that mount; of a new file system it is one of the file system too. Words
//! that are none of these are the file system's own and go to it as they are.

use sys::mount::{Attributes, Propagation};

/// The options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `bind` or `rbind`; the flag says which.
    pub(crate) bind: Option<Bind>,
    /// Attributes of the mount itself.
    pub(crate) attributes: Attributes,
    /// Attributes of it and all mounts below (`rro`, …).
    pub(crate) recursive: Attributes,
    /// Propagation changes in order; the flag says whether of all mounts below too.
    pub(crate) propagation: Vec<(Propagation, bool)>,
    /// Copy what the mount covers into the new tmpfs.
    pub(crate) copy_up: bool,
    /// Translate ids; the flag says whether of all mounts below too.
    pub(crate) id_mapped: Option<bool>,
    /// Change the mount that is there already.
    pub(crate) remount: bool,
    /// Flags of the file system (`sync`, …), as fsconfig(2) names them.
    pub(crate) filesystem: Vec<String>,
    /// The file system's own options.
    pub(crate) data: Vec<String>,
}

/// Kind of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    /// The mount alone.
    Alone,
    /// And all below it.
    Recursive,
}

impl MountOptions {
    /// Whether the mount was asked to be read-only.
    pub(crate) fn read_only(&self) -> bool {
        self.attributes.set & Attributes::READ_ONLY != 0
    }

    /// Sorts the words. An option that contradicts an earlier one replaces it.
    pub(crate) fn parse<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut options = Self::default();
        for word in words {
            let word = word.as_ref();
            if word.is_empty() || IGNORED.contains(&word) {
                continue;
            }
            match word {
                "bind" => options.bind = options.bind.or(Some(Bind::Alone)),
                "rbind" => options.bind = Some(Bind::Recursive),
                "tmpcopyup" => options.copy_up = true,
                "idmap" => options.id_mapped = Some(false),
                "ridmap" => options.id_mapped = Some(true),
                "remount" => options.remount = true,
                _ => options.parse_flag(word),
            }
        }
        options
    }

    fn parse_flag(&mut self, word: &str) {
        if let Some((_, clears, bits)) = ATTRIBUTES.iter().find(|(name, ..)| *name == word) {
            change(&mut self.attributes, *clears, *bits);
        } else if let Some((_, clears, bits)) =
            word.strip_prefix('r').and_then(|rest| ATTRIBUTES.iter().find(|(name, ..)| *name == rest))
        {
            change(&mut self.recursive, *clears, *bits);
        } else if let Some((_, propagation, recursive)) = PROPAGATION.iter().find(|(name, ..)| *name == word) {
            self.propagation.push((*propagation, *recursive));
        } else if let Some((set, _)) = FILESYSTEM.iter().find(|(set, clear)| *set == word || *clear == Some(word)) {
            self.filesystem.retain(|earlier| earlier != set);
            if word == *set || self.remount {
                self.filesystem.push(word.to_owned());
            }
        } else {
            self.data.push(word.to_owned());
        }
    }
}

/// Access times are one field of three values, which is cleared as a whole before one is set.
fn change(attributes: &mut Attributes, clears: bool, bits: u64) {
    let time = bits & Attributes::ATIME != 0 || bits == RELATIVE_TIME;
    if time {
        attributes.clear |= Attributes::ATIME;
        attributes.set &= !Attributes::ATIME;
    }
    if bits == RELATIVE_TIME {
        return;
    }
    if clears {
        attributes.set &= !bits;
        attributes.clear |= bits;
    } else {
        attributes.set |= bits;
        if !time {
            attributes.clear &= !bits;
        }
    }
}

/// Relative access times are the absence of the other bits.
const RELATIVE_TIME: u64 = 0;

/// Word, whether it clears, bits. With a leading `r` each is about all mounts below too.
const ATTRIBUTES: &[(&str, bool, u64)] = &[
    ("ro", false, Attributes::READ_ONLY),
    ("rw", true, Attributes::READ_ONLY),
    ("nosuid", false, Attributes::NO_SUID),
    ("suid", true, Attributes::NO_SUID),
    ("nodev", false, Attributes::NO_DEV),
    ("dev", true, Attributes::NO_DEV),
    ("noexec", false, Attributes::NO_EXEC),
    ("exec", true, Attributes::NO_EXEC),
    ("nodiratime", false, Attributes::NO_DIR_ATIME),
    ("diratime", true, Attributes::NO_DIR_ATIME),
    ("noatime", false, Attributes::NO_ATIME),
    ("atime", true, Attributes::NO_ATIME),
    ("strictatime", false, Attributes::STRICT_ATIME),
    ("nostrictatime", true, Attributes::STRICT_ATIME),
    ("relatime", false, RELATIVE_TIME),
    ("norelatime", false, RELATIVE_TIME),
    ("nosymfollow", false, Attributes::NO_SYMLINK_FOLLOW),
    ("symfollow", true, Attributes::NO_SYMLINK_FOLLOW),
];

const PROPAGATION: &[(&str, Propagation, bool)] = &[
    ("shared", Propagation::Shared, false),
    ("rshared", Propagation::Shared, true),
    ("slave", Propagation::Slave, false),
    ("rslave", Propagation::Slave, true),
    ("private", Propagation::Private, false),
    ("rprivate", Propagation::Private, true),
    ("unbindable", Propagation::Unbindable, false),
    ("runbindable", Propagation::Unbindable, true),
];

/// Flags of file systems, and what takes each back. A new file system has none, so the latter matter to a remount only.
const FILESYSTEM: &[(&str, Option<&str>)] =
    &[("sync", Some("async")), ("dirsync", None), ("lazytime", Some("nolazytime")), ("mand", Some("nomand"))];

/// Words for what is so anyway: version numbers of inodes and access lists come with the file system, and fsconfig(2)
/// gives its messages to the caller instead of the kernel's log, which `silent` and `loud` are about.
const IGNORED: &[&str] = &["defaults", "silent", "loud", "iversion", "noiversion", "acl", "noacl"];

/// `shared`, `rslave`, … as of `linux.rootfsPropagation`.
pub(crate) fn propagation(word: &str) -> Option<(Propagation, bool)> {
    PROPAGATION.iter().find(|(name, ..)| *name == word).map(|(_, propagation, recursive)| (*propagation, *recursive))
}

/// Every word that has a meaning here, sorted.
pub(crate) fn all_words() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(word, ..)| [(*word).to_owned(), format!("r{word}")]);
    let propagation = PROPAGATION.iter().map(|(word, ..)| *word);
    let more = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"].into_iter();
    let flags = FILESYSTEM.iter().flat_map(|(set, clear)| [Some(*set), *clear]).flatten();
    let plain = propagation.chain(flags).chain(IGNORED.iter().copied()).chain(more);
    let mut words: Vec<String> = attributes.chain(plain.map(str::to_owned)).collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_where_they_belong() {
        let parsed = MountOptions::parse(["rbind", "ro", "rnosuid", "rprivate", "size=64k", "sync", "defaults"]);
        assert_eq!(parsed.bind, Some(Bind::Recursive));
        assert!(parsed.read_only());
        assert_eq!(parsed.recursive.set, Attributes::NO_SUID);
        assert_eq!(parsed.propagation, [(Propagation::Private, true)]);
        assert_eq!(parsed.data, ["size=64k"]);
        assert_eq!(parsed.filesystem, ["sync"]);
    }

    #[test]
    fn the_last_word_wins() {
        let parsed = MountOptions::parse(["ro", "noexec", "rw", "exec"]);
        assert_eq!(parsed.attributes.set, 0);
        assert_eq!(parsed.attributes.clear, Attributes::READ_ONLY | Attributes::NO_EXEC);
        let parsed = MountOptions::parse(["noatime", "strictatime"]);
        assert_eq!(parsed.attributes, Attributes { set: Attributes::STRICT_ATIME, clear: Attributes::ATIME });
        let parsed = MountOptions::parse(["strictatime", "relatime"]);
        assert_eq!(parsed.attributes, Attributes { set: 0, clear: Attributes::ATIME });
    }

    #[test]
    fn every_word_of_runc_is_known() {
        let words = all_words();
        for word in [
            "acl async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noacl noatime nodev",
            "nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime",
            "rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime",
            "rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid",
            "rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable",
        ]
        .iter()
        .flat_map(|line| line.split(' '))
        {
            assert!(words.iter().any(|known| known == word), "{word}");
            assert!(MountOptions::parse([word]).data.is_empty(), "{word} goes to no file system");
        }
        let taken_back = MountOptions::parse(["sync", "lazytime", "async"]);
        assert_eq!(taken_back.filesystem, ["lazytime"]);
    }

    #[test]
    fn relatime_is_not_recursive_elatime() {
        let parsed = MountOptions::parse(["relatime", "rrelatime", "rw", "rrw", "ro", "rro"]);
        assert!(parsed.data.is_empty(), "{parsed:?}");
    }
}
