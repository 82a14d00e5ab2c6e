//! The program's own file, out of reach of containers (CVE-2019-5736).
//!
//! A process on its way into a container still runs this program: by `/proc/PID/exe`, or by an image whose program is
//! `#!/proc/self/exe`, a container gets a descriptor of the host's binary, and as root could write to it once nobody
//! executes it. So the program executes itself again from a read-only mount of its own file that is attached nowhere:
//! the descriptor leads to that mount, and nothing in any namespace can make it writable.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use sys::mount::{self, Attributes};
use sys::{clone, path};

/// Executes this program again from a read-only mount of its file, with the same arguments and environment, unless
/// that is where it comes from. To be called before there are threads, by whoever makes containers.
///
/// Returns without having done it when it is not needed or not possible (without privilege, without `/proc`): the
/// error then says why, and is no reason to stop.
pub fn protect_program() -> io::Result<()> {
    let own = Path::new("/proc/self/exe");
    if rustix::fs::statvfs(own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        restore_name();
        return Ok(());
    }
    let tree = mount::clone_path(own, false)?;
    mount::set_attributes(tree.as_fd(), Attributes { set: Attributes::READ_ONLY, clear: 0 }, false)?;
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| io::Error::from(rustix::io::Errno::INVAL));
    let arguments = std::env::args_os().map(|word| c_string(word.into_vec())).collect::<io::Result<Vec<_>>>()?;
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        c_string([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    let environment = std::env::vars_os().map(variable).collect::<io::Result<Vec<_>>>()?;
    let program = mount::c_path(&path::of_descriptor(tree.as_fd()))?;
    Err(clone::execute(&program, &arguments, &environment))
}

/// A program that was executed by descriptor is called by its number in `ps`.
fn restore_name() {
    let is_number = rustix::thread::name().is_ok_and(|name| name.to_bytes().iter().all(u8::is_ascii_digit));
    let own = std::env::args_os().next().and_then(|word| Path::new(&word).file_name()?.to_str().map(str::to_owned));
    if let (true, Some(own)) = (is_number, own) {
        let _ = sys::process::set_name(&own);
    }
}
