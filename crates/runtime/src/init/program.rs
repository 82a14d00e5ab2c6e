//! The program: looked up by the process's own user, with the words of Go's `os/exec`, which clients know.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::spec::Process;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::{clone, mount};

use crate::error::Stage;
use crate::failure::{Failure, Step, plain};

/// What is going to be executed.
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Finds `args[0]` like a shell: in `PATH` of the process's environment, unless it has a slash.
    pub(super) fn find(process: &Process, environment: &[String]) -> Step<Self> {
        let name = process.args.first().map(String::as_str).unwrap_or_default();
        let path = look_up(name, environment).map_err(|(errno, text)| Failure {
            stage: Stage::Program,
            message: format!("exec: {name:?}: {text}"),
            errno: Some(errno.raw_os_error()),
        })?;
        let c_string =
            |text: &[u8]| CString::new(text).map_err(|_| Failure::new(Stage::Program, "an argument has a NUL byte"));
        Ok(Self {
            path: c_string(path.as_os_str().as_bytes())?,
            arguments: process.args.iter().map(|text| c_string(text.as_bytes())).collect::<Step<_>>()?,
            environment: environment.iter().map(|text| c_string(text.as_bytes())).collect::<Step<_>>()?,
        })
    }

    /// Becomes it. What cannot be executed after all says so on standard error, as the caller is not there any more.
    pub(super) fn execute(self, extra: &[OwnedFd]) -> i32 {
        let mut descriptors = vec![rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        descriptors.extend(extra.iter().map(AsFd::as_fd));
        if !extra.is_empty()
            && let Err(error) = clone::place_descriptors(&descriptors)
        {
            return complain(&format!("dup2: {}", plain(&error)), 1);
        }
        clone::reset_signals();
        let error = clone::execute(&self.path, &self.arguments, &self.environment);
        complain(&format!("exec {}: {}", self.path.to_string_lossy(), plain(&error)), 1)
    }
}

/// Writes a sentence to standard error.
pub(super) fn complain(message: &str, code: i32) -> i32 {
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{message}\n").as_bytes());
    code
}

/// The environment, with `HOME` of the user when it is not there.
pub(super) fn environment(process: &Process) -> Vec<String> {
    let mut environment = process.env.clone();
    let has_home = environment.iter().any(|entry| entry.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()));
    if !has_home {
        environment.retain(|entry| !entry.starts_with("HOME="));
        environment.push(format!("HOME={}", home(process.user.uid)));
    }
    environment
}

/// What of `/etc/passwd` is read.
const MAX_USERS: u64 = 4 << 20;

/// `/etc/passwd`, if that is a file as any other: the image could have put a fifo there, on which this would wait for
/// ever, a device without end, or a link to a file of the kernel's.
fn users() -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/etc/passwd", flags, Mode::empty())?;
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile;
    if !is_file || mount::filesystem_magic(file.as_fd())? == mount::PROC_MAGIC {
        return Err(Errno::INVAL.into());
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(MAX_USERS).read_to_end(&mut text)?;
    Ok(text)
}

/// The home directory by the container's `/etc/passwd`.
fn home(uid: u32) -> String {
    let users = users().unwrap_or_default();
    let users = String::from_utf8_lossy(&users);
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?.parse::<u32>().ok()?;
        (id == uid).then(|| fields.nth(2).unwrap_or_default().to_owned())
    });
    found.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".into())
}

type NotFound = (Errno, String);

fn look_up(name: &str, environment: &[String]) -> Result<PathBuf, NotFound> {
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| name.into()).map_err(|error| match error {
            Unusable::Stat(errno) => (errno, format!("stat {name}: {}", plain(&errno.into()))),
            Unusable::Directory => (Errno::ISDIR, "is a directory".into()),
            Unusable::Permission => (Errno::ACCESS, "permission denied".into()),
        });
    }
    // The last entry of a name wins, as in Go.
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    for directory in path.split(':').filter(|_| !path.is_empty()) {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(OsStr::new(name));
        if !name.is_empty() && executable(&candidate).is_ok() {
            if !candidate.is_absolute() {
                let text = "cannot run executable found relative to current directory".to_owned();
                return Err((Errno::ACCESS, text));
            }
            return Ok(candidate);
        }
    }
    Err((Errno::NOENT, "executable file not found in $PATH".into()))
}

enum Unusable {
    Stat(Errno),
    Directory,
    Permission,
}

fn executable(path: &Path) -> Result<(), Unusable> {
    let stat = rustix::fs::stat(path).map_err(Unusable::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Unusable::Directory);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // Old kernels cannot check for the effective user; then the bits decide.
        Err(Errno::NOSYS | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        Err(_) => Err(Unusable::Permission),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_go() {
        let environment = ["PATH=/nowhere:/bin:/usr/bin".to_owned()];
        assert_eq!(look_up("sh", &environment).unwrap(), Path::new("/bin/sh"));
        assert_eq!(look_up("no-such", &environment).unwrap_err().1, "executable file not found in $PATH");
        assert_eq!(look_up("/no/such", &environment).unwrap_err().1, "stat /no/such: no such file or directory");
        assert_eq!(look_up("/etc", &environment).unwrap_err().1, "is a directory");
        assert_eq!(look_up("/etc/passwd", &environment).unwrap_err().1, "permission denied");
        assert_eq!(look_up("sh", &[]).unwrap_err().1, "executable file not found in $PATH");
    }
}
