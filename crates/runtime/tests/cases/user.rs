//! A real account without privileges, that exists for one bundle alone: its programs run with an id of its own and no
//! capability, in a mount namespace where the files that list accounts know it.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::support::{Bundle, Output, runtime};

/// How many ids each account has been given, beside its own.
pub(crate) const GIVEN: u32 = 4096;

/// A place for the ids of an account that no other test has, of this program or of one that runs at the same time.
fn place() -> u32 {
    static FIRST: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = FIRST.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    u32::try_from(number % 0x8_0000).unwrap()
}

/// A bundle that belongs to an account.
pub(crate) struct User {
    bundle: Bundle,
    /// User and group.
    pub(crate) id: u32,
    /// The first of the ids that `/etc/subuid` and `/etc/subgid` give it.
    pub(crate) given: u32,
    /// Where its session keeps what ends with it.
    pub(crate) session: PathBuf,
    /// Run as root first, in the mount namespace, by a shell.
    pub(crate) before: String,
}

impl User {
    /// With the configuration of [`Bundle::new`], for a user namespace with the account's own id alone.
    pub(crate) fn new(name: &str) -> Self {
        let place = place();
        let (id, given) = (0x1000_0000 + place, 0x4000_0000 + place * GIVEN);
        let mut bundle = Bundle::new(name);
        fs::set_permissions(&bundle.directory, fs::Permissions::from_mode(0o755)).unwrap();
        let etc = bundle.directory.join("etc");
        fs::create_dir(&etc).unwrap();
        let add = |file: &str, line: String| {
            let known = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
            fs::write(etc.join(file), format!("{known}{line}\n")).unwrap();
        };
        add("passwd", format!("gantry-test:x:{id}:{id}::/nonexistent:/bin/sh"));
        add("group", format!("gantry-test:x:{id}:"));
        add("subuid", format!("gantry-test:{given}:{GIVEN}"));
        add("subgid", format!("gantry-test:{given}:{GIVEN}"));
        let session = bundle.directory.join("session");
        for directory in ["session", "state"] {
            fs::create_dir(bundle.directory.join(directory)).unwrap();
        }
        bundle.set("/linux/cgroupsPath", json!(""));
        bundle.set("/linux/resources", json!({}));
        bundle.push("/linux/namespaces", json!({"type": "user"}));
        let own = json!([{"containerID": 0, "hostID": id, "size": 1}]);
        bundle.set("/linux/uidMappings", own.clone()).set("/linux/gidMappings", own);
        // Group 5, of terminals, is not mapped.
        let devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        bundle.set("/mounts/2/options", json!(devpts));
        let user = Self { bundle, id, given, session, before: String::new() };
        for name in ["rootfs", "session", "state"] {
            user.own(&user.directory.join(name));
        }
        user
    }

    /// The id of the bundle's container.
    pub(crate) fn id_of_container(&self) -> String {
        self.bundle.id.clone()
    }

    /// Gives the account a file, or a directory with what is in it.
    pub(crate) fn own(&self, path: &Path) {
        let status = Command::new("chown").arg("-Rh").arg(format!("{0}:{0}", self.id)).arg(path).status();
        assert!(status.unwrap().success());
    }

    /// Living processes with the account's id, or with one that it was given.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let ours = |uid: u32| uid == self.id || (self.given..self.given + GIVEN).contains(&uid);
        let is_ours = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let uid =
                status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
            uid.is_some_and(ours) && sys::process::is_alive(*pid).unwrap_or(false)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
    }

    /// A directory of the account's.
    pub(crate) fn own_directory(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(self.id), Some(self.id)).unwrap();
        path
    }

    /// A program where every account can execute it. The name of a file keeps what it is known by.
    pub(crate) fn public(&self, program: &Path) -> PathBuf {
        if program.components().count() == 1 {
            return program.to_owned();
        }
        let directory = self.directory.join("bin");
        fs::create_dir_all(&directory).unwrap();
        let copy = directory.join(program.file_name().unwrap());
        if !copy.exists() && fs::hard_link(program, &copy).is_err() {
            crate::support::copy_program(program, &copy);
        }
        copy
    }

    /// A command of the account, in the directory of the bundle.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let id = self.id;
        let switch = format!("exec setpriv --reuid={id} --regid={id} --clear-groups -- \"$@\"");
        let accounts = "mount -t overlay accounts -o \"lowerdir=$0:/etc\" /etc";
        let script = format!("set -e\n{accounts}\n{}\n{switch}", self.before);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", &script]).arg(self.bundle.directory.join("etc")).arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("XDG_RUNTIME_DIR", &self.session);
        command.current_dir(&self.bundle.directory).stdin(Stdio::null());
        command
    }

    /// The runtime, as it is without a word.
    pub(crate) fn bare_runtime(&self) -> Command {
        self.runtime_within(&[])
    }

    /// The runtime, executed by a program that is given these words before.
    pub(crate) fn runtime_within(&self, program: &[&str]) -> Command {
        let given = runtime();
        let own = self.public(Path::new(given.get_program()));
        let mut command = match program.split_first() {
            None => self.command(&own),
            Some((program, words)) => {
                let mut command = self.command(Path::new(program));
                command.args(words).arg(own);
                command
            }
        };
        command.args(given.get_args());
        command
    }

    /// The runtime with the state directory of the bundle, so that the bundle's own calls as root find the container.
    pub(crate) fn runtime(&self) -> Command {
        let mut command = self.bare_runtime();
        command.arg("--root").arg(self.state_root());
        command
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.bundle.directory.join("state")
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        output(self.runtime().args(arguments))
    }

    pub(crate) fn run(&self) -> Output {
        self.write();
        self.call(&["run", &self.bundle.id])
    }

    pub(crate) fn exec(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["exec", &self.bundle.id];
        all.extend(arguments);
        self.call(&all)
    }

    /// `run --detach`, with the container's output in the file that [`Bundle::output`] reads.
    #[track_caller]
    pub(crate) fn detach(&self) {
        self.write();
        let log = fs::File::create(self.bundle.directory.join("output")).unwrap();
        let mut command = self.runtime();
        command.args(["run", "--detach", &self.bundle.id]).stdout(log.try_clone().unwrap()).stderr(log);
        let code = command.status().unwrap().code();
        assert_eq!(code, Some(0), "{}", self.bundle.output());
    }
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What a runtime has left of the account's processes goes with it.
impl Drop for User {
    fn drop(&mut self) {
        for _ in 0..100 {
            let left = self.processes();
            left.iter().for_each(|pid| drop(sys::pidfd::send_signal_to(*pid, 9)));
            if left.is_empty() {
                break;
            }
        }
    }
}

impl Deref for User {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.bundle
    }
}

impl DerefMut for User {
    fn deref_mut(&mut self) -> &mut Bundle {
        &mut self.bundle
    }
}
