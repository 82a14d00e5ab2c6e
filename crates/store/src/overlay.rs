//! Overlay, as far as this kernel and file system have it: how directories say that they hide what is below, and whether
//! stacks of them can be mounted here at all.
//!
//! | where | opaque directories | mount option |
//! |---|---|---|
//! | the machine's root | `trusted.overlay.opaque` | |
//! | root of a user namespace, who must not write `trusted.*` | `user.overlay.opaque` | `userxattr` |
//!
//! What is removed is a character device 0:0 in both cases, which a user namespace may make since Linux 5.8.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::tree;

/// Which attribute marks an opaque directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Written by root of the machine only, so no container can forge it.
    #[default]
    Trusted,
    /// For user namespaces.
    User,
}

impl Marks {
    /// Those that can be written below this directory.
    pub(crate) fn of(dir: &Path) -> Self {
        // Whether it may be written is asked by writing: the answer is the kernel's, not ours.
        let set = rustix::fs::lsetxattr(dir, "trusted.overlay.probe", b"y", XattrFlags::empty());
        if set.is_ok() {
            let _ = rustix::fs::lremovexattr(dir, "trusted.overlay.probe");
        }
        if set == Err(rustix::io::Errno::PERM) { Self::User } else { Self::Trusted }
    }

    /// The name of the attribute.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// Lets nothing below this directory show through.
    pub(crate) fn set_opaque(self, dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
        tree::set_xattr(dir, name, self.name().as_bytes(), b"y")
    }

    /// Does nothing below this directory show through?
    pub(crate) fn is_opaque(self, dir: impl AsFd, name: &[u8]) -> bool {
        self.is_opaque_at(tree::fd_path(dir.as_fd(), name))
    }

    /// The same of a path on the host.
    pub(crate) fn is_opaque_at(self, path: impl rustix::path::Arg) -> bool {
        let mut value = [0; 2];
        rustix::fs::lgetxattr(path, self.name(), &mut value[..]) == Ok(1) && value[0] == b'y'
    }

    /// Do these attributes, which a layer's tar gives a directory, mark it in overlay's own spelling?
    pub(crate) fn are_opaque<'a>(mut xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
        let names = [Self::Trusted, Self::User].map(|marks| marks.name().as_bytes());
        xattrs.any(|(key, value)| names.contains(&key) && value == b"y")
    }
}

/// The options of every overlay here, beside its directories.
pub(crate) fn options(marks: Marks) -> Vec<String> {
    // The upper directory alone must tell what changed, whatever the kernel's defaults are. With its marks for user
    // namespaces overlay never redirects, and refuses to be told so.
    let last = if marks == Marks::User { "userxattr" } else { "redirect_dir=off" };
    ["index=off", "metacopy=off", last].map(str::to_owned).to_vec()
}

/// Mounts an overlay that is attached nowhere. Its lower directories come as `lowerdir+=`, one by one, so that they may
/// have any name and be many.
pub(crate) fn mount(options: &[String]) -> Result<OwnedFd, sys::mount::Error> {
    let plus = |options: &[String]| sys::mount::new_filesystem("overlay", Path::new("overlay"), options, false, 0);
    plus(options).or_else(|error| {
        // Before Linux 6.5 there is one option for all lower directories. They are no longer than a page for a few layers.
        let (lower, mut rest): (Vec<String>, Vec<String>) =
            options.iter().cloned().partition(|option| option.starts_with("lowerdir+="));
        let lower: Vec<&str> = lower.iter().filter_map(|option| option.strip_prefix("lowerdir+=")).collect();
        rest.insert(0, format!("lowerdir={}", lower.join(":")));
        plus(&rest).map_err(|_| error)
    })
}

/// Can an overlay be mounted whose directories are in here? It is tried, with a mount that is attached nowhere.
pub(crate) fn is_possible(dir: &Path, marks: Marks) -> bool {
    let parts = ["lower", "upper", "work"].map(|name| dir.join(name));
    let made = parts.iter().all(|part| fs::create_dir(part).is_ok());
    let [lower, upper, work] = parts.each_ref().map(|part| part.display().to_string());
    let mut all = vec![format!("lowerdir+={lower}"), format!("upperdir={upper}"), format!("workdir={work}")];
    all.extend(options(marks));
    let mount = mount(&all);
    // A kernel may accept the directories and then find that nothing can be written there.
    let is_writable =
        mount.as_ref().is_ok_and(|mount| rustix::fs::mkdirat(mount, "probe", rustix::fs::Mode::RWXU).is_ok());
    if let Err(error) = &mount {
        tracing::warn!(%error, dir = %dir.display(), "no overlay can be mounted here: images are copied for each container");
    }
    drop(mount);
    let _ = fs::remove_dir_all(dir);
    made && is_writable
}
