//! Archives into a root whose owner does what it can against it.

mod support;

use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use store::archive::{ExtractOptions, extract, open_target};
use support::Tar;

/// Somebody in the container exchanges a directory for a link, over and over. What the link leads to by the host's own
/// paths must stay as it is.
#[test]
fn links_that_come_meanwhile_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let [root, outside] = ["root", "outside"].map(|name| dir.path().join(name));
    for path in [&root, &outside, &root.join("d")] {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let opened = std::fs::File::open(&root).unwrap();
    let tar = (0..200).fold(Tar::new(), |tar, _| tar.dir("d/", 0o777)).done();
    let stop = AtomicBool::new(false);
    let mut done = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let [directory, other] = ["d", "other"].map(|name| root.join(name));
            while !stop.load(Ordering::Relaxed) {
                symlink(&outside, &other).unwrap();
                for _ in 0..2 {
                    let _ = renameat_with(CWD, &directory, CWD, &other, RenameFlags::EXCHANGE);
                }
                // A directory where the archive was unpacked in between, and made another.
                let _ = std::fs::remove_file(&other).or_else(|_| std::fs::remove_dir(&other));
            }
        });
        for _ in 0..200 {
            let target = open_target(opened.as_fd(), "/").unwrap();
            // Whether it works depends on what was there at which moment.
            done += usize::from(extract(target, &tar[..], ExtractOptions::default()).is_ok());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(outside), 0o700, "{done} archives were unpacked");
}
