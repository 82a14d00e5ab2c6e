//! Resource limits, which the process sets itself or, where its user namespace has taken the right to raise them, the
//! caller sets for it.

use oci::spec::Rlimit;
use rustix::io::Errno;
use rustix::process::Pid;
use sys::user;

use crate::error::{Error, Result, Stage};
use crate::failure::plain;

/// Sets the limits of the process `pid`, or of this one. `EPERM`: raising a hard limit needs `CAP_SYS_RESOURCE`.
pub(crate) fn set(pid: Option<Pid>, limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let Some(resource) = user::resource(&limit.kind) else { continue };
        let (soft, hard) = (limit.soft, limit.hard);
        user::set_limit(pid, resource, soft, hard).map_err(|error| {
            let errno = error.raw_os_error();
            let refused = errno == Some(Errno::PERM.raw_os_error());
            let hint = if refused { ", raising a hard limit needs CAP_SYS_RESOURCE" } else { "" };
            let message = format!(
                "error setting rlimits for ready process: error setting rlimit type {} ({} to {soft}:{hard}{hint}): {}",
                resource as u32,
                limit.kind,
                plain(&error)
            );
            Error::Start { stage: Stage::Security, message, errno }
        })?;
    }
    Ok(())
}
